package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// EventKind says what an Event is about.
type EventKind uint8

const (
	// Resync: events may have been missed, read everything again. It is also
	// the first event of every Watch.
	Resync EventKind = iota
	// LinkChanged: Event.Link is new or has changed.
	LinkChanged
	// LinkGone: Event.Link was removed or left the namespace.
	LinkGone
	// AddrAdded and AddrGone: Event.Addr.
	AddrAdded
	AddrGone
	// RouteChanged: a route, a rule or a next hop came or went. Which one is best for its prefix is
	// a matter of all of them: read Routes again.
	RouteChanged
	// NeighborChanged: Event.Neighbor, with a nil MAC when it is not known any
	// more.
	NeighborChanged
	// QdiscChanged: a queueing discipline or a filter of an interface came or went.
	QdiscChanged
)

// Event is one change of the host's network.
type Event struct {
	Kind     EventKind
	Link     Link
	Addr     Addr
	Neighbor Neighbor
}

// watchBuffer is the socket's receive buffer in bytes: some 5,000 events. The
// events of a thousand containers that go at once fit.
const watchBuffer = 8 << 20

// Watch calls fn for every change, in the kernel's order and always from the
// goroutine that called Watch, until ctx ends; then it returns ctx.Err().
//
// The order is: subscribe, then fn(Resync), then the changes since the
// subscription. Who dumps links, addresses, routes and neighbours on Resync and
// applies the events that follow misses nothing; some changes may be seen twice.
// When the kernel's queue overran (ENOBUFS) there is one Resync again.
func (h *Host) Watch(ctx context.Context, fn func(Event)) error {
	return h.watch(ctx, watchBuffer, fn, unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_TC,
		unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_NEXTHOP)
}

// WatchLinks is Watch for links alone.
func (h *Host) WatchLinks(ctx context.Context, fn func(Event)) error {
	return h.watch(ctx, watchBuffer, fn, unix.RTNLGRP_LINK)
}

func (h *Host) watch(ctx context.Context, buffer int, fn func(Event), groups ...uint) error {
	err := h.follow(ctx, buffer, func() { fn(Event{Kind: Resync}) }, func(m syscall.NetlinkMessage) {
		if e, ok := parseEvent(m); ok {
			fn(e)
		}
	}, unix.NETLINK_ROUTE, groups...)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("watch the network: %w", err)
	}
	return err
}

// follow calls fn for what the kernel says to groups of a netlink family, and missed first and
// after each loss, until ctx ends. fn is not called for what waits in the queue that overran:
// missed finds it.
func (h *Host) follow(ctx context.Context, buffer int, missed func(), fn func(syscall.NetlinkMessage), family int, groups ...uint) error {
	// One socket for all groups: the kernel's order between them is kept.
	s, err := nl.SubscribeAt(netns.NsHandle(h.ns.fd), netns.None(), family, groups...)
	if err != nil {
		return err
	}
	defer s.Close()
	// SO_RCVBUFFORCE goes past net.core.rmem_max, but takes CAP_NET_ADMIN.
	if s.SetReceiveBufferSize(buffer, true) != nil {
		_ = s.SetReceiveBufferSize(buffer, false)
	}
	var open sync.Mutex // the descriptor is not another's while it is held
	stop := context.AfterFunc(ctx, func() {
		open.Lock()
		defer open.Unlock()
		s.Close()
	})
	defer stop()
	missed()
	for {
		msgs, from, err := s.Receive()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, unix.ENOBUFS):
			// Until the queue has been empty once the kernel drops all that comes, and does
			// not say so again (NETLINK_S_CONGESTED).
			open.Lock()
			if ctx.Err() == nil {
				err = empty(s.GetFd())
			}
			open.Unlock()
			if err != nil && ctx.Err() == nil && !errors.Is(err, unix.ENOBUFS) {
				return err
			}
			missed()
			continue
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, os.ErrClosed):
			return ctx.Err()
		case err != nil:
			return err
		case from.Pid != nl.PidKernel: // anybody in the namespace can send to a netlink socket
			continue
		}
		for _, m := range msgs {
			if ctx.Err() == nil {
				fn(m)
			}
		}
	}
}

// empty takes all that waits off a socket.
func empty(fd int) error {
	for {
		switch _, _, err := unix.Recvfrom(fd, make([]byte, 1), unix.MSG_DONTWAIT); err {
		case nil, unix.EINTR, unix.ENOBUFS:
		case unix.EAGAIN:
			return nil
		default:
			return err
		}
	}
}

func parseEvent(m syscall.NetlinkMessage) (e Event, ok bool) {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		e.Kind = LinkChanged
		if m.Header.Type == unix.RTM_DELLINK {
			e.Kind = LinkGone
		}
		e.Link, ok = parseLink(m.Data)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		e.Kind = AddrAdded
		if m.Header.Type == unix.RTM_DELADDR {
			e.Kind = AddrGone
		}
		e.Addr, ok = parseAddr(m.Data)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		// Of any table: rules may lead to it. A cache entry is none.
		e.Kind = RouteChanged
		ok = len(m.Data) >= unix.SizeofRtMsg && nl.DeserializeRtMsg(m.Data).Flags&unix.RTM_F_CLONED == 0
	case unix.RTM_NEWRULE, unix.RTM_DELRULE, unix.RTM_NEWNEXTHOP, unix.RTM_DELNEXTHOP:
		e.Kind, ok = RouteChanged, true
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		e.Kind = NeighborChanged
		e.Neighbor, ok = parseNeighbor(m.Data)
		if m.Header.Type == unix.RTM_DELNEIGH {
			e.Neighbor.MAC = nil
		}
	case unix.RTM_NEWQDISC, unix.RTM_DELQDISC, unix.RTM_NEWTFILTER, unix.RTM_DELTFILTER:
		e.Kind, ok = QdiscChanged, true
	}
	return e, ok
}
