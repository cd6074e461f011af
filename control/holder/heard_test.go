package holder

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// Whom a holder hears: daemons of its user and of its namespace.

func TestRefusesOthers(t *testing.T) {
	l := newLab(t)
	h := l.open()
	h.Put(Owner, -1, owner)
	r := l.pipe(h, "one")
	h.Close()

	c, err := dial(l.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	send(c, hello, -1, "99")
	if m, err := receive(c, make([]byte, maxMessage)); err != nil || m.kind != refuse || !strings.Contains(m.field(0), "version 1") {
		t.Errorf("version 99 is answered by %+v, %v", m, err)
	}
	c.Close()

	// Who may connect is a matter of the directory; who is heard, of the user.
	for path, mode := range map[string]os.FileMode{l.dir: 0o755, filepath.Dir(l.dir): 0o755, filepath.Join(l.dir, SocketName): 0o666} {
		if fi, err := os.Stat(path); err != nil || filepath.Base(path) == SocketName && fi.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, fi, err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), strangerEnv+"="+l.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "not heard\n" {
		t.Errorf("another user: %v, %s", err, out)
	}
	h = l.open()
	l.taken(h, "one", r)
}

// A daemon of another namespace has no use for the devices of this one.
func TestAnotherNamespace(t *testing.T) {
	l := newLab(t)
	h := l.open()
	h.Put(Owner, -1, owner)
	r := l.pipe(h, "one")
	h.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), immigrantEnv+"="+l.dir)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := labtest.New(t, "other").Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || !strings.HasSuffix(out.String(), "found false\n") {
		t.Errorf("%v, %s", err, out.String())
	}
	l.ended(r)
	l.eventually("the holder of the other namespace has ended", func() bool { return !l.there() })
}

// The first thread of a daemon may be about something elsewhere, or for ever end there
// (runtime.LockOSThread): the daemon is where its other threads are.
func TestFirstThreadElsewhere(t *testing.T) {
	l := newLab(t)
	h := l.open()
	h.Put(Owner, -1, owner)
	r := l.pipe(h, "one")
	h.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), immigrantEnv+"="+l.dir, strayEnv+"=1")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.HasSuffix(string(out), "found true\n") {
		t.Errorf("%v, %s", err, out)
	}
	l.taken(l.open(), "one", r)
}

// A daemon in a container with this network has a run directory of the same name and a holder of
// its own, whose socket shows in proc_net_unix(5) as one that somebody has removed.
func TestAnotherRoot(t *testing.T) {
	l := newLab(t)
	cmd := exec.Command("unshare", "--mount", "sh", "-c", `mount -t tmpfs none "$0" && exec /proc/`+strconv.Itoa(os.Getpid())+`/exe`, l.dir)
	cmd.Env = append(os.Environ(), immigrantEnv+"="+l.dir)
	out, err := cmd.CombinedOutput()
	_, told, _ := strings.Cut(string(out), "holder ")
	pid, err2 := strconv.Atoi(strings.SplitN(told, "\n", 2)[0])
	if err != nil || err2 != nil {
		t.Fatalf("%v, %v, %s", err, err2, out)
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	h := l.open()
	h.Put(Owner, -1, owner)
	l.started(h)
	if args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); err != nil || string(args) != CommandLine { // empty once it has ended
		t.Errorf("the other's holder: %q, %v", args, err)
	}
}
