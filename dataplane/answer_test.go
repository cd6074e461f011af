package dataplane_test

import (
	"bytes"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// expectARP takes the one answer that a station got: who has the address.
func expectARP(t *testing.T, l *Lab, at, addr string, mac header.MAC) {
	t.Helper()
	f := l.Expect(at)
	p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
	a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP)
	eth, _ := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	if !ok || a.Operation != layers.ARPReply || !bytes.Equal(a.SourceHwAddress, mac[:]) ||
		a.SourceProtAddress[3] != lastByte(addr) || !bytes.Equal(eth.SrcMAC, mac[:]) {
		t.Errorf("%s was told %s, want %s at %s", at, Describe(f), addr, mac)
	}
	if me := MAC(at); !bytes.Equal(eth.DstMAC, me[:]) || !bytes.Equal(a.DstHwAddress, me[:]) {
		t.Errorf("the answer to %s went to %s", at, eth.DstMAC)
	}
}

func lastByte(addr string) byte {
	s := Bytes(Packet{Src: addr, Dst: addr, Proto: header.ProtoUDP})
	return s[header.EthernetLen+15]
}

// ARP for a known address is answered by the switch and flooded nowhere.
func TestL10ARPForKnownAddressesIsAnswered(t *testing.T) {
	l := guarded(t)
	l.Send("c1", WhoHas("c1", "10.1.0.12"))
	expectARP(t, l, "c1", "10.1.0.12", MAC("c2"))
	l.Send("c1", WhoHas("c1", "10.1.0.1"))
	expectARP(t, l, "c1", "10.1.0.1", MAC("host1"))
	// The host's kernel asks by its TAP.
	l.Send("host1", WhoHas("host1", "10.1.0.13"))
	expectARP(t, l, "host1", "10.1.0.13", MAC("c3"))
	// The kernel confirms a gateway that it knows by unicast.
	l.Send("c1", ARP(MAC("host1"), MAC("c1"), 1, MAC("c1"), "10.1.0.11", header.MAC{}, "10.1.0.1"))
	expectARP(t, l, "c1", "10.1.0.1", MAC("host1"))
	// A probe for an address in use hears so.
	l.Send("c1", ARP(header.Broadcast, MAC("c1"), 1, MAC("c1"), "0.0.0.0", header.MAC{}, "10.1.0.12"))
	expectARP(t, l, "c1", "10.1.0.12", MAC("c2"))
}

func TestL10ARPThatGoesOn(t *testing.T) {
	for name, f := range map[string][]byte{
		"unknown":          WhoHas("c1", "10.1.0.99"),
		"another network":  WhoHas("c1", "10.2.0.11"),
		"own announcement": WhoHas("c1", "10.1.0.11"),
		"own probe":        ARP(header.Broadcast, MAC("c1"), 1, MAC("c1"), "0.0.0.0", header.MAC{}, "10.1.0.11"),
	} {
		t.Run(name, func(t *testing.T) {
			l := guarded(t)
			l.Send("c1", f)
			// The host hears announcements only: its kernel answers for every
			// address it has, on any interface.
			want := map[string]int{"c2": 1, "c3": 1}
			if name == "own announcement" {
				want["host1"] = 1
			}
			if got := len(l.Got("host1")); got != want["host1"] {
				t.Errorf("the host got %d frames, want %d", got, want["host1"])
			}
			for _, at := range []string{"c2", "c3"} {
				if got := l.Got(at); len(got) != 1 || !bytes.Equal(got[0], f) {
					t.Errorf("%s got %d frames, want the question", at, len(got))
				}
			}
			l.ExpectNothing()
		})
	}
}

// expectNA takes the one answer that a station got.
func expectNA(t *testing.T, l *Lab, at, addr string, mac header.MAC, flags byte) {
	t.Helper()
	f := l.Expect(at)
	var ls header.Layers
	var n header.Neighbor
	if !header.Parse(f, &ls) || ls.ICMPType != header.ICMP6NeighborAdvert || !header.ReadNeighbor(f, &ls, &n) {
		t.Fatalf("%s was told %s", at, Describe(f))
	}
	if n.Target.String() != addr || n.LinkAddr != mac || ls.Src != mac || f[ls.L4+4] != flags {
		t.Errorf("%s was told %s at %s with flags %#x, want %s at %s, %#x", at, n.Target, n.LinkAddr, f[ls.L4+4], addr, mac, flags)
	}
}

// A neighbour solicitation for a known address is answered by the switch.
func TestL11SolicitationsForKnownAddressesAreAnswered(t *testing.T) {
	const solicited, override, router = 0x40, 0x20, 0x80
	l := guarded(t)
	l.Send("c1", Solicit("c1", IPv6("c2")))
	expectNA(t, l, "c1", IPv6("c2"), MAC("c2"), solicited|override)
	l.Send("c1", Solicit("c1", IPv6("host1")))
	expectNA(t, l, "c1", IPv6("host1"), MAC("host1"), solicited|override|router)
	l.Send("host1", ND(GroupMAC("ff02::1:ff00:13"), MAC("host1"), IPv6("host1"), "ff02::1:ff00:13", header.ICMP6NeighborSolicit, IPv6("c3"), 1, MAC("host1")))
	expectNA(t, l, "host1", IPv6("c3"), MAC("c3"), solicited|override)

	// An unguarded station in duplicate address detection hears that the address
	// is taken, and nobody else hears the question.
	l.Configure("c1", func(p *dataplane.PortConfig) { p.Guarded = false })
	l.Send("c1", ND(GroupMAC("ff02::1:ff00:12"), MAC("c1"), "::", "ff02::1:ff00:12", header.ICMP6NeighborSolicit, IPv6("c2"), 0, header.MAC{}))
	expectNA(t, l, "c1", IPv6("c2"), MAC("c2"), override)
	l.Send("c1", Solicit("c1", "fd00:1::99"))
	if len(l.Got("c2")) != 1 {
		t.Error("a question for an unknown address was not flooded")
	}
}

// A whole batch of questions has its answers in one turn.
func TestL10ABatchOfQuestions(t *testing.T) {
	l := guarded(t)
	for range 64 {
		l.Memory("c1").Inject(WhoHas("c1", "10.1.0.12"), noOffload)
	}
	l.Switch.Step()
	if got := l.Got("c1"); len(got) != 64 {
		t.Errorf("%d answers, want 64", len(got))
	}
	l.ExpectNothing()
}
