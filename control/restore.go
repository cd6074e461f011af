package control

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/plan"
	"github.com/vswitch/vswitch/control/state"
)

// restore brings back what the state holds, checks it against the kernel, drops
// what has vanished and deletes what nobody knows.
func (c *Controller) restore(s state.Contents) error {
	links, err := c.edge.Links()
	if err != nil {
		return err
	}
	r := &restoring{c: c, links: c.inv.FollowStored(&s, links), networks: make(map[string]*inventory.Network, len(s.Networks))}
	damage := s.Damage
	if bad := r.spoiled(&s); len(bad) > 0 && damage == nil {
		damage = &state.Damage{File: state.FileName, Problem: "records that cannot be", Lost: bad, Incomplete: true}
	}
	var again found
	if r.searched = damage != nil && damage.Incomplete; r.searched {
		again = r.search(&s)
	}
	for _, rec := range s.Networks {
		n, err := r.network(rec, s.Cursors[rec.ID])
		if err != nil {
			return err
		}
		if n.Rec.Number != rec.Number || n.Rec.PortNumber != rec.PortNumber {
			warnUnstored(c.log, "network "+rec.Name, (&netChange{c: c, n: n}).store())
		}
		r.networks[rec.ID] = n
	}
	known := make(map[string]bool)
	for _, n := range r.networks {
		known[n.Rec.TAP] = true
	}
	count := 0
	all, failed := r.containers(s.Containers)
	for i, rec := range s.Containers {
		ct, err := all[i], failed[i]
		if errors.Is(err, errNoNetwork) || err != nil && r.searched && r.alive(rec) {
			// Its record and its interfaces are for the start that has what it needs again.
			c.log.Error("container not restored", "container", rec.Name, "reason", err)
			again.unresolved = append(again.unresolved, rec.Name)
			c.unrestored[rec.Name] = rec
			for _, e := range rec.Endpoints {
				known[e.Veth] = true
			}
			continue
		}
		if err != nil {
			c.log.Warn("container not restored", "container", rec.Name, "reason", err)
			r.forget(c.store.DeleteContainer(rec.ID))
			continue
		}
		count++
		for _, e := range ct.Endpoints {
			known[e.Veth] = true
		}
		r.storeRenumbered(ct, rec)
	}
	var left []string
	for _, l := range links {
		if !c.inv.Marks.IsLeftover(l) || known[l.Name] {
			continue
		}
		if r.stays(l) {
			left = append(left, l.Name)
			continue
		}
		c.log.Warn("leftover interface removed", "interface", l.Name, "alias", strings.TrimPrefix(l.Alias, c.inv.Marks.Alias()))
		if err := c.edge.DelLink(l.Name, l.Index); err != nil {
			c.log.Error("remove leftover interface", "interface", l.Name, "err", err)
		}
	}
	if damage != nil {
		r.tell(damage, again, left)
	}
	err = r.keep(again)
	if err == nil && r.searched && len(left) == 0 && len(again.unresolved) == 0 {
		err = c.store.Searched()
	}
	if err != nil {
		c.log.Error("what was found again is not stored", "err", joined(err))
	}
	if err := c.builder.rebuild(); err != nil {
		return err
	}
	c.storeNumbers() // of what was claimed
	for _, n := range r.networks {
		if !r.searched { // else its containers may not be known
			c.dropEphemeral(n.Rec.Name)
		}
	}
	if count > 0 {
		c.log.Info("restored", "networks", len(r.networks), "containers", count)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ct := range c.inv.Containers {
		c.watchProcess(ct)
	}
	return nil
}

// restoring is a start, at which nothing else runs.
type restoring struct {
	c        *Controller
	links    map[string]host.Link          // by name
	networks map[string]*inventory.Network // by ID
	searched bool                          // the state is incomplete: nothing that is alive is removed
}

// errNoNetwork: the network of an endpoint is not there.
var errNoNetwork = errors.New("its network is gone: detach it, or attach it again")

// network raises a stored network under its old name, addresses and
// device.
func (r *restoring) network(rec state.Network, cursors []netip.Addr) (*inventory.Network, error) {
	c := r.c
	n := inventory.NewNetwork(rec)
	n.Fill(cursors)
	for _, s := range rec.Subnets {
		if route, bad := r.overlapsForeign(rec, s.Prefix); bad {
			c.log.Warn("subnet of a network overlaps a route of the host", "network", rec.Name, "subnet", s.Prefix, "route", route)
		}
	}
	h := &netChange{c: c, n: n, delta: plan.Network{Found: true}}
	return n, h.apply()
}

// overlapsForeign leaves the network's own device out of the question.
func (r *restoring) overlapsForeign(rec state.Network, p netip.Prefix) (string, bool) {
	route, bad := r.c.edge.Overlaps(p)
	if strings.HasSuffix(route, "dev "+rec.TAP) {
		return "", false
	}
	return route, bad
}

// containers takes them over, several at once. Of each the directory is told in the end.
func (r *restoring) containers(list []state.Container) ([]*inventory.Container, []error) {
	all, errs := make([]*inventory.Container, len(list)), make([]error, len(list))
	defer r.c.inv.Together(&r.c.mu)()
	plan.SideBySide(len(list), func(i int) { all[i], errs[i] = r.container(list[i]) })
	return all, errs
}

// container takes a container over whose cables are the ones it had. The
// error says what is missing; what was left of it is removed.
func (r *restoring) container(rec state.Container) (*inventory.Container, error) {
	c := r.c
	if rec.Bound && rec.BootID != c.bootID {
		return nil, errors.New("the host was started anew")
	}
	ct := &inventory.Container{Rec: rec}
	ct.Rec.Endpoints, ct.Rec.Ports = nil, nil
	var found []foundEndpoint
	for _, er := range rec.Endpoints {
		if _, here := r.linkOf(er); !here {
			c.log.Warn("endpoint has vanished", "container", rec.Name, "interface", er.Ifname)
			continue
		}
		if r.networks[er.Network] == nil {
			return nil, errNoNetwork
		}
		found = append(found, foundEndpoint{er, r.networks[er.Network]})
	}
	if len(rec.Endpoints) > 0 && len(found) == 0 {
		return nil, errors.New("its interface or namespace has vanished")
	}
	h := &change{c: c, ct: ct, spare: r.searched, delta: plan.Container{Whole: true, Bound: rec.Bound, Found: true}}
	h.recover(found)
	if err := h.apply(); err != nil {
		return nil, err
	}
	for _, p := range rec.Ports {
		h := &change{c: c, ct: ct, delta: plan.Container{Found: true}, byHand: p.ByHand}
		if rec.BootID == c.bootID {
			h.kept = p.Kept
		}
		h.publish(model.PublishSpec{
			Proto: p.Proto, HostIP: p.HostIP, HostFirst: p.HostFirst, HostLast: p.HostLast,
			ContainerFirst: p.ContainerFirst, ContainerLast: p.ContainerFirst + (p.HostLast - p.HostFirst),
		})
		if err := h.apply(); err != nil {
			// The container goes on without: its other connections matter more.
			c.log.Error("port not published again", "container", rec.Name, "port", h.specs[0], "err", err)
		}
	}
	return ct, nil
}

// storeRenumbered stores the numbers that a restored container has and its record has
// not. The record stays otherwise: what could not be restored may be by the next daemon.
func (r *restoring) storeRenumbered(ct *inventory.Container, rec state.Container) {
	c := r.c
	c.mu.Lock()
	latest, differs := c.inv.Numbers.Latest(), false
	rec.Endpoints = slices.Clone(rec.Endpoints)
	for i := range rec.Endpoints {
		er := &rec.Endpoints[i]
		for _, e := range ct.Endpoints {
			if e.Veth == er.Veth && int(e.Port) != er.PortNumber {
				er.PortNumber, differs = int(e.Port), true
			}
		}
	}
	c.mu.Unlock()
	if differs {
		warnUnstored(c.log, "container "+rec.Name, c.store.PutContainer(rec, nil, latest))
	}
}
