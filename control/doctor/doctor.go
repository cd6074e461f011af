package doctor

import (
	"context"
	"errors"
	"fmt"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/control/host"
)

// Status is what became of a check.
type Status string

const (
	OK   Status = "ok"
	Note Status = "note" // could not be checked, or is worth knowing
	Warn Status = "warn" // works, but not as it should
	Fail Status = "fail" // does not work
)

// Check is one finding.
type Check struct {
	Name    string `json:"name"` // what was looked at: kernel, rights, seal, ...
	Status  Status `json:"status"`
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"` // what mends it, with the command where there is one
}

// Config is what Examine starts from.
type Config struct {
	StateDir string
	Version  string // of the program that asks
	// Daemon is what a daemon says of itself, nil when none answers; DaemonErr says
	// why, unless there simply is none.
	Daemon    *Daemon
	DaemonErr error
}

// Daemon is what a running daemon knows.
type Daemon struct {
	Info       api.Info
	Networks   []api.Network
	Containers []api.Container
	// Broken says of a container what of its wiring is gone.
	Broken map[string]error
}

// Ask asks a daemon for all that can be compared with the kernel.
func Ask(ctx context.Context, cl *client.Client) (d *Daemon, err error) {
	d = &Daemon{Broken: make(map[string]error)}
	if d.Info, err = cl.Info(ctx); err != nil {
		return nil, err
	}
	if d.Networks, err = cl.Networks(ctx); err != nil {
		return nil, err
	}
	if d.Containers, err = cl.Containers(ctx); err != nil {
		return nil, err
	}
	for _, ct := range d.Containers {
		if err := cl.Check(ctx, ct.Name); err != nil && !client.IsNotFound(err) {
			d.Broken[ct.Name] = err
		}
	}
	return d, nil
}

// exam is one examination.
type exam struct {
	Config
	host  *host.Host
	links []host.Link
	list  []Check

	carries bool // the kernel can hold the flow table; of features
}

func (x *exam) add(s Status, name, fix, format string, a ...any) {
	x.list = append(x.list, Check{name, s, fmt.Sprintf(format, a...), fix})
}

// checks are made in this order.
var checks = []struct {
	name string
	run  func(*exam)
}{
	{"daemon", (*exam).daemon},
	{"ring", (*exam).ring},
	{"kernel", (*exam).kernel},
	{"rights", (*exam).rights},
	{"features", (*exam).features},
	{"checksums", (*exam).checksums},
	{"uplink", (*exam).uplink},
	{"routing", (*exam).beside},
	{"network", (*exam).networks},
	{"mtu", (*exam).mtu},
	{"container", (*exam).containers},
	{"egress", (*exam).egress},
	{"ports", (*exam).ports},
	{"addresses", (*exam).addresses},
	{"firewall", (*exam).firewall},
	{"managers", (*exam).grabs},
	{"masquerade", (*exam).masquerade},
	{"bind", (*exam).binds},
	{"localhost", (*exam).localhost},
	{"programs", (*exam).programs},
	{"leftovers", (*exam).leftovers},
	{"reserved", (*exam).reserved},
	{"limits", (*exam).limits},
}

// Examine makes all checks in the network namespace of the process. A check that
// finds nothing wrong says so in one line. The error is for what keeps from
// looking at all.
func Examine(cfg Config) (_ []Check, err error) {
	x := &exam{Config: cfg}
	if x.host, err = host.New(); err != nil {
		return nil, fmt.Errorf("doctor: %w", err)
	}
	defer func() { err = errors.Join(err, x.host.Close()) }()
	if x.links, err = x.host.Links(); err != nil {
		return nil, fmt.Errorf("doctor: %w", err)
	}
	for _, c := range checks {
		before := len(x.list)
		c.run(x)
		if len(x.list) == before {
			x.add(OK, c.name, "", "nothing to look at without a daemon")
		}
	}
	return x.list, nil
}

// link finds an interface by name.
func (x *exam) link(name string) (host.Link, bool) {
	for _, l := range x.links {
		if l.Name == name {
			return l, true
		}
	}
	return host.Link{}, false
}

// wrong reports whether a check has found something since before; if not it says
// that all is well.
func (x *exam) fine(before int, name, format string, a ...any) {
	if len(x.list) == before {
		x.add(OK, name, "", format, a...)
	}
}
