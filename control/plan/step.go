package plan

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Kind is what a step does.
type Kind uint8

// The kinds of steps, in the order in which a plan has them. Each but the last of a group
// is followed by its inverse.
const (
	Bind     Kind = iota + 1 // open the process whose end is the container's
	Unbind                   //
	Enter                    // into the table, so that nobody else has the name
	Leave                    //
	Number                   // a network and its port
	Unnumber                 //
	Address                  // take addresses and a MAC address in a network
	Free                     //
	Hold                     // host ports, against containers and programs of the host
	Release                  //
	Cable                    // make the veth pair of an endpoint
	Adopt                    // take over the one that the daemon before made
	Cut                      // remove it, the inverse of both
	Device                   // make a network's TAP or take it over
	Remove                   //
	Route                    // say that the subnets of a network are ours
	Unroute                  //
	Carry                    // let the kernel carry long flows of the host, until Remove
	Plug                     // open the port and give it to the switch
	Unplug                   // with the flows it had
	Drop                     // Unplug and Cut, while nobody waits
	Rename                   //
	Unname                   // give the old name back
	Label                    //
	Unlabel                  // give the old labels back
	Store                    // on disk, as it will be
	Unstore                  // as it was
	Claim                    // published ports, from the host's own stack
	Unclaim                  //
	Ready                    // part of the snapshots to come
	Unready                  //
	Show                     // Ready, and in the snapshot of now
	Hide                     //
	Shut                     // a network: nobody joins it from here on, unless somebody has
	Reopen                   //
	Amend                    // put a network's new settings in force
	Restore                  // the old ones
	Reclaim                  // published ports by another family, after a change of networks
	Reroute                  // default routes of what is left, after it

	numKinds
)

var kinds = [numKinds]struct {
	text    string
	inverse Kind // 0: nothing is to be taken back
}{
	Bind:     {"bind", Unbind},
	Unbind:   {"unbind", Bind},
	Enter:    {"enter", Leave},
	Leave:    {"leave", Enter},
	Number:   {"number", Unnumber},
	Unnumber: {"unnumber", Number},
	Address:  {"address", Free},
	Free:     {"free", Address},
	Hold:     {"hold", Release},
	Release:  {"release", Hold},
	Cable:    {"cable", Cut},
	Adopt:    {"adopt", Cut},
	Cut:      {"cut", Cable},
	Device:   {"device", Remove},
	Remove:   {"remove", Device},
	Route:    {"route", Unroute},
	Unroute:  {"unroute", Route},
	Carry:    {"carry", 0},
	Plug:     {"plug", Unplug},
	Unplug:   {"unplug", Plug},
	Drop:     {"drop", 0},
	Rename:   {"rename", Unname},
	Unname:   {"unname", Rename},
	Label:    {"label", Unlabel},
	Unlabel:  {"unlabel", Label},
	Store:    {"store", Unstore},
	Unstore:  {"unstore", Store},
	Claim:    {"claim", Unclaim},
	Unclaim:  {"unclaim", Claim},
	Ready:    {"ready", Unready},
	Unready:  {"unready", Ready},
	Show:     {"show", Hide},
	Hide:     {"hide", Show},
	Shut:     {"shut", Reopen},
	Reopen:   {"reopen", Shut},
	Amend:    {"amend", Restore},
	Restore:  {"restore", Amend},
	Reclaim:  {"reclaim", 0},
	Reroute:  {"reroute", 0},
}

func (k Kind) String() string {
	if k < numKinds && kinds[k].text != "" {
		return kinds[k].text
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Step is one step of a plan.
type Step struct {
	Kind Kind
	N    int    // which of the delta's endpoints or ports
	Of   string // the same for people; "" when the step is about the whole
}

func (s Step) String() string { return strings.TrimSpace(s.Kind.String() + " " + s.Of) }

// Inverse takes a step back; ok is false when there is nothing to take back.
func (s Step) Inverse() (back Step, ok bool) {
	s.Kind = kinds[s.Kind].inverse
	return s, s.Kind != 0
}

// Plan is the steps of a change, in their order.
type Plan []Step

// Inverse takes a whole plan back, newest first.
func (p Plan) Inverse() Plan {
	back := make(Plan, 0, len(p))
	for _, s := range slices.Backward(p) {
		if b, ok := s.Inverse(); ok {
			back = append(back, b)
		}
	}
	return back
}

func (p Plan) String() string {
	texts := make([]string, len(p))
	for i, s := range p {
		texts[i] = s.String()
	}
	return strings.Join(texts, ", ")
}

// Apply performs a plan with do. When a step fails those before it are taken back, newest
// first, and err is its error; undone tells what could not be taken back. A step that
// fails leaves nothing of its own.
func (p Plan) Apply(do func(Step) error) (err, undone error) {
	for i, s := range p {
		if err := do(s); err != nil {
			return err, p[:i].Inverse().Finish(do)
		}
	}
	return nil, nil
}

// Lose performs the plan of a loss. Up to the disk it is all or nothing, as with Apply;
// from there on it goes on after errors, since the next start finds the rest. With force it does so from the beginning.
func (p Plan) Lose(do func(Step) error, force bool) (err, undone error) {
	if force {
		return p.Finish(do), nil
	}
	refuse := 1 + slices.IndexFunc(p, func(s Step) bool { return s.Kind == Store })
	if err, undone := p[:refuse].Apply(do); err != nil {
		return err, undone
	}
	return p[refuse:].Finish(do), nil
}

// Finish performs a plan and goes on after errors.
func (p Plan) Finish(do func(Step) error) error {
	var errs []error
	for _, s := range p {
		if err := do(s); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s, err))
		}
	}
	return errors.Join(errs...)
}
