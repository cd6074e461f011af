package ipfix

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// loopback brings up lo of the namespace that labtest.Main has made.
func loopback(t *testing.T) {
	t.Helper()
	labtest.Need(t)
	labtest.NeedProgram(t, "ip")
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func record(src, dst string, packets uint64) Record {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	start := time.UnixMilli(1_700_000_000_123)
	return Record{Src: s, Dst: d, NATSrc: s, NATDst: d, Proto: 6, Packets: packets, Bytes: 100 * packets, Start: start, End: start.Add(5 * time.Second), Reason: EndOfFlow}
}

// Messages stay small, count their records, and carry the templates first and
// again after a while.
func TestMessages(t *testing.T) {
	loopback(t)
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e, err := Dial(l.LocalAddr().String(), 7)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	var list []Record
	for i := range 50 {
		list = append(list, record("10.0.0.1:1", "10.0.0.2:2", uint64(i)), record("[fd00::1]:1", "[fd00::2]:2", uint64(i)))
	}
	now := time.Unix(1_700_000_100, 0)
	read := func() (sets []int, sequences []uint32) {
		t.Helper()
		const last = "the last"
		if _, err := e.conn.Write([]byte(last)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 65536)
		for {
			l.SetReadDeadline(time.Now().Add(20 * time.Second))
			n, _, err := l.ReadFrom(buf)
			if err != nil {
				t.Fatal(err)
			}
			b := buf[:n]
			if string(b) == last {
				return sets, sequences
			}
			be := binary.BigEndian
			if be.Uint16(b) != 10 || int(be.Uint16(b[2:])) != n || n > 1400 || be.Uint32(b[4:]) != uint32(now.Unix()) || be.Uint32(b[12:]) != 7 {
				t.Errorf("message header %x of %d bytes", b[:16], n)
			}
			if int(be.Uint16(b[18:])) != n-16 {
				t.Errorf("set of %d bytes in a message of %d", be.Uint16(b[18:]), n)
			}
			sets = append(sets, int(be.Uint16(b[16:])))
			sequences = append(sequences, be.Uint32(b[8:]))
		}
	}
	if err := e.Send(now, list); err != nil {
		t.Fatal(err)
	}
	sets, seq := read()
	if len(sets) == 0 || sets[0] != 2 || !slices.Contains(sets, 256) || !slices.Contains(sets, 257) || !slices.IsSorted(seq) || e.sequence != 100 {
		t.Errorf("sets %v with sequence numbers %v, at the end %d", sets, seq, e.sequence)
	}
	now = now.Add(time.Second)
	if err := e.Send(now, list[:1]); err != nil {
		t.Fatal(err)
	}
	if sets, seq := read(); !slices.Equal(sets, []int{256}) || seq[0] != 100 {
		t.Errorf("a second later: sets %v, sequence %v", sets, seq)
	}
	now = now.Add(time.Minute)
	if err := e.Send(now, nil); err != nil {
		t.Fatal(err)
	}
	if sets, _ := read(); !slices.Equal(sets, []int{2, 2}) {
		t.Errorf("a minute later: sets %v, want the templates", sets)
	}
}

// A real collector reads what was written.
func TestNfcapd(t *testing.T) {
	loopback(t)
	for _, tool := range []string{"nfcapd", "nfdump"} {
		labtest.NeedProgram(t, tool)
	}
	dir := t.TempDir()
	l, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.LocalAddr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(at)
	cmd := exec.Command("nfcapd", "-w", dir, "-p", port, "-b", "127.0.0.1")
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		cmd.Process.Kill()
		<-ended
	}()
	// It says nothing when it listens: send until it has something.
	e, err := Dial(at, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	deadline := time.Now().Add(30 * time.Second)
	for {
		e.templates = time.Time{}
		first := e.Send(time.Now(), nil)
		time.Sleep(50 * time.Millisecond)
		e.templates = time.Time{}
		if second := e.Send(time.Now(), nil); first == nil && second == nil {
			break // nobody refused the first
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody listens\n%s", &log)
		}
	}
	nat := record("10.0.0.1:40000", "203.0.113.9:443", 12)
	nat.NATSrc = netip.MustParseAddrPort("198.51.100.1:61000")
	if err := e.Send(time.Now(), []Record{nat, record("[fd00::1]:1", "[fd00::2]:2", 9)}); err != nil {
		t.Fatal(err)
	}
	labtest.Drained(t, nil, l.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	cmd.Process.Signal(os.Interrupt)
	select {
	case <-ended:
		ended <- nil
	case <-time.After(30 * time.Second):
		t.Fatal("nfcapd does not end")
	}
	files, _ := filepath.Glob(dir + "/nfcapd.*")
	out := ""
	for _, f := range files {
		b, err := exec.Command("nfdump", "-r", f, "-o", "json").Output()
		if err != nil {
			t.Logf("nfdump %s: %v", f, err)
		}
		out += string(b)
	}
	var flows []map[string]any
	if err := json.Unmarshal([]byte(out), &flows); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, &log)
	}
	if len(flows) != 2 {
		t.Fatalf("%d flows, want 2: %s", len(flows), out)
	}
	for _, f := range flows {
		want := map[string]any{"src4_addr": "10.0.0.1", "dst4_addr": "203.0.113.9", "src_port": 40000.0, "dst_port": 443.0, "in_packets": 12.0, "in_bytes": 1200.0, "proto": 6.0, "src4_xlt_ip": "198.51.100.1", "src_xlt_port": 61000.0}
		if f["src4_addr"] == nil {
			want = map[string]any{"src6_addr": "fd00::1", "dst6_addr": "fd00::2", "in_packets": 9.0, "in_bytes": 900.0}
		}
		for k, v := range want {
			if fmt.Sprint(f[k]) != fmt.Sprint(v) {
				t.Errorf("%s is %v, want %v: %v", k, f[k], v, f)
			}
		}
		if first, _ := f["first"].(string); !strings.Contains(first, "2023-11-14T") || !strings.HasSuffix(first, ".123") {
			t.Errorf("begins %q", first)
		}
	}
}
