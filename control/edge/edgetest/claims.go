package edgetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/names"
	"github.com/vswitch/vswitch/control/relay"
	"github.com/vswitch/vswitch/control/resolver"
	"github.com/vswitch/vswitch/dataplane/bpfmap"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Flows implements edge.Claims. There is no flow table.
func (e *Edge) Flows() bpfmap.FlowDescriptor { return bpfmap.FlowDescriptor{} }

// Peers implements edge.Claims.
func (e *Edge) Peers() bpfmap.PeerDescriptor { return flowtest.DescribePeers(peers{e}) }

// Published implements edge.Claims.
func (e *Edge) Published() flowmap.ClaimPlane { return e.published }

// Opened implements edge.Claims.
func (e *Edge) Opened() flowmap.ClaimPlane { return e.opened }

// ClaimSlot implements edge.Claims.
func (e *Edge) ClaimSlot(addr netip.Addr, slot int) error {
	unlock, err := e.enter("ClaimSlot")
	if err != nil {
		return err
	}
	defer unlock()
	if !addr.IsValid() || addr.IsUnspecified() {
		return fmt.Errorf("claim slot: %v is no address of a host", addr)
	}
	if slot <= flowmap.WildcardSlot || slot >= flowmap.WildcardSlot6 {
		return fmt.Errorf("claim slot %d for %v: slots of addresses are 1 to %d", slot, addr, flowmap.WildcardSlot6-1)
	}
	for other, held := range e.slots {
		if (other == addr) != (held == slot) {
			return fmt.Errorf("claim slot %d for %v: %v has slot %d: drop that first", slot, addr, other, held)
		}
	}
	for other, held := range e.leftSlots {
		if (other == addr) != (held == slot) {
			e.dropSlot(other, held)
		}
	}
	delete(e.leftSlots, addr)
	e.slots[addr] = slot
	return nil
}

// Settle implements edge.Claims.
func (e *Edge) Settle() error {
	unlock, err := e.enter("Settle")
	if err != nil {
		return err
	}
	defer unlock()
	for addr, slot := range e.leftSlots {
		e.dropSlot(addr, slot)
	}
	for p := range e.leftSubnets {
		delete(e.subnets, p)
	}
	e.leftSubnets = nil
	return nil
}

// DropSlot implements edge.Claims.
func (e *Edge) DropSlot(addr netip.Addr) error {
	unlock, err := e.enter("DropSlot")
	if err != nil {
		return err
	}
	defer unlock()
	slot, ok := e.slots[addr]
	if !ok {
		return nil
	}
	e.dropSlot(addr, slot)
	return nil
}

func (e *Edge) dropSlot(addr netip.Addr, slot int) {
	delete(e.slots, addr)
	delete(e.leftSlots, addr)
	first, end := flowmap.ClaimWord(slot, header.ProtoTCP, 0), flowmap.ClaimWord(slot+1, header.ProtoTCP, 0)
	clear(e.opened[first:end])
	clear(e.published[first:end])
	maps.DeleteFunc(e.peers, func(p flowmap.Peer, _ bool) bool { return int(p.Slot) == slot })
}

// ClaimSubnet implements edge.Claims.
func (e *Edge) ClaimSubnet(p netip.Prefix, routed bool) error {
	unlock, err := e.enter("ClaimSubnet")
	if err != nil {
		return err
	}
	defer unlock()
	_, claimed := e.subnets[p]
	if len(e.subnets) >= flowmap.MaxSubnets && !claimed {
		return fmt.Errorf("claim subnet %s: %d subnets are claimed already", p, flowmap.MaxSubnets)
	}
	e.subnets[p] = routed
	delete(e.leftSubnets, p)
	return nil
}

// DropSubnet implements edge.Claims.
func (e *Edge) DropSubnet(p netip.Prefix) error {
	unlock, err := e.enter("DropSubnet")
	if err != nil {
		return err
	}
	defer unlock()
	delete(e.subnets, p)
	return nil
}

// Consumers implements edge.Claims.
func (e *Edge) Consumers() []host.Consumer {
	e.k.mu.Lock()
	defer e.k.mu.Unlock()
	return slices.Clone(e.k.consumers)
}

// WatchConsumers implements edge.Claims.
func (e *Edge) WatchConsumers(ctx context.Context, changed func()) {
	e.k.mu.Lock()
	if e.k.consumed == nil {
		e.k.consumed = make(map[*Edge]func())
	}
	e.k.consumed[e] = changed
	e.k.mu.Unlock()
	<-ctx.Done()
	e.k.mu.Lock()
	defer e.k.mu.Unlock()
	delete(e.k.consumed, e)
}

// Consume says what of the host takes packets of SCTP and of protocols without ports.
func (k *Kernel) Consume(list ...host.Consumer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.consumers = list
	for _, changed := range k.consumed {
		changed()
	}
}

// peers are the peers that a process has claimed.
type peers struct{ e *Edge }

// Claim implements bpfmap.Peers.
func (p peers) Claim(peer flowmap.Peer) error {
	unlock, err := p.e.enter("Claim")
	if err != nil {
		return err
	}
	defer unlock()
	p.e.peers[peer] = true
	return nil
}

// Drop implements bpfmap.Peers.
func (p peers) Drop(peer flowmap.Peer) {
	p.e.k.mu.Lock()
	defer p.e.k.mu.Unlock()
	delete(p.e.peers, peer)
}

// Claimed implements bpfmap.Peers.
func (p peers) Claimed() ([]flowmap.Peer, error) {
	p.e.k.mu.Lock()
	defer p.e.k.mu.Unlock()
	return slices.Collect(maps.Keys(p.e.peers)), nil
}

// Strange implements bpfmap.Peers: nothing reaches the host.
func (peers) Strange(flowmap.Peer) (time.Duration, bool) { return 0, false }

// Settle implements bpfmap.Peers.
func (peers) Settle() {}

// Close implements bpfmap.Peers.
func (peers) Close() error { return nil }

// steering is a relay that carries nothing: Dial asks where it would lead.
type steering struct{ e *Edge }

// Steer implements edge.Edge.
func (e *Edge) Steer(func(relay.Reached)) (edge.Relay, error) {
	unlock, err := e.enter("Steer")
	if err != nil {
		return nil, err
	}
	defer unlock()
	e.steers = true
	return steering{e}, nil
}

// answering is a resolver that nobody reaches: Answer asks what it would say.
type answering struct{ names.Zone }

// AnswerNames implements edge.Edge.
func (e *Edge) AnswerNames(func(resolver.Server)) (edge.Resolver, error) {
	unlock, err := e.enter("AnswerNames")
	if err != nil {
		return nil, err
	}
	defer unlock()
	return new(answering), nil
}

// Listeners implements edge.Edge: no program of the model has a socket.
func (e *Edge) Listeners(uint16) ([]host.Socket, error) { return nil, nil }

// Begin, AnswerAt, NoGateway, Stats and Close implement edge.Resolver.
func (a *answering) Begin()                                {}
func (a *answering) AnswerAt(netip.Addr, bool, bool) error { return nil }
func (a *answering) NoGateway(netip.Addr) error            { return nil }
func (a *answering) Stats() resolver.Stats                 { return resolver.Stats{} }
func (a *answering) Close() error                          { return nil }

// Lead implements edge.Edge: all is relayed.
func (e *Edge) Lead(_ map[netip.Addr]bool, ways []relay.Way) { e.ways.Set(ways) }

// ConnectHooks implements edge.Edge.
func (e *Edge) ConnectHooks() error { return errors.New("the model has no hooks") }

// Stats implements edge.Relay.
func (s steering) Stats() relay.Stats { return relay.Stats{} }

// Recheck implements edge.Relay.
func (s steering) Recheck() {}

// Close implements edge.Relay.
func (s steering) Close() error {
	s.e.k.mu.Lock()
	defer s.e.k.mu.Unlock()
	s.e.steers = false
	return nil
}

// Dial is a connection of the host itself to an address of its own: the container that
// serves it, if a published port is claimed there.
func (k *Kernel) Dial(proto uint8, to netip.AddrPort) (target netip.AddrPort, ok bool) {
	if !k.Claimed(proto, to) {
		return netip.AddrPort{}, false
	}
	k.mu.Lock()
	steers, ways := k.process.steers, &k.process.ways
	k.mu.Unlock()
	if !steers {
		return netip.AddrPort{}, false
	}
	return ways.Resolve(proto, to)
}

// Claimed reports whether a port of an address of the host is the switch's.
func (k *Kernel) Claimed(proto uint8, at netip.AddrPort) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.process
	if e == nil {
		return false
	}
	wild := flowmap.WildcardSlot
	if at.Addr().Is6() {
		wild = flowmap.WildcardSlot6
	}
	if slot, ok := e.slots[at.Addr()]; ok && e.published.Test(slot, proto, at.Port()) {
		return true
	}
	return e.published.Test(wild, proto, at.Port())
}
