package control

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestS47ForwardedNeverEnters: what the host forwards enters no network, also with a source
// address that the host itself may have, and where a program of somebody else at the egress
// of the network's device ends the way of a packet there; what the host sends does.
func TestS47ForwardedNeverEnters(t *testing.T) {
	for name, change := range map[string]func(*daemonSpec){
		"link":       func(*daemonSpec) {},
		"filter":     func(s *daemonSpec) { s.NoTCX = true },
		"bare":       func(s *daemonSpec) { s.NoFlowTable = true },
		"barefilter": func(s *daemonSpec) { s.NoFlowTable, s.NoTCX = true, true },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			change(&r.cfg)
			for key, value := range map[string]string{
				"ipv4/ip_forward": "1", "ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0", "ipv4/conf/eth0/rp_filter": "0",
				"ipv4/conf/eth0/accept_local": "1", "ipv4/conf/all/accept_local": "1",
			} {
				sysctl(t, r.world.Host, key, value)
			}
			r.start()
			web, ct := r.attach("web", api.Attach{})
			r.passAtEgress()
			r.kill()
			r.start() // the programs of this one come to those that are there
			d := listenUDP(t, web, ":5353", "web")
			wantUDP(t, r.world.Host, addr(ct)+":5353", "web")
			before := d.count()
			src, err := r.world.Outside.MAC("eth0")
			if err != nil {
				t.Fatal(err)
			}
			dst, err := r.world.Host.MAC("eth0")
			if err != nil {
				t.Fatal(err)
			}
			sources := []string{"169.254.7.7", "198.51.100.77", netlab.HostAddr, "10.88.0.1"}
			for _, from := range sources {
				inject(t, r.world.Outside, "eth0", switchtest.Bytes(switchtest.Packet{
					EthSrc: header.MAC(src), EthDst: header.MAC(dst), Proto: header.ProtoUDP, Payload: []byte("stranger"),
					Src: netip.AddrPortFrom(netip.MustParseAddr(from), 4000).String(), Dst: addr(ct) + ":5353",
				}))
			}
			eventually(t, "forwarded datagrams are refused", func() bool {
				return r.stats().Drops["guard-not-from-host"] >= 2 // the host itself may refuse its own addresses
			})
			if n := d.count() - before; n != 0 {
				t.Errorf("%d of %d forwarded datagrams entered", n, len(sources))
			}
			wantUDP(t, r.world.Host, addr(ct)+":5353", "web")
		})
	}
}

// passAtEgress hangs programs up at the egress of the networks' devices, in each way that
// the kernel has, that say of every packet that it may go.
func (r *rig) passAtEgress() {
	r.t.Helper()
	p := dropAll(r.t, ebpf.SchedCLS, 0, 0) // TC_ACT_OK
	for _, name := range r.hostLinks() {
		if !strings.HasPrefix(name, "vs-") {
			continue
		}
		index, err := r.world.Host.Index(name)
		if err != nil {
			r.t.Fatal(err)
		}
		if !r.cfg.NoTCX && hasTCX(r.t) {
			if err := r.world.Host.Do(func() error {
				return link.RawAttachProgram(link.RawAttachProgramOptions{Target: index, Program: p, Attach: ebpf.AttachTCXEgress})
			}); err != nil {
				r.t.Fatal(err)
			}
		}
		labtest.NeedProgram(r.t, "tc")
		_ = r.world.Host.Command("tc", "qdisc", "add", "dev", name, "clsact").Run() // ours may be there
		if out, err := r.world.Host.Command("tc", "filter", "add", "dev", name, "egress", "prio", "1", "bpf", "da", "bytecode", "1,6 0 0 0,").CombinedOutput(); err != nil {
			r.t.Fatalf("%v: %s", err, out)
		}
	}
}
