package control

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Networks and containers that the state has lost are found again in the kernel: the aliases of links say which
// networks and containers they are of (inventory.Marks), the other end of a cable has the
// container's MAC address. Published ports are in no link, and are lost. Before that a copy in memory is
// asked for, which has all.

// identify gives a state that has lost something all that a copy in memory has. One that has lost
// its identity, and finds no copy, is given the one that the kernel's links have. One
// that is empty is lost, too, where a daemon that had the same directory has left something.
func identify(c *Controller, s *state.Contents) {
	held, in := c.edge.HeldFor()
	if s.Damage == nil && len(s.Networks) == 0 && in == c.cfg.StateDir && held != "" && held != c.store.Identity() {
		s.Damage = &state.Damage{File: state.FileName, Problem: "it was removed", Incomplete: true, Anonymous: true}
		s.Refused = errors.Join(s.Refused, c.store.Lost(s.Damage.Problem))
	}
	if s.Damage != nil && in == c.cfg.StateDir && c.store.Recall(c.edge.HeldState(), held, s) {
		return
	}
	if s.Damage == nil || !s.Damage.Anonymous {
		return
	}
	links, err := c.edge.Links()
	if id := inventory.LostOwner(links, held, len(c.store.Identity())); err == nil && id != "" {
		s.Refused = errors.Join(s.Refused, c.store.Adopt(id))
	}
}

// found is what was found again.
type found struct {
	networks   []string
	containers []string
	unresolved []string // containers that are left as they are: what they need is not there
}

// search adds to the state what only the kernel has.
func (r *restoring) search(s *state.Contents) (f found) {
	c := r.c
	taken := make(map[string]bool) // links, and names and IDs of networks and containers
	for _, n := range s.Networks {
		taken[n.TAP], taken["network "+n.Name], taken["network "+n.ID] = true, true, true
	}
	for _, ct := range s.Containers {
		taken["container "+ct.Name], taken["container ID "+ct.ID] = true, true
		for _, e := range ct.Endpoints {
			taken[e.Veth] = true
		}
	}
	// In the order in which they were made, which is that of a container's endpoints.
	names := slices.SortedFunc(maps.Keys(r.links), func(a, b string) int { return cmp.Compare(r.links[a].Index, r.links[b].Index) })
	for _, name := range names {
		l := r.links[name]
		rec, ok := c.inv.Marks.NetworkIn(l.Alias)
		if !ok || l.Kind != "tun" || taken[name] || taken["network "+rec.Name] || taken["network "+rec.ID] {
			continue
		}
		rec.TAP, rec.MTU, rec.Created = name, l.MTU, time.Now().UTC()
		taken[name], taken["network "+rec.Name], taken["network "+rec.ID] = true, true, true
		s.Networks = append(s.Networks, rec)
		f.networks = append(f.networks, rec.Name)
	}
	lost := make(map[string]*state.Container)
	for _, name := range names {
		l := r.links[name]
		rec, er, ok := c.inv.Marks.EndpointIn(l.Alias)
		if !ok || l.Kind != "veth" || taken[name] || taken["container "+rec.Name] {
			continue
		}
		peer, _, err := c.edge.Peer(name, l.Index)
		if err != nil {
			continue // it goes at this moment
		}
		// A link keeps the name that its container had when it was made. One with the same
		// interface, or of another runtime, belongs to another container, and stays.
		ct, port := lost[rec.Name], "port "+rec.Name+"/"+er.Ifname
		if taken[port] || ct != nil && (ct.Runtime != rec.Runtime || ct.RuntimeID != rec.RuntimeID) {
			continue
		}
		taken[port] = true
		er.Veth, er.Ifindex, er.Ifname, er.MAC = name, l.Index, peer.Name, macText(peer.MAC)
		if ct == nil {
			if rec.ID == "" || taken["container ID "+rec.ID] { // renamed since
				rec.ID = model.NewID()
			}
			rec.Created, rec.BootID = time.Now().UTC(), c.bootID
			rec.Handover = true // its namespace is not known, nor is it needed
			ct = &rec
			lost[rec.Name] = ct
		}
		ct.Endpoints = append(ct.Endpoints, er)
	}
	for _, name := range slices.Sorted(maps.Keys(lost)) {
		s.Containers = append(s.Containers, *lost[name])
		f.containers = append(f.containers, name)
	}
	return f
}

func macText(a net.HardwareAddr) string {
	if len(a) != len(header.MAC{}) {
		return ""
	}
	return a.String()
}

// keep stores what was found and is there now.
func (r *restoring) keep(f found) error {
	c := r.c
	var errs []error
	for _, name := range f.networks {
		c.mu.Lock()
		n := c.inv.Networks[name]
		c.mu.Unlock()
		if n != nil {
			errs = append(errs, (&netChange{c: c, n: n}).store())
		}
	}
	for _, name := range f.containers {
		c.mu.Lock()
		ct := c.inv.Containers[name]
		c.mu.Unlock()
		if ct != nil {
			errs = append(errs, (&change{c: c, ct: ct}).store())
		}
	}
	return errors.Join(errs...)
}

// tell says on one line, and as an event, what was wrong and what became of it.
func (r *restoring) tell(d *state.Damage, f found, left []string) {
	c := r.c
	text := "state: " + d.Summary()
	add := func(what string, names []string) {
		if len(names) > 0 {
			text += fmt.Sprintf("; %s: %s", what, strings.Join(names, ", "))
		}
	}
	add("networks found again in the kernel, with what their devices say", f.networks)
	add("containers found again by their interfaces, without published ports", f.containers)
	add("containers that cannot be restored now and are left as they are", f.unresolved)
	add("interfaces that nobody knows and that stay", left)
	c.log.Warn("damaged state", "what", text)
	c.events.Emit(api.Event{Type: api.EventStateDamaged, Message: text})
}

// spoiled removes records that cannot be, and those that a damaged state has twice.
func (r *restoring) spoiled(s *state.Contents) []string {
	bad, err := r.c.store.Discard(s, func(e state.Endpoint) bool { _, here := r.linkOf(e); return here })
	r.forget(err)
	return bad
}

// linkOf is the host end of a stored endpoint, if it is still the one that was stored.
func (r *restoring) linkOf(e state.Endpoint) (host.Link, bool) {
	l, ok := r.links[e.Veth]
	return l, ok && l.Index == e.Ifindex && l.Alias == e.Alias
}

// alive reports whether an interface of a container is up.
func (r *restoring) alive(rec state.Container) bool {
	return slices.ContainsFunc(rec.Endpoints, func(e state.Endpoint) bool {
		l, here := r.linkOf(e)
		return here && l.Up
	})
}

// unrestored are containers that a start has left as they are, by name. It is guarded by the
// controller's mu.
type unrestored map[string]state.Container

// bury removes such a container. The caller holds the name.
func (u unrestored) bury(c *Controller, name string) error {
	c.mu.Lock()
	rec, ok := u[name]
	c.mu.Unlock()
	if !ok {
		return nil
	}
	err := c.store.DeleteContainer(rec.ID)
	if err != nil {
		return containerErr(name, err)
	}
	c.mu.Lock()
	delete(u, name)
	c.mu.Unlock()
	for _, e := range rec.Endpoints {
		if l, e1 := c.edge.Link(e.Veth); e1 == nil && l.Index == e.Ifindex && l.Alias == e.Alias {
			err = errors.Join(err, c.edge.DelLink(e.Veth, e.Ifindex))
		}
	}
	c.log.Info("released", "container", name, "reason", "it could not be restored")
	return err
}

// forget is the end of a record. On a disk that refuses it the next start tries again.
func (r *restoring) forget(err error) {
	if err != nil {
		r.c.log.Warn("a record is not removed: the next daemon meets it again", "err", err)
	}
}

// stays reports whether a link that nobody knows is to be left alone.
func (r *restoring) stays(l host.Link) bool { return r.searched && l.Up }
