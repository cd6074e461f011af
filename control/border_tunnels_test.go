package control

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestS32N84EveryProtocolWithoutPorts: a tunnel that the host begins takes its peer from a container
// that had it, of each protocol without ports, and of SCTP, by a raw socket, by a link and by
// a security association. The container's own tunnel to another peer goes on (N-84).
func TestS32N84EveryProtocolWithoutPorts(t *testing.T) {
	const ipip, sixInFour, ospf = 4, 41, 89
	protos := []uint8{ipip, sixInFour, gre, esp, ospf, header.ProtoSCTP}
	for name, cfg := range map[string]daemonSpec{"hooks": {Cgroup: "test"}, "list": {}, "without a flow table": {NoFlowTable: true}} {
		t.Run(name, func(t *testing.T) {
			if cfg.Cgroup != "" {
				cfg.Cgroup = labtest.Cgroup(t)
			}
			b := newBorder(t, cfg, func(*border) {})
			payload := func(proto uint8) []byte {
				if proto == header.ProtoSCTP {
					return sctpPacket(5000, 3868, "x")
				}
				return []byte("payload of a tunnel")
			}
			back := func(proto uint8) func(int) []byte {
				if proto == header.ProtoSCTP {
					return plain(sctpPacket(3868, 5000, "x"))
				}
				return plain(payload(proto))
			}
			families := []bool{false, true}
			for _, v6 := range families {
				b.flow("udp", v6, 21020, 9020) // the next hop is known, and the addresses have slots
				for _, proto := range protos {
					b.rawTo(v6, remoteAt[v6], proto, payload(proto))
					b.rawTo(v6, farAt[v6], proto, payload(proto))
				}
			}
			sendAll := func(when string, near bool) {
				t.Helper()
				for _, v6 := range families {
					for _, proto := range protos {
						what := fmt.Sprintf("protocol %d of IPv%s %s", proto, familyOf(v6), when)
						b.send(what+", near", near, v6, remoteAt[v6], proto, back(proto))
						b.send(what+", far", toContainer, v6, farAt[v6], proto, back(proto))
					}
				}
				b.check()
			}
			sendAll("before the host's", toContainer)
			for _, proto := range protos {
				b.hostRaw(false, proto, &unix.SockaddrInet4{Addr: netip.MustParseAddr(remoteAt[false]).As4()})
				b.hostRaw(true, proto, &unix.SockaddrInet6{Addr: netip.MustParseAddr(remoteAt[true]).As16()})
			}
			eventually(t, "the flows to the host's peers end", func() bool { return len(b.tunnelsTo(remoteAt[false]))+len(b.tunnelsTo(remoteAt[true])) == 0 })
			// A socket that was not connected yet may have taken everybody's for a moment.
			for _, v6 := range families {
				for _, proto := range protos {
					eventually(t, "the container has its tunnel to another peer", func() bool {
						b.rawTo(v6, farAt[v6], proto, payload(proto))
						return b.hasTunnel(farAt[v6], proto)
					})
				}
			}
			sendAll("after the host's", toHost)
		})
	}
}

// TestS32AssociationsAndLinks: a security association of the host, and a tunnel link of it, take
// the peer as well.
func TestS32AssociationsAndLinks(t *testing.T) {
	b := newBorder(t, daemonSpec{}, func(*border) {})
	b.flow("udp", false, 21020, 9020)
	far := farAt[false]
	for _, tc := range []struct {
		proto uint8
		must  bool
		add   []string
		del   []string
	}{
		// One that is being negotiated, which needs no ESP of the kernel.
		{esp, true, []string{"ip", "xfrm", "state", "allocspi", "src", far, "dst", hostAt[false], "proto", "esp", "mode", "tunnel", "min", "256", "max", "300"},
			[]string{"ip", "xfrm", "state", "flush"}},
		{esp, false, []string{"ip", "xfrm", "state", "add", "src", far, "dst", hostAt[false], "proto", "esp", "spi", "1", "mode", "tunnel", "enc", "cipher_null", ""},
			[]string{"ip", "xfrm", "state", "flush"}},
		{gre, false, []string{"ip", "link", "add", "t0", "type", "gre", "local", hostAt[false], "remote", far}, []string{"ip", "link", "del", "t0"}},
		{4, false, []string{"ip", "link", "add", "t0", "type", "ipip", "local", hostAt[false], "remote", far}, []string{"ip", "link", "del", "t0"}},
		{41, false, []string{"ip", "link", "add", "t0", "type", "sit", "local", hostAt[false], "remote", far}, []string{"ip", "link", "del", "t0"}},
	} {
		begin := func() bool {
			b.rawTo(false, far, tc.proto, []byte("payload of a tunnel"))
			return b.hasTunnel(far, tc.proto)
		}
		eventually(t, "the container has its tunnel", begin)
		if out, err := b.world.Host.Command(tc.add[0], tc.add[1:]...).CombinedOutput(); err != nil {
			if tc.must {
				t.Fatalf("%v: %s", tc.add, out)
			}
			t.Logf("%v: %s: the kernel here has none", tc.add, out)
			continue
		}
		eventually(t, fmt.Sprintf("%v takes the peer", tc.add), func() bool { return !b.hasTunnel(far, tc.proto) })
		b.rawTo(false, far, tc.proto, []byte("payload of a tunnel"))
		if b.hasTunnel(far, tc.proto) {
			t.Errorf("%v: the container got the peer again", tc.add)
		}
		command(t, b.world.Host, tc.del...)
		eventually(t, "it is the container's again", begin)
	}
}

// hasTunnel reports whether the container has a flow of a protocol to a peer.
func (b *border) hasTunnel(peer string, proto uint8) bool {
	b.t.Helper()
	return slices.Contains(b.tunnelsTo(peer), model.ProtoName(proto))
}

// tunnelsTo are the protocols of the container's flows to a peer, but not UDP.
func (b *border) tunnelsTo(peer string) (protos []string) {
	b.t.Helper()
	list, err := b.NAT(b.t.Context(), api.NATQuery{})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range list {
		to := f.Dest
		if host, _, err := net.SplitHostPort(to); err == nil {
			to = host
		}
		if to == peer && f.Proto != "udp" {
			protos = append(protos, f.Proto)
		}
	}
	return protos
}
