package observe

import (
	"cmp"
	"context"
	"slices"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/share"
)

// Shares lists what each container has of the tables that all share: those who have most of
// a table first.
func (o *Observer) Shares(context.Context) ([]api.Share, error) {
	room, list := o.sw.Shares()
	return ViewShares(o.dir.Now(), room, list), nil
}

// ViewShares names what the data path counts by port. Entries of a container that is gone
// are told with an empty name.
func ViewShares(names *directory.Directory, room [dataplane.NumShared]int, list []dataplane.Shares) []api.Share {
	out := []api.Share{}
	for _, h := range list {
		p, _ := names.Port(h.Tenant)
		for n, u := range h.Of {
			if u == (share.Use{}) {
				continue
			}
			s := api.Share{
				Container: cmp.Or(p.Container, p.Name), ContainerID: p.Owner, Networks: []string{}, Shared: dataplane.Shared(n).String(),
				Held: u.Held, Room: room[n], Gave: u.Gave, Refused: u.Refused,
			}
			if ct := names.ByID(p.Owner); ct != nil {
				for _, e := range ct.Endpoints {
					s.Networks = append(s.Networks, e.Network)
				}
			}
			i := slices.IndexFunc(out, func(o api.Share) bool {
				return o.Container == s.Container && o.ContainerID == s.ContainerID && o.Shared == s.Shared
			})
			if i < 0 {
				out = append(out, s)
				continue
			}
			out[i].Held += s.Held
			out[i].Gave += s.Gave
			out[i].Refused += s.Refused
		}
	}
	slices.SortStableFunc(out, func(a, b api.Share) int {
		return cmp.Or(cmp.Compare(a.Shared, b.Shared), cmp.Compare(b.Held, a.Held), cmp.Compare(b.Refused, a.Refused), cmp.Compare(a.Container, b.Container))
	})
	return out
}
