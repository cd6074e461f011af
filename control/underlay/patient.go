package underlay

import (
	"slices"
	"time"

	"github.com/vswitch/vswitch/control/host"
)

// comeBack is how long an interface that was set down may take to be up again, with its
// routes.
const comeBack = 4 * time.Second

// patient adds uplinks that were set down a moment ago: nothing leaves by them, and their
// flows go on when they are back. The flows end with the address that they leave with.
func (u *Underlay) patient(old []Uplink, wanted []host.Link) []host.Link {
	for _, o := range old {
		index := o.Link.Index
		if slices.ContainsFunc(wanted, func(l host.Link) bool { return l.Index == index }) {
			delete(u.down, index)
			continue
		}
		l, err := u.cfg.Edge.Link(o.Link.Name)
		if err != nil || l.Index != index {
			delete(u.down, index)
			continue
		}
		since, ok := u.down[index]
		if !ok && !l.Up {
			since = time.Now()
			u.down[index] = since
			time.AfterFunc(comeBack, u.Kick)
		}
		if time.Since(since) < comeBack {
			wanted = append(wanted, l)
			continue
		}
		delete(u.down, index)
	}
	return wanted
}
