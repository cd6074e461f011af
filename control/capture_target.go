package control

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/dataplane"
)

// target is a part of what a capture is asked for.
type target struct {
	kind string // container, network, uplink or all
	name string // "" every uplink
}

// targetsOf reads the words of a capture's request.
func targetsOf(words []string) (list []target, err error) {
	for _, w := range words {
		kind, name, named := strings.Cut(w, ":")
		switch {
		case w == "all", w == "uplink":
			list = append(list, target{kind: w})
		case !named && w != "":
			list = append(list, target{"container", w})
		case (kind == "container" || kind == "network" || kind == "uplink") && name != "":
			list = append(list, target{kind, name})
		default:
			return nil, invalidf("capture of %q: name a container, network:NAME, uplink, uplink:INTERFACE or all", w)
		}
	}
	if len(list) == 0 {
		list = []target{{kind: "all"}}
	}
	return list, nil
}

// words are the targets as they were given.
func words(list []target) string {
	var out []string
	for _, t := range list {
		switch {
		case t.name == "":
			out = append(out, t.kind)
		case t.kind == "container":
			out = append(out, t.name)
		default:
			out = append(out, t.kind+":"+t.name)
		}
	}
	return strings.Join(out, ",")
}

// wanted reports whether a port belongs to one of the targets.
func wanted(list []target, n portName) bool {
	return slices.ContainsFunc(list, func(t target) bool {
		switch t.kind {
		case "all":
			return true
		case "container":
			return n.kind == "container" && n.container == t.name
		case "network":
			return n.network == t.name
		}
		return n.kind == "uplink" && (t.name == "" || t.name == n.ifname)
	})
}

// checkTargetLocked refuses what is not there: a name that is mistyped would
// wait for ever.
func (c *Controller) checkTargetLocked(t *target) error {
	switch t.kind {
	case "container":
		ct, err := c.findContainerLocked(t.name)
		if err != nil {
			return notFoundf("%w, or capture --wait to begin before it comes", err)
		}
		if len(ct.endpoints) == 0 {
			return invalidf("container %s runs with --network %s and has no port of its own: capture elsewhere", t.name, ct.rec.Mode)
		}
		t.name = ct.rec.Name // it may have been its ID
	case "network":
		if c.networks[t.name] == nil {
			return notFoundf("network %s does not exist: see vswitch network ls, or capture --wait to begin before it comes", t.name)
		}
	default:
		for id := range c.byPort {
			if n, _ := c.portNameLocked(id); wanted([]target{*t}, n) {
				return nil
			}
		}
		if t.name != "" {
			return notFoundf("%s is no uplink: see vswitch stats, or capture --wait to begin before it is one", t.name)
		}
		return notFoundf("the switch has no port for a capture of %q: capture --wait begins before one comes", t.kind)
	}
	return nil
}

// pointsOf reads names of points; none is rx and tx.
func pointsOf(names []string) (s dataplane.Points, err error) {
	for _, name := range names {
		found := false
		for p := range dataplane.NumPoints {
			if p.String() == name {
				s, found = s|1<<p, true
			}
		}
		if !found {
			return 0, invalidf("point %q: must be of rx, tx, drop, prenat, postnat", name)
		}
	}
	if s == 0 {
		s = 1<<dataplane.PointRx | 1<<dataplane.PointTx
	}
	return s, nil
}

// filterNames lets a filter use the names of containers and networks, with the
// addresses they have when the capture begins. The controller is locked.
type filterNames struct{ c *Controller }

// Host implements pcapfilter.Names.
func (f filterNames) Host(name string) (list []netip.Addr) {
	if ct := f.c.containers[name]; ct != nil {
		for _, e := range ct.endpoints {
			list = append(list, e.addrs...)
		}
	}
	return list
}

// Gateway implements pcapfilter.Names.
func (f filterNames) Gateway(name string) (macs [][6]byte, own []netip.Addr) {
	if ct := f.c.containers[name]; ct != nil {
		for _, e := range ct.endpoints {
			macs, own = append(macs, e.mac), append(own, e.addrs...)
		}
		return macs, own
	}
	if n := f.c.networks[name]; n != nil {
		macs = append(macs, n.mac)
		for _, s := range n.rec.Subnets {
			own = append(own, s.Gateway)
		}
	}
	return macs, own
}

// Net implements pcapfilter.Names.
func (f filterNames) Net(name string) (list []netip.Prefix) {
	if n := f.c.networks[name]; n != nil {
		for _, s := range n.rec.Subnets {
			list = append(list, s.Prefix.Masked())
		}
	}
	return list
}
