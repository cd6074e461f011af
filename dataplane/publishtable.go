package dataplane

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/vswitch/vswitch/dataplane/header"
)

// publishTable finds the interval a host port lies in: one sorted list for each
// protocol and host address, the unspecified address for every address of its
// family.
type publishTable map[publishKey][]PublishConfig

type publishKey struct {
	addr  header.Addr
	proto uint8
}

func (t *publishTable) add(p PublishConfig) {
	if *t == nil {
		*t = make(publishTable)
	}
	k := publishKey{p.HostAddr, p.Proto}
	(*t)[k] = append((*t)[k], p)
}

// overlaps reports whether one of an interval's ports is published at its address already.
func (t publishTable) overlaps(p PublishConfig) bool {
	return slices.ContainsFunc(t[publishKey{p.HostAddr, p.Proto}], func(o PublishConfig) bool {
		return o.HostFirst <= p.HostLast && p.HostFirst <= o.HostLast
	})
}

func (t publishTable) sort() error {
	for k, list := range t {
		slices.SortFunc(list, func(a, b PublishConfig) int { return cmp.Compare(a.HostFirst, b.HostFirst) })
		for i := 1; i < len(list); i++ {
			if list[i].HostFirst <= list[i-1].HostLast {
				return fmt.Errorf("publish: port %d of protocol %d twice", list[i].HostFirst, k.proto)
			}
		}
	}
	return nil
}

func (t publishTable) find(proto uint8, addr header.Addr, port uint16) *PublishConfig {
	if len(t) == 0 {
		return nil
	}
	if iv := search(t[publishKey{addr, proto}], port); iv != nil {
		return iv
	}
	return search(t[publishKey{everyAddr(addr), proto}], port)
}

// everyAddr is the unspecified address of a's family.
func everyAddr(a header.Addr) header.Addr {
	if a.Is4() {
		return header.AddrFrom4([4]byte{})
	}
	return header.Addr{}
}

func search(list []PublishConfig, port uint16) *PublishConfig {
	i, found := slices.BinarySearchFunc(list, port, func(iv PublishConfig, p uint16) int { return cmp.Compare(iv.HostFirst, p) })
	if !found {
		i--
	}
	if i < 0 || port > list[i].HostLast {
		return nil
	}
	return &list[i]
}
