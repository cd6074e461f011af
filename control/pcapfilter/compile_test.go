package pcapfilter

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/dataplane/filter"
)

// site knows a container of both families and a network.
type site struct{}

func (site) Host(name string) []netip.Addr {
	if name == "web-1" {
		return []netip.Addr{netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")}
	}
	return nil
}

func (site) Gateway(name string) ([][6]byte, []netip.Addr) {
	switch name {
	case "web-1":
		return [][6]byte{{2, 0, 0, 0, 0, 1}}, site{}.Host(name)
	case "backend":
		return [][6]byte{{2, 0, 0, 0, 0, 2}}, []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}
	}
	return nil, nil
}

func (site) Net(name string) []netip.Prefix {
	if name == "backend" {
		return []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/64")}
	}
	return nil
}

// A name of the switch is as good as the addresses behind it.
func TestNames(t *testing.T) {
	frames := packets(t, rand.New(rand.NewPCG(3, 4)), 500)
	for name, plain := range map[string]string{
		"host web-1":                          "host 10.0.0.2 or host fd00::2",
		"src web-1 and port 80":               "(src 10.0.0.2 or src fd00::2) and port 80",
		"ip6 host web-1":                      "ip6 host fd00::2",
		"arp host web-1":                      "arp host 10.0.0.2",
		"dst net backend":                     "dst net 10.0.0.0/24 or dst net fd00::/64",
		"host 10.0.0.1 or web-1":              "host 10.0.0.1 or host 10.0.0.2 or host fd00::2",
		"not host (web-1) or arp":             "not (host 10.0.0.2 or fd00::2) or arp",
		"net 10/8 and tcp":                    "net 10.0.0.0/8 and tcp",
		"src 10.0.0.0/8":                      "src net 10.0.0.0/8",
		"ip proto tcp":                        `ip proto \tcp`,
		" ":                                   "len >= 0",
		"gateway web-1":                       "ether host 02:00:00:00:00:01 and not (host 10.0.0.2 or host fd00::2)",
		"ip gateway backend":                  "ip and ether host 02:00:00:00:00:02 and not host 10.0.0.1",
		"tcp and not gateway web-1":           "tcp and not (ether host 02:00:00:00:00:01 and not (host 10.0.0.2 or host fd00::2))",
		"inbound and tcp":                     "tcp",
		"(port 22) or (443 = 444) or port 80": "port 22 or port 80",
	} {
		a, b := mustCompile(t, name), mustCompile(t, plain)
		matched := 0
		for _, f := range frames {
			got, want := a.Match(f, len(f), false), b.Match(f, len(f), false)
			if got != want {
				t.Fatalf("%s, %x: got %v, want %v", name, f, got, want)
			}
			if got {
				matched++
			}
		}
		if matched == 0 {
			t.Errorf("%s matches nothing", name)
		}
	}
}

func mustCompile(t testing.TB, expr string) *filter.Program {
	t.Helper()
	prog, err := Compile(expr, site{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := filter.New(prog)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	return p
}

// Each error names the place and the way out.
func TestErrors(t *testing.T) {
	for expr, want := range map[string]string{
		"tcp prot 80":          `column 5: "prot" does not belong here`,
		"tcp and prot 80":      `column 9: "prot" does not say what it is: a filter is made of words like tcp, host, port, and`,
		"port":                 "column 5: the end was found where a condition is expected",
		"tcp and":              "column 8: the end was found where a condition is expected",
		"port 70000":           `column 6: "70000" is no port: at most 65535`,
		"port gopher":          `column 6: "gopher" names no service known here: write the port's number`,
		"udp port ssh":         `column 10: "ssh" is a port of another protocol: leave the qualifier out, or write the number 22`,
		"icmp port 5":          `column 11: "5" is a port, which icmp does not have: only tcp, udp and sctp`,
		"host nobody":          `column 6: "nobody" is no address and no container with one: see vswitch ps`,
		"net nowhere":          `column 5: "nowhere" is neither a network's address nor its name: see vswitch network ls`,
		"net 10.0.0.1/8":       `column 5: "10.0.0.1" has bits set after its prefix: the network's own address is expected`,
		"net 10.0.0.0/33":      `column 14: "33" is longer than an IPv4 address: at most 32`,
		"net fd00::1/64":       `column 5: "fd00::1" has bits set after its prefix: the network's own address is expected`,
		"host 10.0.0.0/8":      `column 14: "/" makes a network: write net`,
		"10.0.0.1":             `column 1: "10.0.0.1" does not say what it is: write host 10.0.0.1, or net`,
		"tcp or 80":            `column 8: "80" does not say what it is: write port 80, or a comparison`,
		"web-1":                `column 1: "web-1" does not say what it is: write host web-1; more containers to capture are named in one word, web,db`,
		"host 300.1.1.1":       `column 6: "300.1.1.1" is no IPv4 address`,
		"host 02:00:00:00:0:1": `column 6: "02:00:00:00:0:1" is an Ethernet address: write ether host 02:00:00:00:0:1`,
		"ether host 10.0.0.1":  `column 12: "10.0.0.1" is no Ethernet address, which ether host wants: leave ether out, or write one like 02:00:00:00:00:01`,
		"tcp host 10.0.0.1":    `column 10: "10.0.0.1" is an address, but tcp has none: write tcp and host 10.0.0.1`,
		"(tcp":                 `column 1: "(" is not closed`,
		"tcp)":                 `column 4: ")" closes nothing`,
		"tcp[0:3] = 1":         `column 7: "3" is no size of a field: 1, 2 or 4 bytes`,
		"tcp[0] 1":             `column 8: "1" was found where a comparison is expected: = != < > <= >=`,
		"len / 0 = 1":          `column 7: "0" divides by zero`,
		"1 << 32 = 1":          `column 6: "32" shifts by more than 31 bits`,
		"vlan 5000":            `column 6: "5000" is too large: at most 4095`,
		"gateway foo":          `column 9: "foo" is no container and no network: see vswitch ps, vswitch network ls`,
		"gateway 10.0.0.1":     `column 9: "10.0.0.1" has a MAC address that is not known here: name a container or a network, or write ether host MAC and not host 10.0.0.1`,
		"src gateway web-1":    `column 13: "web-1" is a gateway, which has no direction: leave src or dst out`,
		"tcp gateway web-1":    `column 13: "web-1" is a gateway, but not of tcp: write tcp and gateway web-1`,
		"ifname eth0":          `column 1: "ifname" is no word for Ethernet`,
		"port 4294967296":      `column 6: "4294967296" is no number of 32 bits`,
		"tcp # comment":        `column 5: "#" belongs to no filter`,
		"src proto 6":          `column 11: "6" is a protocol, which has no direction: leave src or dst out`,
		"ether foo":            `column 7: "foo" does not belong after ether: host, src, dst, proto, broadcast, multicast or [ is expected`,
		"src port 80 dst":      `column 13: "dst" does not belong here`,
	} {
		_, err := Compile(expr, site{})
		var e *Error
		if full := fmt.Sprintf("filter %q: %s", expr, want); !errors.As(err, &e) || err.Error() != full {
			t.Errorf("%s:\ngot  %v\nwant %s", expr, err, full)
		}
	}
	deep := strings.Repeat("(", 4000) + "tcp" + strings.Repeat(")", 4000)
	for _, expr := range []string{deep, strings.Repeat("not ", 2000) + "tcp", strings.Repeat("-", 4000) + "1 = 1", strings.Repeat("(", 4000) + "1" + strings.Repeat(")", 4000) + " = 1",
		strings.Repeat("len + (", 100) + "1" + strings.Repeat(" + len)", 100) + " = 1", strings.Repeat(" ", MaxLen) + "tcp", "port 1" + strings.Repeat(" or 2", 1000)} {
		if _, err := Compile(expr, nil); err == nil || len(err.Error()) > 400 {
			t.Errorf("%.30s...: got %.500v, want a short error", expr, err)
		}
	}
}

// Long lists need jumps further than a conditional one goes.
func TestLongJumps(t *testing.T) {
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, "src port %d or ", 1000+i)
	}
	p := mustCompile(t, b.String()+"arp")
	q := mustCompile(t, "not ("+b.String()+"arp)")
	frames := packets(t, rand.New(rand.NewPCG(5, 6)), 300)
	for _, f := range frames {
		if arp := slices.Equal(f[12:14], []byte{8, 6}); p.Match(f, len(f), false) != arp {
			t.Errorf("%x: got %v", f, !arp)
		} else if cut := len(f) < 60; !cut && q.Match(f, len(f), false) == arp {
			t.Errorf("not: %x: got %v", f, arp)
		}
	}
}

// A usual filter is short: what is held in a register is not loaded again.
func TestProgramSize(t *testing.T) {
	for expr, most := range map[string]int{"": 1, "tcp": 13, "port 80": 26, "tcp port 80 and host 10.0.0.2": 40, "icmp or arp": 8} {
		prog, err := Compile(expr, nil)
		if err != nil || len(prog) > most {
			t.Errorf("%q: %d instructions, want at most %d: %v", expr, len(prog), most, err)
		}
	}
}

// FuzzCompile: whatever it is given, it refuses it in one line or makes a
// program that the switch takes.
func FuzzCompile(f *testing.F) {
	for _, e := range fixed {
		f.Add(e)
	}
	f.Add("host web-1 or net backend or gateway web-1 and not inbound")
	f.Add(strings.Repeat("(", 300))
	sample := packets(f, rand.New(rand.NewPCG(7, 8)), 20)
	f.Fuzz(func(t *testing.T, expr string) {
		prog, err := Compile(expr, site{})
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || strings.ContainsAny(err.Error(), "\n\r") || e.At > len(expr) {
				t.Errorf("%q: %v", expr, err)
			}
			return
		}
		p, err := filter.New(prog)
		if err != nil {
			t.Fatalf("%q: %v", expr, err)
		}
		for _, b := range sample {
			p.Match(b, len(b), false)
		}
	})
}
