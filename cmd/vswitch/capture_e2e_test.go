package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// recording is a capture under way.
type recording struct {
	*exec.Cmd
	t      testing.TB
	stderr io.Reader
}

// record starts a capture and waits until it runs.
func (r *rig) record(args ...string) *recording {
	r.t.Helper()
	c := &recording{Cmd: r.command(append([]string{"capture"}, args...)...), t: r.t}
	stderr, err := c.StderrPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	c.stderr = stderr
	if err := r.world.Host.Start(c.Cmd); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Process.Kill(); c.Wait() })
	if line, err := readLine(stderr); !strings.HasPrefix(line, "capturing ") {
		r.t.Fatalf("capture %v: got %q, %v", args, line, err)
	}
	return c
}

// end ends a capture as ^C does and returns what it says.
func (c *recording) end() string {
	c.t.Helper()
	c.Process.Signal(unix.SIGINT)
	summary, _ := readLine(c.stderr)
	if code := wait(c.t, c.Cmd); code != 0 {
		c.t.Errorf("capture: exit code %d, %s", code, summary)
	}
	return summary
}

// fields reads a file with tshark: a line for each packet, and in it fields.
func fields(t *testing.T, file, display string, names ...string) (list [][]string) {
	t.Helper()
	args := []string{"-n", "-r", file, "-Y", display, "-T", "fields", "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE"}
	for _, n := range names {
		args = append(args, "-e", n)
	}
	out, err := exec.Command("tshark", args...).Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		list = append(list, strings.Split(strings.TrimSuffix(line, "\n"), "\t"))
	}
	return list
}

// TestCaptureVerdicts records every point of a container and of the uplink, and
// tshark finds what the switch decided in each packet's comment.
func TestCaptureVerdicts(t *testing.T) {
	labtest.NeedProgram(t, "tshark")
	r := newRig(t, "--capture-ring", "1M", "--capture-ring-of", "web,network:later")
	web := labtest.New(t, "web")
	ct := decode[api.Container](r, "attach", "web", "--netns", web.Path(), "-p", "8080:80")
	addr := address(t, ct.Endpoints[0].Address)
	veth := ct.Endpoints[0].HostInterface
	r.site(web, addr)
	file := filepath.Join(t.TempDir(), "all.pcapng")
	c := r.record("web,uplink", "tcp or udp port 9", "--point", "rx,tx,drop,prenat,postnat", "-w", file)
	r.wantPage(r.world.Outside, netlab.HostAddr+":8080", netlab.OutsideAddr)
	if err := web.AddAddr("eth0", "10.88.0.99/32"); err != nil {
		t.Fatal(err)
	}
	spoof, err := web.DialFrom("udp", "10.88.0.99:0", netlab.FarAddr+":9", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	spoof.Write([]byte("not my address"))
	spoof.Close()
	if !eventually(func() bool { return decode[api.Stats](r, "stats").Drops["guard-spoofed-ip"] > 0 }) {
		t.Error("nothing is dropped as spoofed")
	}
	if s := c.end(); !strings.HasSuffix(s, " packets captured, 0 dropped") {
		t.Errorf("summary %q", s)
	}

	const dnat, snat = "DNAT " + netlab.HostAddr + ":8080 -> web:80, ", "SNAT web:80 -> " + netlab.HostAddr + ":8080, "
	want := map[string]string{ // interface to a comment on it
		"uplink/eth0 rx":               dnat + "out " + veth + " (web)",
		"uplink/eth0 prenat":           dnat + "out " + veth + " (web)",
		"web/eth0 (bridge) postnat":    dnat + "out " + veth + " (web)",
		"web/eth0 (bridge) tx":         dnat + "in eth0",
		"web/eth0 (bridge) rx":         snat + "out eth0",
		"web/eth0 (bridge) prenat":     snat + "out eth0",
		"uplink/eth0 postnat":          snat + "out eth0",
		"uplink/eth0 tx":               snat + "in " + veth + " (web)",
		"web/eth0 (bridge) drop":       "dropped: guard-spoofed-ip",
		"web/eth0 (bridge) rx dropped": "dropped: guard-spoofed-ip",
	}
	for _, f := range fields(t, file, "frame", "frame.interface_name", "frame.comment", "ip.checksum.status", "tcp.checksum.status", "udp.checksum.status") {
		if f[2] != "1" || f[3] == "0" || f[4] == "0" {
			t.Errorf("%s: a wrong checksum: %v", f[0], f)
		}
		for name, comment := range want {
			if strings.TrimSuffix(name, " dropped") == f[0] && comment == f[1] {
				delete(want, name)
			}
		}
	}
	for name, comment := range want {
		t.Errorf("no packet at %s has the comment %q", name, comment)
	}
	t.Run("last", func(t *testing.T) {
		out := r.must("capture", "web", "--last", "1m", "--point", "rx,tx,drop", "udp port 9 or tcp port 80")
		if !strings.Contains(out, ": IP "+netlab.OutsideAddr+".") || !strings.Contains(out, " > web.80: Flags [S], ") || !strings.Contains(out, "dropped at web/eth0 (bridge)") {
			t.Errorf("got\n%s", out)
		}
		if out := r.must("capture", "web", "--last", "1m", "-n", "tcp port 80"); !strings.Contains(out, " > "+addr+".80: Flags [S], ") || strings.Contains(out, ".9: UDP") {
			t.Errorf("got\n%s", out)
		}
	})
	t.Run("last of another", func(t *testing.T) {
		other := labtest.New(t, "other")
		r.must("attach", "other", "--netns", other.Path())
		defer r.must("detach", "other")
		_, stderr, code := r.vswitch("capture", "other", "--last", "1m")
		if want := "vswitch: the daemon keeps recent frames of web,network:later only: start it with --capture-ring-of web,network:later,other\n"; code == 0 || stderr != want {
			t.Errorf("got %d, %q, want %q", code, stderr, want)
		}
	})
	t.Run("extcap", func(t *testing.T) { extcap(t, r, addr) })
}

// extcap lets tshark find the container in its list of interfaces and capture.
func extcap(t *testing.T, r *rig, addr string) {
	home := t.TempDir()
	dir := filepath.Join(home, ".config/wireshark/extcap")
	exe, err := os.Readlink("/proc/self/exe")
	if err == nil {
		err = errors.Join(os.MkdirAll(dir, 0o755), os.Symlink(exe, filepath.Join(dir, programName)))
	}
	if err != nil {
		t.Fatal(err)
	}
	tshark := func(args ...string) *exec.Cmd {
		cmd := r.world.Host.Command("tshark", args...)
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME=", "VSWITCH_SOCKET="+filepath.Join(r.runDir(), "vswitch.sock"))
		return cmd
	}
	list := tshark("-D")
	var out lockedBuffer
	list.Stdout = &out
	if err := r.world.Host.Start(list); err != nil {
		t.Fatal(err)
	}
	if code := wait(t, list); code != 0 || !strings.Contains(out.String(), "vswitch:web (vswitch, container web (bridge))") || !strings.Contains(out.String(), "vswitch:uplink") {
		t.Fatalf("tshark -D: exit code %d\n%s", code, out.String())
	}
	file := filepath.Join(t.TempDir(), "extcap.pcapng")
	var said lockedBuffer
	c := tshark("-i", "vswitch:web", "-f", "tcp port 80", "-c", "6", "-w", file, "-a", "duration:30")
	c.Stderr = &said
	if err := r.world.Host.Start(c); err != nil {
		t.Fatal(err)
	}
	ended := make(chan int, 1)
	go func() { c.Wait(); ended <- c.ProcessState.ExitCode() }()
	for done := false; !done; {
		select {
		case code := <-ended:
			if done = true; code != 0 {
				t.Fatalf("tshark: exit code %d: %s", code, said.String())
			}
		case <-time.After(200 * time.Millisecond):
			r.wantPage(r.world.Host, addr, "10.88.0.1")
		}
	}
	got := fields(t, file, "tcp", "frame.interface_name", "frame.comment")
	if len(got) != 6 || !strings.Contains(fmt.Sprint(got), "out vs-") {
		t.Errorf("got %v: %s", got, said.String())
	}
	for _, tt := range []struct{ filter, want string }{{"tcp port 80", ""}, {"tcp prot 80", "column 5"}} {
		stdout, _, code := r.vswitch("extcap", "--extcap-interface", "vswitch:web", "--extcap-capture-filter", tt.filter)
		if code != 0 || !strings.Contains(stdout, tt.want) || tt.want == "" && stdout != "" {
			t.Errorf("check of %q: %q, exit code %d", tt.filter, stdout, code)
		}
	}
}

// TestCaptureBeforeTheContainer begins before the container is there and goes on
// when it is attached anew.
func TestCaptureBeforeTheContainer(t *testing.T) {
	labtest.NeedProgram(t, "tshark")
	r := newRig(t)
	file := filepath.Join(t.TempDir(), "later.pcapng")
	c := r.record("later", "icmp", "--wait", "--point", "rx", "-w", file)
	for range 2 {
		ns := labtest.New(t, "later")
		ct := decode[api.Container](r, "attach", "later", "--netns", ns.Path())
		ping := ns.Command("ping", "-c", "1", "-W", "5", ct.Endpoints[0].Gateway)
		if err := r.world.Host.Do(func() error { return ns.Start(ping) }); err != nil {
			t.Fatal(err)
		}
		if code := wait(t, ping); code != 0 {
			t.Fatalf("ping: exit code %d", code)
		}
		r.must("detach", "later")
	}
	if s := c.end(); s != "2 packets captured, 0 dropped" {
		t.Errorf("summary %q", s)
	}
	got := fields(t, file, "icmp.type == 8", "frame.interface_name", "frame.interface_id")
	if len(got) != 2 || got[0][0] != "later/eth0 (bridge) rx" || !slices.Equal(got[0], got[1]) {
		t.Errorf("got %v, want both pings on one interface", got)
	}
}

// TestCaptureSegments records bulk TCP as it is handed over, and as on a wire.
func TestCaptureSegments(t *testing.T) {
	labtest.NeedProgram(t, "tshark")
	r := newRig(t)
	a, b := labtest.New(t, "a"), labtest.New(t, "b")
	r.must("attach", "a", "--netns", a.Path())
	addr := address(t, decode[api.Container](r, "attach", "b", "--netns", b.Path()).Endpoints[0].Address)
	l, err := b.Listen("tcp", ":5000")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const size = 400_000
	send := func() {
		t.Helper()
		c, err := a.Dial("tcp", addr+":5000", 20*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go c.Write(make([]byte, size))
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if n, err := io.CopyN(io.Discard, s, size); err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	dir := t.TempDir()
	whole := r.record("a", "src host a", "--point", "rx", "-w", filepath.Join(dir, "whole"))
	cut := r.record("a", "src", "host", "a", "--point", "rx", "--segment", "-w", filepath.Join(dir, "cut"))
	short := r.record("a", "--point", "rx", "--segment", "-s", "60", "-w", filepath.Join(dir, "ring"), "-C", "8K", "-W", "12", "tcp")
	send()
	time.Sleep(50 * time.Millisecond)
	for _, c := range []*recording{whole, cut, short} {
		if s := c.end(); !strings.HasSuffix(s, ", 0 dropped") {
			t.Errorf("summary %q", s)
		}
	}
	large, bytes := 0, 0
	for _, f := range fields(t, filepath.Join(dir, "whole"), "tcp", "ip.len", "tcp.checksum.status") {
		if len(f[0]) > 4 {
			large++
		}
	}
	if large == 0 {
		t.Error("no frame is larger than the wire allows: nothing to cut")
	}
	next := ""
	for _, f := range fields(t, filepath.Join(dir, "cut"), "tcp", "ip.len", "tcp.checksum.status", "ip.checksum.status", "tcp.len", "tcp.seq", "tcp.nxtseq", "tcp.analysis.flags") {
		var n int
		fmt.Sscan(f[0], &n)
		again := f[6] != "" // the sender sent it twice: a slow machine
		if n > 1500 || f[1] != "1" || f[2] != "1" || !again && f[3] != "0" && next != "" && f[4] != next {
			t.Errorf("segment %v: want at most 1500 bytes, good checksums, and in order behind %s", f, next)
		}
		if again {
			continue
		}
		next = f[5]
		fmt.Sscan(f[3], &n)
		bytes += n
	}
	if bytes != size {
		t.Errorf("the segments hold %d bytes, want %d", bytes, size)
	}
	// 276 segments of some 130 bytes with their block, 8 KiB each file.
	files, _ := filepath.Glob(filepath.Join(dir, "ring*"))
	if len(files) < 4 || files[0] != filepath.Join(dir, "ring00") {
		t.Fatalf("files %v", files)
	}
	for _, file := range files {
		fi, err := os.Stat(file)
		got := fields(t, file, "tcp", "frame.interface_name", "frame.cap_len")
		if err != nil || fi.Size() > 9<<10 || len(got) == 0 || got[0][0] != "a/eth0 (bridge) rx" || got[0][1] != "60" {
			t.Errorf("%s: %d bytes, %v, %v", file, fi.Size(), got, err)
		}
	}
}
