package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// dockerLab is a dockerd beside a vswitch daemon on the host of a World. It lives
// in PID and mount namespaces of its own, so that its containers end with the
// test, however that ends, and its bind mounts of their namespaces are nowhere the
// switch could see them.
type dockerLab struct {
	*rig
	box     *exec.Cmd // the first process of the namespaces
	boxIn   io.Closer // while it is open they live
	root    string    // of dockerd's data
	cgroup  string
	flags   []string // of dockerd, beside what the laboratory needs
	dockerd *exec.Cmd
	ended   chan struct{} // by dockerd
	out     lockedBuffer
}

// dockerImage has busybox and a page to serve.
const dockerImage = "busybox:vswitch"

func newDockerLab(t testing.TB, flags ...string) *dockerLab {
	t.Helper()
	for _, program := range []string{"dockerd", "containerd", "runc", "docker", "busybox", "nsenter"} {
		labtest.NeedProgram(t, program)
	}
	labtest.NeedRoot(t)
	l := &dockerLab{rig: newRig(t, "--docker-socket", "on", "--log-level", "debug"), root: t.TempDir(), flags: flags,
		cgroup: fmt.Sprintf("/vswitch-test-%d", os.Getpid())}
	t.Setenv("DOCKER_HOST", "")
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	// dockerd writes a key into /etc/docker. bash, unlike dash, takes the children of
	// a killed dockerd off the kernel's hands while it reads: the next would wait for
	// a containerd that is dead.
	l.box = exec.Command("bash", "-c", `set -e
mount -t proc proc /proc
mkdir -p /run/etc/upper /run/etc/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work overlay /etc
echo ready; read end`)
	l.box.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	l.box.Stderr = &l.out
	in, err := l.box.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	l.boxIn = in
	out, err := l.box.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.world.Host.Start(l.box); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("namespaces for dockerd: %q, %v: %s", line, err, l.out.String())
	}
	l.startDocker()
	l.importImage()
	return l
}

func (l *dockerLab) close() {
	if l.dockerd != nil {
		l.stopDocker(unix.SIGTERM)
	}
	l.boxIn.Close()
	l.box.Wait() // and with it all that ran in there
	if l.t.Failed() {
		l.t.Logf("dockerd:\n%s", l.out.String())
	}
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*" + l.cgroup)
	for _, dir := range dirs {
		eventually(func() bool { return removeCgroup(dir) == nil })
	}
}

// removeCgroup removes a group and those in it; that there is none is no error.
func removeCgroup(dir string) error {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			removeCgroup(filepath.Join(dir, e.Name()))
		}
	}
	err := unix.Rmdir(dir)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// inside prepares a command in dockerd's namespaces.
func (l *dockerLab) inside(name string, arg ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"-t", fmt.Sprint(l.box.Process.Pid), "-p", "-m", "-n", "--", name}, arg...)...)
}

// startDocker starts dockerd without a network of its own.
func (l *dockerLab) startDocker() {
	l.t.Helper()
	l.dockerd = l.inside("dockerd", append([]string{
		"--data-root", l.root, "--storage-driver", "vfs", "--cgroup-parent", l.cgroup,
		"--bridge", "none", "--iptables=false", "--ip-forward=false", "--userland-proxy=false",
	}, l.flags...)...)
	l.dockerd.Stdout, l.dockerd.Stderr = &l.out, &l.out
	if err := l.dockerd.Start(); err != nil {
		l.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { l.dockerd.Wait(); close(ended) }()
	for range 2400 { // half a minute when it finds no plugin
		if l.tryDocker("version") == nil {
			l.ended = ended
			return
		}
		select {
		case <-ended:
			l.t.Fatalf("dockerd ended:\n%s", l.out.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
	l.t.Fatalf("dockerd does not answer:\n%s", l.out.String())
}

// stopDocker ends dockerd by a signal. nsenter only waits for it, in the
// namespace; its pid is in a file.
func (l *dockerLab) stopDocker(sig syscall.Signal) {
	pid, err := os.ReadFile("/run/docker.pid")
	if err != nil {
		l.t.Error(err)
		return
	}
	l.inside("kill", fmt.Sprintf("-%d", sig), strings.TrimSpace(string(pid))).Run()
	timer := time.AfterFunc(60*time.Second, func() { l.dockerd.Process.Kill() })
	<-l.ended
	timer.Stop()
	l.dockerd = nil
	os.Remove("/run/docker.pid") // a number that is another process's would stop the next one
}

func (l *dockerLab) importImage() {
	l.t.Helper()
	files := l.t.TempDir()
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		l.t.Fatal(err)
	}
	script := `set -e
cd "$1"; mkdir -p bin etc proc sys dev tmp www; cp "$2" bin/busybox
for name in $(bin/busybox --list); do [ $name = busybox ] || ln -s busybox bin/$name; done
echo 'root:x:0:0:root:/:/bin/sh' > etc/passwd; echo hello from a container > www/index.html
tar -c . | docker import -c 'CMD ["httpd","-f","-p","80","-h","/www"]' -c 'EXPOSE 80' - ` + dockerImage
	if out, err := exec.Command("sh", "-c", script, "sh", files, busybox).CombinedOutput(); err != nil {
		l.t.Fatalf("image: %v: %s", err, out)
	}
}

// tryDocker runs a docker command; the error is what it says.
func (l *dockerLab) tryDocker(args ...string) error {
	_, err := l.dockerOut(args...)
	return err
}

func (l *dockerLab) dockerOut(args ...string) (string, error) {
	var out, errOut bytes.Buffer
	cmd := exec.Command(dockerCLI(), args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("docker %s: %w: %s%s", strings.Join(args, " "), err, errOut.String(), out.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// dockerCLI is the client that came with dockerd: another one may refuse what the
// daemon would do.
func dockerCLI() string {
	if path := "/usr/bin/docker"; unix.Access(path, unix.X_OK) == nil {
		return path
	}
	return "docker"
}

// docker runs a docker command that has to succeed.
func (l *dockerLab) docker(args ...string) string {
	l.t.Helper()
	out, err := l.dockerOut(args...)
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

// up starts a container that serves its page. As first process busybox does not
// hear SIGTERM.
func (l *dockerLab) up(name, network string, args ...string) {
	l.t.Helper()
	l.docker(append(append([]string{"run", "-d", "--stop-signal", "KILL", "--name", name, "--network", network}, args...), dockerImage)...)
}

// get fetches a page in a container.
func (l *dockerLab) get(name, addr string) (string, error) {
	// busybox's wget needs what a static program does not have: the resolver's parts.
	host, port, ok := strings.Cut(addr, ":")
	if !ok {
		port = "80"
	}
	script := `printf 'GET / HTTP/1.0\r\nHost: page\r\n\r\n' | nc -w 3 "$1" "$2"`
	out, err := l.dockerOut("exec", name, "sh", "-c", script, "sh", host, port)
	_, page, _ := strings.Cut(out, "\r\n\r\n")
	if err == nil && page == "" {
		err = fmt.Errorf("no page: %q", out)
	}
	return page, err
}

const containerPage = "hello from a container"

func (l *dockerLab) wantGet(name, addr, want string) {
	l.t.Helper()
	if got, err := l.get(name, addr); got != want || err != nil {
		l.t.Errorf("page of %s from container %s: got %q, %v; want %q", addr, name, got, err, want)
	}
}
