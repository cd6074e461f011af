package linux

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/control/anyport"
	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/resolver"
)

// heldResolver is the name, with the holder, of the socket that leads to the resolver: it answers for as long
// as somebody has that open.
const heldResolver = "resolver"

// answering is a resolver with what leads to it.
type answering struct {
	*resolver.Client
	sockets *anyport.Sockets
	e       *Edge
}

// AnswerNames implements edge.Edge.
func (e *Edge) AnswerNames(changed func(resolver.Server)) (edge.Resolver, error) {
	s, err := resolver.Listen()
	if err != nil {
		return nil, err
	}
	a := answering{sockets: s, e: e}
	// Questions wait in them meanwhile.
	if err := e.steering.Resolve(s.FDs()); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	cfg := resolver.ClientConfig{Sockets: s, Changed: changed, Log: e.cfg.Log}
	if e.cfg.Holder != nil {
		cfg.Keep = func(fd int) error { return e.cfg.Holder.Put(heldResolver, fd, "") }
	}
	if a.Client, err = resolver.Start(cfg); err != nil {
		return nil, errors.Join(err, e.steering.Resolve([2]int{-1, -1}, [2]int{-1, -1}), s.Close())
	}
	return a, nil
}

// AnswerAt implements edge.Resolver.
func (a answering) AnswerAt(gateway netip.Addr, tcp, udp bool) error {
	return a.e.steering.AnswerAt(gateway, tcp, udp)
}

// NoGateway implements edge.Resolver.
func (a answering) NoGateway(gateway netip.Addr) error { return a.e.steering.NoGateway(gateway) }

// Close implements edge.Resolver.
func (a answering) Close() error {
	a.Client.Close()
	if !a.e.keep.Load() {
		a.e.cfg.Holder.Drop(heldResolver)
	}
	return a.sockets.Close()
}

// Listeners implements edge.Edge.
func (e *Edge) Listeners(port uint16) ([]host.Socket, error) {
	list, err := e.Host.Sockets()
	return slices.DeleteFunc(list, func(s host.Socket) bool { return s.Port != port }), err
}
