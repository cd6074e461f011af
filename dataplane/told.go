package dataplane

import (
	"sync"

	"github.com/vswitch/vswitch/dataplane/bpfmap"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// The programs answer questions for MAC addresses as the answer stage does while nobody is
// there, so that no neighbour's entry fails in the meantime (ADR 36). They are told after each
// change of the snapshot.

// told is what the programs have been told.
type told struct {
	maps bpfmap.Flows // nil: there are no programs

	mu       sync.Mutex // guards what follows
	askers   book[uint32, flowmap.Asker]
	stations book[flowmap.StationKey, flowmap.Station]
	// settled says that all is there again that a process before had: until then what it has
	// told stays.
	settled bool
}

// newTold begins with what a process before has told.
func newTold(maps bpfmap.Flows) (*told, error) {
	t := &told{maps: maps}
	if maps == nil {
		return t, nil
	}
	left, err := maps.Stations()
	t.askers.adopt(left.Askers)
	t.stations.adopt(left.At)
	return t, err
}

// renew tells the programs what the snapshot says. Where there is no room for a station, the
// next change tries again.
func (t *told) renew(s *Switch) {
	if t.maps == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.askers.round++
	t.stations.round++
	s.snapshot.Load().tells(t.askers.say, t.stations.say)
	if t.settled {
		gone := flowmap.Stations{Askers: t.askers.gone(), At: t.stations.gone()}
		if len(gone.Askers)+len(gone.At) > 0 && t.maps.Forget(gone) == nil {
			t.askers.forget(gone.Askers)
			t.stations.forget(gone.At)
		}
	}
	more := flowmap.Stations{Askers: t.askers.more(), At: t.stations.more()}
	if len(more.Askers)+len(more.At) > 0 && t.maps.Tell(more) == nil {
		t.askers.enter(more.Askers)
		t.stations.enter(more.At)
	}
}

// settle ends what a process before has told and nobody has again.
func (t *told) settle(s *Switch) {
	t.mu.Lock()
	t.settled = true
	t.mu.Unlock()
	t.renew(s)
}

// book is what one of the maps has or is to have.
type book[K, V comparable] struct {
	lines map[K]*line[V]
	round int
}

type line[V comparable] struct {
	says    V
	round   int  // in which it was said last
	entered bool // the map has it
}

// adopt begins with what the map has.
func (b *book[K, V]) adopt(all map[K]V) {
	b.lines = make(map[K]*line[V], len(all))
	for k, v := range all {
		b.lines[k] = &line[V]{says: v, entered: true}
	}
}

func (b *book[K, V]) say(k K, v V) {
	l := b.lines[k]
	if l == nil {
		l = new(line[V])
		b.lines[k] = l
	}
	if l.round = b.round; l.says != v {
		l.says, l.entered = v, false
	}
}

// gone are the lines that nobody has said in this round.
func (b *book[K, V]) gone() map[K]V {
	return b.which(func(l *line[V]) bool { return l.round != b.round })
}

// more are the lines that are to be entered.
func (b *book[K, V]) more() map[K]V {
	return b.which(func(l *line[V]) bool { return l.round == b.round && !l.entered })
}

func (b *book[K, V]) which(is func(*line[V]) bool) map[K]V {
	list := make(map[K]V)
	for k, l := range b.lines {
		if is(l) {
			list[k] = l.says
		}
	}
	return list
}

func (b *book[K, V]) enter(all map[K]V) {
	for k := range all {
		b.lines[k].entered = true
	}
}

func (b *book[K, V]) forget(all map[K]V) {
	for k := range all {
		delete(b.lines, k)
	}
}

// tells says who may ask, and of whom the stages would tell whom (whoHas). Only the ports ask
// of whose frames the kernel carries some.
func (s *Snapshot) tells(asker func(uint32, flowmap.Asker), station func(flowmap.StationKey, flowmap.Station)) {
	classes := s.classes()
	for _, n := range s.networks {
		n.tells(s, asker, station)
	}
	for _, p := range s.ports {
		if p == nil || p.Kind != PortContainer || p.VLAN != 0 {
			continue
		}
		if p.carriesRouted() {
			asker(p.Ifindex, flowmap.Asker{Network: uint32(p.Network), MAC: p.MAC, Flags: flowmap.AskerIP4 | flowmap.AskerIP6, Hidden: classes[p].hidden()})
		}
		if p.own.linkLocal != (header.Addr{}) && p.network.ipv6 {
			station(flowmap.StationKey{Network: uint32(p.Network), Addr: p.own.linkLocal}, flowmap.Station{Port: p.Ifindex, MAC: p.MAC, Class: classes[p].number()})
		}
	}
	for a, h := range s.stations {
		if p := s.ports[h.port]; p.Kind == PortContainer && p.VLAN == 0 {
			station(flowmap.StationKey{Network: uint32(p.Network), Addr: a}, flowmap.Station{Port: p.Ifindex, MAC: h.mac, Class: classes[p].number()})
		}
	}
}

// tells adds the gateway of a network, and the host, which asks for containers.
func (n *network) tells(s *Snapshot, asker func(uint32, flowmap.Asker), station func(flowmap.StationKey, flowmap.Station)) {
	gateway := flowmap.Station{MAC: n.GatewayMAC, Flags: flowmap.StationGateway}
	if n.HostPort != frame.NoPort && s.ports[n.HostPort] != nil {
		gateway.Port = s.ports[n.HostPort].Ifindex
	}
	for _, a := range n.gateway {
		if a != (header.Addr{}) {
			station(flowmap.StationKey{Network: uint32(n.ID), Addr: a}, gateway)
		}
	}
	if gateway.Port == 0 {
		return
	}
	if n.ipv6 && n.closed[1] == nil {
		station(flowmap.StationKey{Network: uint32(n.ID), Addr: n.linkLocal}, gateway)
	}
	host := flowmap.Asker{Network: uint32(n.ID), MAC: n.GatewayMAC, Flags: flowmap.AskerHost}
	for i, flag := range [2]uint16{flowmap.AskerIP4, flowmap.AskerIP6} {
		if n.closed[i] == nil {
			host.Flags |= flag
		}
	}
	asker(gateway.Port, host)
}
