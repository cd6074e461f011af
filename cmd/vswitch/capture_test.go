package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestCaptureFile records an exchange in a file, as a person does: until ^C. It
// lets tshark judge the result where tshark is installed.
func TestCaptureFile(t *testing.T) {
	r := newRig(t)
	web := labtest.New(t, "web")
	ct := decode[api.Container](r, "attach", "web", "--netns", web.Path())
	addr := address(t, ct.Endpoints[0].Address)
	r.site(web, addr)

	file := filepath.Join(t.TempDir(), "web.pcapng")
	cmd := r.command("capture", "web", "-w", file)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.world.Host.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if line, err := readLine(stderr); line != "capturing web, Ctrl-C ends" {
		t.Fatalf("got %q, %v", line, err)
	}
	r.wantPage(r.world.Host, addr, "10.88.0.1")
	complete := func() bool {
		b, err := os.ReadFile(file)
		var lines bytes.Buffer
		return err == nil && printPackets(&lines, bytes.NewReader(b), false) == nil && strings.Count(lines.String(), "[F.]") == 2
	}
	if !eventually(complete) {
		t.Error("the end of the exchange is not in the file")
	}
	cmd.Process.Signal(unix.SIGINT)
	summary, _ := readLine(stderr)
	if code := wait(t, cmd); code != 0 || !strings.HasSuffix(summary, " packets captured, 0 dropped") {
		t.Errorf("got exit code %d, summary %q", code, summary)
	}

	labtest.NeedProgram(t, "tshark") // until here our own decoder has read the file
	// A field each: checksums by status (1 is good), the interface's name and
	// whether the frame is whole.
	out, err := exec.Command("tshark", "-n", "-r", file, "-Y", "tcp", "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE",
		"-T", "fields", "-e", "ip.checksum.status", "-e", "tcp.checksum.status", "-e", "frame.interface_name", "-e", "_ws.malformed").Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	lines := strings.Split(strings.TrimRight(string(out), "\n"), "\n")
	if len(lines) < 8 {
		t.Errorf("tshark sees %d TCP packets, want a whole exchange", len(lines))
	}
	for _, line := range lines {
		f := strings.Split(line, "\t")
		if len(f) != 4 || f[0] != "1" || f[1] != "1" || !strings.HasPrefix(f[2], "web") || f[3] != "" {
			t.Errorf("tshark: got %q, want good checksums on an interface of web", line)
		}
	}
}

// TestCaptureRefusesTerminal gives it a terminal for its standard output.
func TestCaptureRefusesTerminal(t *testing.T) {
	labtest.Need(t)
	_, terminal := openTerminal(t)

	newFakeDaemon(t, nil)
	var stderr bytes.Buffer
	code := run(t.Context(), []string{"capture", "web", "-w", "-"}, nil, terminal, &stderr)
	want := "vswitch: capture: -w -: the standard output is a terminal: write to a file, or into a pipe: see vswitch capture --help\n"
	if code != exitUsage || stderr.String() != want {
		t.Errorf("got exit code %d, %q; want %d, %q", code, stderr.String(), exitUsage, want)
	}
}

// openTerminal makes a pseudo-terminal. Its other end comes from an ioctl, as
// devpts need not be mounted where it could be opened.
func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, master.Fd(), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY)
	if errno != 0 {
		t.Fatal(errno)
	}
	terminal = os.NewFile(fd, "terminal")
	t.Cleanup(func() { terminal.Close() })
	return master, terminal
}

// TestCaptureKeepsOldFile is refused and must leave the file as it was.
func TestCaptureKeepsOldFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "old.pcapng")
	if err := os.WriteFile(file, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	newFakeDaemon(t, map[string]string{"GET /v1/capture?point=rx&point=tx&target=nope": "404\n{\"error\":\"container nope is not attached: see vswitch ps\"}"})
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"capture", "nope", "-w", file}, nil, &stdout, &stderr)
	if got, err := os.ReadFile(file); code != exitFailure || string(got) != "old" {
		t.Errorf("got exit code %d, file %q, %v; want it untouched", code, got, err)
	}
}
