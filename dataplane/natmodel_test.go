package dataplane_test

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// natModel is a NAT as RFC 4787 and RFC 7857 describe it, as naive as can be: a
// list of flows that is searched from the start. Its world is that of a Lab with
// port 8080 published to c1's port 80.
type natModel struct {
	now   time.Duration
	flows []*modelFlow
}

// modelFlow is a flow between a first and a second end as both see themselves,
// and how each sees the other.
type modelFlow struct {
	proto         uint8
	first, second modelEnd
	firstSees     netip.AddrPort // the second end
	secondSees    netip.AddrPort // the first end
	mapped        bool           // secondSees is a mapping of first
	state         string
	loose         bool
	back          bool // second was heard before first, after a start
	ended         bool // so was its FIN, which no segment of the test acknowledges
	proven        bool // first has acknowledged what second numbers from
	last          time.Duration
}

type modelEnd struct {
	station string // "up" for the world
	addr    netip.AddrPort
}

var modelTimeouts = map[string]time.Duration{
	"udp once": 120 * time.Second, "udp": 300 * time.Second, "ping": 60 * time.Second,
	"init": 240 * time.Second, "est": 24 * time.Hour, "fin first": 7440 * time.Second, "fin second": 7440 * time.Second,
	"closed": 240 * time.Second, "reopen first": 240 * time.Second, "reopen second": 240 * time.Second,
}

func (m *natModel) advance(d time.Duration) {
	m.now += d
	var live []*modelFlow
	for _, f := range m.flows {
		keeps := modelTimeouts[f.state]
		if f.proto == header.ProtoTCP && !f.proven {
			keeps = min(keeps, modelTimeouts["init"])
		}
		if m.now < f.last+keeps {
			live = append(live, f)
		}
	}
	m.flows = live
}

var (
	modelHost  = netip.MustParseAddr(HostAddr)
	modelWeb   = netip.MustParseAddrPort("10.1.0.11:80")
	modelEntry = netip.AddrPortFrom(modelHost, 8080)
)

// packet is what the model says of a packet: where it comes out, from and to
// whom, and whether the port it comes from is a new mapping, which the switch
// chooses. An empty station is a drop.
func (m *natModel) packet(proto uint8, at string, src, dst netip.AddrPort, flags uint8) (out modelEnd, from netip.AddrPort, fresh *modelFlow) {
	for _, f := range m.flows {
		if f.proto != proto {
			continue
		}
		if f.first == (modelEnd{at, src}) && f.firstSees == dst {
			if !f.step(true, flags, m.now) {
				return modelEnd{}, netip.AddrPort{}, nil
			}
			return f.second, f.secondSees, nil
		}
		if f.second == (modelEnd{at, src}) && f.secondSees == dst {
			if !f.step(false, flags, m.now) {
				return modelEnd{}, netip.AddrPort{}, nil
			}
			return f.first, f.firstSees, nil
		}
	}
	return m.begin(proto, at, src, dst, flags)
}

// begin is a packet of no flow.
func (m *natModel) begin(proto uint8, at string, src, dst netip.AddrPort, flags uint8) (out modelEnd, from netip.AddrPort, fresh *modelFlow) {
	if proto == header.ProtoTCP && (flags&RST != 0 || flags&(SYN|ACK) == SYN|ACK) {
		return
	}
	f := &modelFlow{proto: proto, first: modelEnd{at, src}, firstSees: dst, secondSees: src, last: m.now}
	switch entry := dst == modelEntry && proto != header.ProtoICMP; {
	case entry && at == "up":
		f.second = modelEnd{"c1", modelWeb}
		// The container spoke to this client from its service's port before.
		for i, o := range m.flows {
			if o.proto == proto && o.first == f.second && o.firstSees == src {
				if proto == header.ProtoTCP {
					return
				}
				m.flows = append(m.flows[:i:i], m.flows[i+1:]...)
				break
			}
		}
	case entry:
		f.second, f.mapped = modelEnd{"c1", modelWeb}, true
	case at == "up" || dst.Addr() == modelHost:
		return // nobody asked, or the host's own
	case proto == header.ProtoTCP && at == "c1" && src == modelWeb && flags&SYN == 0 && m.now < time.Minute:
		// The server goes on with a connection that began before the switch.
		f.first, f.firstSees, f.second, f.secondSees = modelEnd{"up", dst}, modelEntry, f.first, dst
		f.state, f.loose, f.back, f.ended = "init", true, true, flags&FIN != 0
		m.flows = append(m.flows, f)
		return f.first, f.firstSees, nil
	case proto == header.ProtoUDP && src == modelWeb: // from its published port
		f.second, f.secondSees = modelEnd{"up", dst}, modelEntry
	default:
		f.second, f.mapped = modelEnd{"up", dst}, true
	}
	switch proto {
	case header.ProtoTCP:
		f.state, f.loose = "init", flags&SYN == 0
	case header.ProtoUDP:
		f.state = "udp once"
	default:
		f.state = "ping"
	}
	m.flows = append(m.flows, f)
	if !f.mapped {
		return f.second, f.secondSees, nil
	}
	f.secondSees = netip.AddrPort{}
	for _, o := range m.flows {
		if o != f && o.mapped && o.proto == proto && o.first == f.first && o.secondSees.IsValid() {
			f.secondSees = o.secondSees // endpoint independent
		}
	}
	if !f.secondSees.IsValid() {
		return f.second, netip.AddrPort{}, f
	}
	return f.second, f.secondSees, nil
}

// step is a packet of a flow; it reports whether it passes.
func (f *modelFlow) step(first bool, flags uint8, now time.Duration) bool {
	if f.proto != header.ProtoTCP {
		if !first && f.state == "udp once" {
			f.state = "udp"
		}
		f.last = now
		return true
	}
	if flags&RST != 0 {
		return false // the packets of the test have none with the right number
	}
	syn, fin, ack := flags&SYN != 0, flags&FIN != 0, flags&ACK != 0
	was, me, other := f.state, "second", "first"
	if first {
		me, other = other, me
	}
	switch {
	case was == "init" && f.back && !first:
		f.ended = f.ended || fin
	case was == "init" && f.back && !syn:
		f.state, f.proven = "est", !f.ended
	case was == "init" && !first && (syn || f.loose):
		f.state, f.proven = "est", f.loose
	case was == "init" && syn && !ack:
		f.loose, f.back = false, false
	case was == "est" && fin:
		f.state = "fin " + me
	case was == "fin "+other && fin:
		f.state = "closed"
	case was == "reopen "+other && syn:
		f.state, f.last, f.proven, f.ended = "est", now, false, false
	case (was == "closed" || was == "reopen first" || was == "reopen second") && syn && !ack:
		f.state = "reopen " + me
	}
	if first && ack && !syn && !f.ended && (was == "est" || was[:2] == "fi") {
		f.proven = true
	}
	if was != "closed" && was[:2] != "re" {
		f.last = now
	}
	return true
}

// chosen notes the port that the switch has taken for a new mapping.
func (m *natModel) chosen(f *modelFlow, from netip.AddrPort) error {
	if from.Addr() != modelHost || from.Port() < 16384 && f.proto != header.ProtoICMP {
		return fmt.Errorf("mapped to %s", from)
	}
	for _, o := range m.flows {
		if o != f && o.mapped && o.proto == f.proto && o.secondSees == from && o.first != f.first {
			return fmt.Errorf("mapped to %s, which is that of %v", from, o.first)
		}
	}
	f.secondSees = from
	return nil
}
