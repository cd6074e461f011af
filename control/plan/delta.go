package plan

import "slices"

// Container is a change of a container: what it gains or, with Gone, loses.
type Container struct {
	// Whole: the container itself comes or goes, with all that it has.
	Whole bool
	Bound bool // to a process, and Whole

	Endpoints []string // for people, in the order in which they are joined
	Ports     []string // likewise

	Rename, Relabel bool

	// Gone turns the change round: what was gained is lost.
	Gone bool
	// Found: the record is on disk and the cables are there; a daemon before made them.
	// The next snapshot, which its caller orders, shows all that was found.
	Found bool
	// Unattended: nobody waits for the cables to go.
	Unattended bool
	// Reroute: the container's default routes can be given to what is left, or to what came.
	Reroute bool
}

// Plan returns the steps of the change. The plan of what is lost is the inverse of the
// plan that gained it, except that the disk comes first, so that one that is full refuses.
func (d Container) Plan() Plan {
	if d.Gone {
		return d.loss()
	}
	var p Plan
	if d.Whole && d.Bound {
		p = append(p, Step{Kind: Bind})
	}
	if d.Whole {
		p = append(p, Step{Kind: Enter})
	}
	p = each(p, d.Endpoints, Address)
	if !d.Found {
		p = each(p, d.Ports, Hold)
		p = each(p, d.Endpoints, Cable, Plug)
	} else {
		p = each(p, d.Endpoints, Adopt, Plug)
		p = each(p, d.Ports, Hold)
	}
	if d.Rename {
		p = append(p, Step{Kind: Rename})
	}
	if d.Relabel {
		p = append(p, Step{Kind: Label})
	}
	if !d.Found && len(p) > 0 {
		p = append(p, Step{Kind: Store})
	}
	p = each(p, d.Ports, Claim)
	switch {
	case d.Found:
		p = append(p, Step{Kind: Ready})
	case d.Whole || len(d.Endpoints)+len(d.Ports) > 0:
		p = append(p, Step{Kind: Show})
	}
	p = append(p, d.after()...)
	if d.Reroute {
		p = append(p, Step{Kind: Reroute})
	}
	return p
}

func (d Container) loss() Plan {
	gain := d
	gain.Gone, gain.Reroute = false, false
	p := Plan{{Kind: Store}}
	for _, s := range gain.Plan().Inverse() {
		switch {
		case s.Kind == Unstore:
		case s.Kind == Unplug && d.Unattended:
			s.Kind = Drop
			p = append(p, s)
		case s.Kind == Cut && d.Unattended:
		default:
			p = append(p, s)
		}
	}
	if d.Reroute {
		p = append(p, Step{Kind: Reroute})
	}
	return append(p, d.after()...)
}

// after is what follows from another set of endpoints for what stays.
func (d Container) after() Plan {
	if d.Whole || d.Found || len(d.Endpoints) == 0 {
		return nil
	}
	return Plan{{Kind: Reclaim}}
}

// each adds steps for each of a list.
func each(p Plan, list []string, kinds ...Kind) Plan {
	for n, of := range list {
		for _, k := range kinds {
			p = append(p, Step{Kind: k, N: n, Of: of})
		}
	}
	return p
}

// Network is a change of a network.
type Network struct {
	// Amend: it is another from now on; otherwise it comes or, with Gone, goes.
	Amend bool
	Gone  bool
	// Found: the record is on disk, and the device may be there; a daemon before made
	// them.
	Found bool
}

// Plan returns the steps of the change, by the rules of Container.Plan.
func (d Network) Plan() Plan {
	of := func(list ...Kind) (p Plan) {
		for _, k := range list {
			p = append(p, Step{Kind: k})
		}
		return p
	}
	switch {
	case d.Amend:
		return of(Store, Amend)
	case d.Found:
		return of(Enter, Number, Device, Route, Carry, Plug, Ready)
	case d.Gone:
		gain := Network{}.Plan().Inverse()
		return append(of(Shut, Store), slices.DeleteFunc(gain, func(s Step) bool { return s.Kind == Unstore })...)
	}
	return of(Enter, Number, Device, Route, Carry, Plug, Store, Show)
}
