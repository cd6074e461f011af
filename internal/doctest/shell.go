package doctest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vswitch/vswitch/internal/netlab"
)

// patience is how long one command may take.
const patience = time.Minute

// Shell is a bash in a network namespace, with a mount namespace of its own.
type Shell struct {
	t     testing.TB
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
	count int
}

// Start starts a shell that ends with the test. Its mount namespace is a copy of
// the test's; of each directory in private it has a version of its own, which
// begins with what is there (/run with nothing) and goes with the shell: what a
// document installs never reaches the machine. The test has to run in labtest's namespaces, where
// /run is its own, and as root. With private directories it also has processes of
// its own, which all end with it: a daemon that is told their numbers has to be one
// of them.
func Start(t testing.TB, ns *netlab.NS, private ...string) *Shell {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "doc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &Shell{t: t, lines: make(chan string, 1024)}
	args := []string{"--mount", "--propagation", "private"}
	if len(private) > 0 {
		args = append(args, "--pid", "--fork", "--kill-child", "--mount-proc")
	}
	s.cmd = ns.Command("unshare", append(args, "bash", "--norc", "--noprofile", "/dev/fd/3")...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	// Not by standard input, which is the commands'.
	script, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer script.Close()
	s.cmd.ExtraFiles, s.in = []*os.File{script}, in
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Stderr = s.cmd.Stdout
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.lines)
		r := bufio.NewReader(out)
		for {
			line, err := r.ReadString('\n')
			if line != "" {
				s.lines <- line
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(s.end)
	for i, path := range private {
		if path == "/run" {
			continue
		}
		at := fmt.Sprintf("%s/%d", dir, i)
		s.Must(fmt.Sprintf("mkdir -p %[2]s && mkdir -p %[1]s/upper %[1]s/work && mount -t overlay overlay -o lowerdir=%[2]s,upperdir=%[1]s/upper,workdir=%[1]s/work %[2]s", at, path))
	}
	if slices.Contains(private, "/run") { // last: what the others are kept in is below
		s.Must("mount -t tmpfs -o mode=755 tmpfs /run")
	}
	return s
}

// end ends the shell, and with its process namespace everything that it started;
// without one, what is still in its session.
func (s *Shell) end() {
	s.in.Close()
	syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	for range s.lines { // Wait must not close the pipe under the reader
	}
	s.cmd.Wait()
}

// Do types a command and returns what it and its background jobs wrote until it
// was done.
func (s *Shell) Do(command string) (output string, code int) {
	s.t.Helper()
	s.count++
	mark := fmt.Sprintf("--doctest-%d--", s.count)
	if _, err := fmt.Fprintf(s.in, "%s\n{ code=$?; echo; echo '%s' $code; } 2>&1\n", command, mark); err != nil {
		s.t.Fatalf("the shell is gone: %v", err)
	}
	var b strings.Builder
	timeout := time.After(patience)
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				s.t.Fatalf("the shell ended at: %s\n%s", command, b.String())
			}
			if rest, is := strings.CutPrefix(line, mark); is {
				fmt.Sscan(rest, &code)
				return strings.TrimSuffix(b.String(), "\n"), code
			}
			b.WriteString(line)
		case <-timeout:
			s.t.Fatalf("not done within %v: %s\n%s", patience, command, b.String())
		}
	}
}

// Must types a command that has to succeed.
func (s *Shell) Must(command string) string {
	s.t.Helper()
	out, code := s.Do(command)
	if code != 0 {
		s.t.Fatalf("exit code %d: %s\n%s", code, command, out)
	}
	return out
}

// Document carries out a document. It stops at a script that fails, since what
// follows depends on it, and goes on after output that differs.
func (s *Shell) Document(file string) {
	s.t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		s.t.Fatal(err)
	}
	steps, err := Parse(string(text))
	if err != nil {
		s.t.Fatalf("%s: %v", file, err)
	}
	if len(steps) == 0 {
		s.t.Fatalf("%s has no block to carry out", file)
	}
	for _, step := range steps {
		out, code := s.Do(step.Command)
		switch {
		case step.Script && code != 0:
			s.t.Fatalf("%s:%d: exit code %d\n%s\n%s", file, step.Line, code, step.Command, out)
		case !step.Script && !Matches(step.Output, out):
			s.t.Errorf("%s:%d: # %s\nwant:\n%s\ngot:\n%s", file, step.Line, step.Command, step.Output, out)
		}
	}
}
