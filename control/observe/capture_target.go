package observe

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// target is a part of what a capture is asked for.
type target struct {
	kind string // container, network, uplink or all
	name string // of a network or an uplink, "" every uplink
	word directory.Word
}

// targetsOf reads the words of a capture's request.
func targetsOf(words []string) (list []target, err error) {
	for _, w := range words {
		kind, name, _ := strings.Cut(w, ":")
		switch {
		case w == "all", w == "uplink":
			list = append(list, target{kind: w})
		case (kind == "network" || kind == "uplink") && kind != w:
			if name == "" {
				return nil, noTarget(w)
			}
			list = append(list, target{kind: kind, name: name})
		default:
			word, err := directory.ParseWord(w)
			if err != nil || !knownWord(word) {
				return nil, noTarget(w)
			}
			list = append(list, target{kind: "container", word: word})
		}
	}
	if len(list) == 0 {
		list = []target{{kind: "all"}}
	}
	return list, nil
}

func noTarget(w string) error {
	return model.Invalidf("capture of %q: name a container, CONTAINER/INTERFACE, service:NAME, project:NAME, label:KEY=VALUE, network:NAME, uplink, uplink:INTERFACE or all", w)
}

// words are the targets as they were given.
func words(list []target) string {
	var out []string
	for _, t := range list {
		switch {
		case t.kind == "container":
			out = append(out, t.word.String())
		case t.name == "":
			out = append(out, t.kind)
		default:
			out = append(out, t.kind+":"+t.name)
		}
	}
	return strings.Join(out, ",")
}

// matches reports whether a port is called so; behind is the container that is or was there.
func (t target) matches(behind *directory.Container, p directory.Port) bool {
	switch t.kind {
	case "all":
		return true
	case "container":
		return t.word.FitsPort(behind, p)
	case "network":
		return p.Network == t.name
	}
	return p.Kind == directory.KindUplink && (t.name == "" || t.name == p.Ifname)
}

// wanted reports whether a port belongs to one of the targets.
func wanted(list []target, behind *directory.Container, p directory.Port) bool {
	return slices.ContainsFunc(list, func(t target) bool { return t.matches(behind, p) })
}

// check refuses what is not there: a name that is mistyped would wait for ever.
func (t *target) check(names *directory.Directory) error {
	switch t.kind {
	case "container":
		s, err := names.Select(t.word.String())
		if errors.Is(err, api.ErrNotFound) {
			return model.NotFoundf("%w, or capture --wait to begin before it comes", err)
		}
		if err != nil {
			return err
		}
		if ct := s.Containers[0]; !slices.ContainsFunc(s.Containers, func(ct *directory.Container) bool { return len(ct.Endpoints) > 0 }) {
			return model.Invalidf("container %s runs with --network %s and has no port of its own: capture elsewhere", ct.Name, ct.Mode)
		}
		t.word = s.Word
	case "network":
		n, err := names.Network(t.name)
		if err != nil {
			return model.NotFoundf("network %s does not exist: see vswitch network ls, or capture --wait to begin before it comes", t.name)
		}
		t.name = n.Name
	default:
		for _, id := range names.Ports(false) {
			if p, _ := names.Port(id); t.matches(nil, p) {
				return nil
			}
		}
		if t.name != "" {
			return model.NotFoundf("%s is no uplink: see vswitch stats, or capture --wait to begin before it is one", t.name)
		}
		return model.NotFoundf("the switch has no port for a capture of %q: capture --wait begins before one comes", t.kind)
	}
	return nil
}

// sight is the ports that targets name. A port once in sight stays, whatever it is
// called later, and so does its container.
type sight struct {
	targets []target
	ports   map[frame.PortID]sighted
}

// sighted says whose port is in sight, and whether for the sake of its container.
type sighted struct {
	owner  string
	byName bool
}

func (s *sight) has(id frame.PortID) bool { _, ok := s.ports[id]; return ok }

// list are the ports in sight, sorted.
func (s *sight) list() []frame.PortID { return slices.Sorted(maps.Keys(s.ports)) }

// update follows a change of the directory, and reports whether other ports are in sight.
func (s *sight) update(names *directory.Directory, changed []frame.PortID) (differs bool) {
	if s.ports == nil {
		s.ports = make(map[frame.PortID]sighted)
	}
	for _, id := range changed {
		p, ok := names.Port(id)
		was, had := s.ports[id]
		if had && ok && was.owner == p.Owner {
			continue
		}
		if had {
			delete(s.ports, id)
			differs = true
		}
		if !ok {
			continue
		}
		behind := names.Behind(id)
		byName := s.names(behind, p)
		if byName || wanted(s.targets, behind, p) {
			s.ports[id] = sighted{p.Owner, byName}
			differs = true
		}
	}
	return differs
}

// names reports whether a target names the container of a port, or named it when another
// of its ports came.
func (s *sight) names(behind *directory.Container, p directory.Port) bool {
	if p.Owner == "" {
		return false
	}
	if slices.ContainsFunc(s.targets, func(t target) bool { return t.kind == "container" && t.word.Ifname == "" && t.matches(behind, p) }) {
		return true
	}
	for _, o := range s.ports {
		if o.byName && o.owner == p.Owner {
			return true
		}
	}
	return false
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
			return 0, model.Invalidf("point %q: must be of rx, tx, drop, prenat, postnat", name)
		}
	}
	if s == 0 {
		s = 1<<dataplane.PointRx | 1<<dataplane.PointTx
	}
	return s, nil
}

// filterNames lets a filter use the names of containers and networks, with the
// addresses they have when the capture begins.
type filterNames struct{ *directory.Directory }

// Host implements pcapfilter.Names.
func (f filterNames) Host(name string) (list []netip.Addr) {
	if ct := f.Named(name); ct != nil {
		for _, e := range ct.Endpoints {
			list = append(list, e.Addrs...)
		}
	}
	return list
}

// Gateway implements pcapfilter.Names.
func (f filterNames) Gateway(name string) (macs [][6]byte, own []netip.Addr) {
	if ct := f.Named(name); ct != nil {
		for _, e := range ct.Endpoints {
			macs, own = append(macs, e.MAC), append(own, e.Addrs...)
		}
		return macs, own
	}
	if n := f.NetworkNamed(name); n != nil {
		macs = append(macs, n.MAC)
		for _, s := range n.Subnets {
			own = append(own, s.Gateway)
		}
	}
	return macs, own
}

// Net implements pcapfilter.Names.
func (f filterNames) Net(name string) (list []netip.Prefix) {
	if n := f.NetworkNamed(name); n != nil {
		for _, s := range n.Subnets {
			list = append(list, s.Prefix)
		}
	}
	return list
}
