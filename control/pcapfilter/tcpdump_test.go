package pcapfilter

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/vswitch/vswitch/dataplane/filter"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// fixed are expressions of each word, and of what is easily got wrong.
var fixed = []string{
	"tcp", "udp", "sctp", "icmp", "icmp6", "igmp", "ip", "ip6", "arp", "rarp", "igrp", "pim", "vrrp", "carp", "ah", "esp", "stp", "decnet",
	"tcp port 80 and host 10.0.0.2", "icmp or arp", "tcp[tcpflags] & tcp-syn != 0", "vlan", "ip6 and udp",
	"port 80 or 443", "port 80 or 443 and not 22", "port 80 and (host 10.0.0.1 or 10.0.0.2)", "host (10.0.0.1 or 10.0.0.2)",
	"not port 80 or 443", "not (port 80 or 443)", "! tcp && ! udp", "not host 10.0.0.1 and 10.0.0.2", "tcp or udp and port 53",
	"src 10.0.0.1", "dst 10.0.0.1", "src or dst 10.0.0.1", "src and dst 10.0.0.1", "src host 10.0.0.1 and dst port 80", "dst or src port 80",
	"src and dst port 80", "src port 80 or 443", "port 22 and (tcp) or 443", "portrange 50-100", "src portrange 6000-8080", "tcp portrange 22-80", "portrange 100-50",
	"net 10", "net 10.0", "net 10.0.0.0/8", "net 10.0.0.0 mask 255.0.0.0", "net 0.0.0.0/0", "src net 192.168.5", "host 10.1", "net fd00::/64", "ip6 net 2001:db8::/32", "host fd00::1",
	"src fd00::1 or dst 10.0.0.1", "ip host 10.0.0.1", "arp host 10.0.0.1", "rarp src host 10.0.0.1", "ip6 host ff02::fb", "net ::/0",
	"ether host 02:00:00:00:00:01", "ether src 2:0:0:0:0:1", "ether dst 02-00-00-00-00-02", "ether dst 0200.0000.0002", "ether broadcast", "broadcast", "multicast", "ether multicast",
	"ip multicast", "ip6 multicast", "ip broadcast", "ether proto 0x800", `ether proto \ip6`, `ip proto \tcp`, `proto \udp`, "proto 17", "ip6 proto 58", "ether proto 0x42",
	"ether proto 0x88b5", "len > 0xbb", "less 80", "greater 100", "len > 90", "len - 14 = 60", "60 < len", "len >= 0x40", "len < 0100",
	"ip[0] & 0xf != 5", "ip[6:2] & 0x1fff = 0", "ether[12:2] = 0x806", "ip[2:2] > 100", "tcp[13] = 18", "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
	"((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0", "icmp[icmptype] = icmp-echo", "icmp6[icmp6type] = icmp6-neighborsolicit", "icmp[icmptype] != icmp-echo and icmp[icmptype] != icmp-echoreply",
	"udp[4:2] > 50", "ip6[7] < 64", "sctp[0:2] = 80", "arp[6:2] = 1", "ip[ip[0]&0xf] = 1", "tcp[tcp[12]>>2:2] != 0", "udp[8:4] = 1", "link[0] & 1 = 0",
	"ip[8] / 2 = 30", "ip[8] % 7 = 3", "100 / ip[1] = 50", "ip[8] ^ 3 > 100", "ip[8] << ip[1] > 200", "-ip[8] < 0xffffff80", "ip[8] * 3 >= ip[4:2]", "1 << 4 = 16",
	"ip[-1] = 3", "tcp[-1] = 1", "ip[0xffffffff:4] = 0 or tcp", "not ip[500] = 1", "tcp[0] = 0 or udp[0] = 0", "not tcp[13] = 2",
	"vlan 5", "vlan 5 and ip", "vlan and vlan", "vlan 5 and vlan 6 and tcp", "vlan and tcp port 80", "not vlan", "not vlan and tcp", "vlan or tcp", "ip or vlan and ip", "vlan and host 10.0.0.1", "vlan and ether src 02:00:00:00:00:01", "vlan and ip[8] > 60",
	"mpls", "mpls 5", "mpls and ip", "mpls and mpls", "mpls 5 and mpls 6 and ip6", "mpls and tcp port 80", "mpls and host 10.0.0.1",
	"pppoed", "pppoes", "pppoes 6", "pppoes and ip", "pppoes and tcp port 80", "pppoes 5 and ip6 and host fd00::1",
	"ip protochain 6", "ip6 protochain 6", "protochain 17", "ip6 protochain 58", "ip protochain 51",
	"port domain", "port ssh", "tcp port http", "port ftp-data or ssh", "udp port domain", "portrange ssh-http", "port (80)", "((tcp))", "tcp and (port 80 or (udp and port 53))",
}

// tcpdump returns which of the packets of a file match.
func tcpdump(t *testing.T, file, expr string, args ...string) (map[int]bool, error) {
	var out, errs bytes.Buffer
	cmd := exec.Command("tcpdump", append(args, "-r", file, "-w", "-", "--", expr)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, errs.String())
	}
	r, err := pcapgo.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	got := map[int]bool{}
	for {
		_, ci, err := r.ReadPacketData()
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			t.Fatal(err)
		}
		got[int(ci.Timestamp.Unix())] = true
	}
}

// TestAsTcpdump compares what matches with what tcpdump prints of a file.
func TestAsTcpdump(t *testing.T) {
	labtest.NeedProgram(t, "tcpdump")
	r := rand.New(rand.NewPCG(1, 2))
	frames := packets(t, r, 1500)
	file := filepath.Join(t.TempDir(), "packets.pcap")
	writePcap(t, file, frames)
	exprs := append([]string(nil), fixed...)
	for range 300 {
		exprs = append(exprs, randomExpr(r, 3))
	}
	matched := 0
	for _, expr := range exprs {
		prog, err := Compile(expr, nil)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		p, err := filter.New(prog)
		if err != nil {
			t.Errorf("%s: %v", expr, err)
			continue
		}
		want, err := tcpdump(t, file, expr, "-O")
		if err != nil {
			t.Errorf("%s: tcpdump: %v", expr, err)
			continue
		}
		// Its optimizer leaves out loads that fail of frames cut short: where its
		// own programs differ, either is right.
		optimized, err := tcpdump(t, file, expr)
		if err != nil {
			optimized = want // "rejects all packets"
		}
		if len(want) > 0 && len(want) < len(frames) {
			matched++
		}
		wrong := 0
		for i, f := range frames {
			if got := p.Match(f, len(f), false); got != want[i] && got != optimized[i] {
				if wrong++; wrong == 1 {
					t.Errorf("%s: packet %d: got %v, want %v: %x", expr, i, got, want[i], f)
				}
			}
		}
		if wrong > 1 {
			t.Errorf("%s: %d packets in all", expr, wrong)
		}
	}
	if matched < len(exprs)/2 {
		t.Errorf("only %d of %d expressions tell packets apart", matched, len(exprs))
	}
}

func writePcap(t *testing.T, file string, frames [][]byte) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := pcapgo.NewWriter(f)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	for i, b := range frames {
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(int64(i), 0), CaptureLength: len(b), Length: len(b)}, b); err != nil {
			t.Fatal(err)
		}
	}
}

// randomExpr makes an expression of the language.
func randomExpr(r *rand.Rand, depth int) string {
	if depth > 0 && r.IntN(3) > 0 {
		a, b := randomExpr(r, depth-1), randomExpr(r, depth-1)
		switch r.IntN(6) {
		case 0:
			return "not (" + a + ")"
		case 1:
			return "(" + a + ") or (" + b + ")"
		case 2:
			return a + " and " + b
		case 3:
			return a + " && not " + b
		default:
			return a + one(r, []string{" or ", " || "}) + b
		}
	}
	dir := one(r, []string{"", "src ", "dst ", "src or dst ", "src and dst "})
	num := func() string { return fmt.Sprint(one(r, port)) }
	switch r.IntN(12) {
	case 0, 1:
		return one(r, []string{"", "tcp ", "udp ", "sctp "}) + dir + "port " + num()
	case 2:
		return dir + "host " + one(r, tIP4).String()
	case 3:
		return dir + "host " + one(r, tIP6).String()
	case 4:
		return dir + "net " + one(r, []string{"10.0.0.0/24", "10", "192.168", "fd00::/16", "2001:db8:1::/48", "10.0.0.0/31"})
	case 5:
		return one(r, []string{"tcp", "udp", "ip", "ip6", "arp", "icmp", "icmp6", "igmp", "multicast", "broadcast", "sctp", "esp"})
	case 6:
		return dir + "portrange " + num() + "-" + num()
	case 7:
		return "ether " + one(r, []string{"src ", "dst ", "host "}) + one(r, tMAC).String()
	case 8:
		return one(r, []string{"less ", "greater "}) + fmt.Sprint(40+r.IntN(100))
	case 9:
		return one(r, []string{"vlan", "vlan 5", "vlan 6"})
	default:
		return randomSum(r, 2) + one(r, []string{" = ", " != ", " < ", " > ", " <= ", " >= "}) + randomSum(r, 1)
	}
}

func randomSum(r *rand.Rand, depth int) string {
	if depth > 0 && r.IntN(2) == 0 {
		op := one(r, []string{" + ", " - ", " * ", " & ", " | ", " / ", " << ", " >> "})
		b := randomSum(r, depth-1)
		switch strings.TrimSpace(op) {
		case "/":
			b = fmt.Sprint(1 + r.IntN(9))
		case "<<", ">>":
			b = fmt.Sprint(r.IntN(9))
		}
		a := randomSum(r, depth-1)
		if r.IntN(2) == 0 {
			return "(" + a + op + b + ")"
		}
		return a + op + b
	}
	switch r.IntN(4) {
	case 0:
		return fmt.Sprint(r.IntN(300))
	case 1:
		return "len"
	default:
		return fmt.Sprintf("%s[%d:%d]", one(r, []string{"ip", "ip6", "tcp", "udp", "icmp", "ether", "icmp6"}), r.IntN(12), one(r, []int{1, 2, 4}))
	}
}
