package linux

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"syscall"

	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/kernel"
)

// uplinks are the indexes of those that are open.
type uplinks struct {
	mu  sync.Mutex
	set map[int]bool
}

func (u *uplinks) add(index int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.set == nil {
		u.set = make(map[int]bool)
	}
	u.set[index] = true
}

func (u *uplinks) remove(index int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.set, index)
}

func (u *uplinks) list() []int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Collect(maps.Keys(u.set))
}

// OthersPorts implements edge.Uplinks. Each of several switches makes the same parts, in the order of
// their identities: every so many blocks of 64 ports are one's. A port that another has had from before is its own,
// in whichever part it is, until its flows have ended.
func (e *Edge) OthersPorts() ([]edge.OthersPorts, error) {
	all, ports := map[string]bool{e.owner.Identity: true}, make([]edge.OthersPorts, len(kernel.OthersProtos))
	for i, proto := range kernel.OthersProtos {
		ports[i].Proto = proto
	}
	for _, index := range e.uplinks.list() {
		others, err := e.Kernel.Others(index)
		if errors.Is(err, kernel.ErrNoTCX) || errors.Is(err, syscall.ENODEV) {
			continue // nobody can tell; or it goes at this moment
		}
		if err != nil {
			return nil, err
		}
		for _, o := range others {
			all[o.Owner] = true
			for i := range ports {
				for word := range o.Ports[i] {
					ports[i].Ports[word] |= o.Ports[i][word]
				}
			}
		}
	}
	if len(all) == 1 {
		return nil, nil
	}
	rank := slices.Index(slices.Sorted(maps.Keys(all)), e.owner.Identity)
	for word := range len(ports[0].Ports) {
		if word%len(all) != rank && !e.cfg.OwnRanges {
			for i := range ports {
				ports[i].Ports[word] = ^uint64(0)
			}
		}
	}
	return ports, nil
}
