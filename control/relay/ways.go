package relay

import (
	"net/netip"
	"slices"
	"sync"
)

// Way leads an interval of published ports of the host to a container.
type Way struct {
	Proto uint8          `json:"proto"` // header.ProtoTCP or header.ProtoUDP
	Addr  netip.Addr     `json:"addr"`  // of the host; unspecified: each of its family
	First uint16         `json:"first"`
	Last  uint16         `json:"last"`
	To    netip.AddrPort `json:"to"` // where First leads, perhaps by the other family
}

// Ways finds the container behind a published port. It is safe for concurrent use.
type Ways struct {
	mu sync.RWMutex // guards what follows
	at map[where][]Way
}

type where struct {
	proto uint8
	addr  netip.Addr
}

// NewWays has the ways of a list.
func NewWays(list []Way) *Ways {
	w := new(Ways)
	w.Change(nil, list)
	return w
}

// Change takes some ways out and enters others, in one step.
func (w *Ways) Change(drop, add []Way) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changeLocked(drop, add)
}

func (w *Ways) changeLocked(drop, add []Way) {
	if w.at == nil {
		w.at = make(map[where][]Way)
	}
	for _, d := range drop {
		k := where{d.Proto, d.Addr}
		if w.at[k] = slices.DeleteFunc(w.at[k], func(have Way) bool { return have == d }); len(w.at[k]) == 0 {
			delete(w.at, k)
		}
	}
	for _, a := range add {
		k := where{a.Proto, a.Addr}
		w.at[k] = append(w.at[k], a)
	}
}

// Set has only these.
func (w *Ways) Set(list []Way) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = nil
	w.changeLocked(nil, list)
}

// Resolve finds the container of a port that is published at a host address.
func (w *Ways) Resolve(proto uint8, local netip.AddrPort) (netip.AddrPort, bool) {
	asked := local.Addr().Unmap()
	all := netip.IPv4Unspecified()
	if asked.Is6() {
		all = netip.IPv6Unspecified()
	}
	w.mu.RLock()
	defer w.mu.RUnlock()
	for _, addr := range [2]netip.Addr{asked, all} {
		for _, e := range w.at[where{proto, addr}] {
			if e.First <= local.Port() && local.Port() <= e.Last {
				return netip.AddrPortFrom(e.To.Addr(), e.To.Port()+local.Port()-e.First), true
			}
		}
	}
	return netip.AddrPort{}, false
}
