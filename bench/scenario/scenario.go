package scenario

import (
	"context"
	"errors"
	"net/netip"
	"runtime"
	"slices"
	"time"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/report"
	"github.com/vswitch/vswitch/bench/rig"
	"github.com/vswitch/vswitch/internal/netlab"
)

// Scenario is a path through the network and the loads that are put on it.
type Scenario struct {
	Name  string
	Title string
	// Baseline is the kernel's way to do the same, or vswitch without its guards:
	// the name of a rig.
	Baseline string
	// Subject is the rig that is compared, where it is not vswitch as it comes.
	Subject string
	// Others are rigs of programs that do it too.
	Others []string
	Loads  []Load
	// Long keeps it out of the short table.
	Long bool
	// Around begins what goes on beside a load, and returns what ends it. When it
	// is all that tells subject from baseline they share a rig.
	Around func(ctx context.Context, r *rig.Rig, subject bool) (end func() error, err error)
	// Finer cuts each round into so many, to compare what differs little: the
	// shorter they take turns, the less of the machine's moods is between them.
	Finer int

	ends func(*rig.Rig) (ends, error)
}

// ends are the two ends of a path.
type ends struct {
	client   *netlab.NS
	server   netip.Addr // as the client knows it
	serverNS *netlab.NS
	// offset is added to a server's port to get the one the client connects to.
	offset uint16
	crowd  []gen.Namespace // of the load that needs one
	cpu    int             // that the client runs on, 0: any
	// frames, where raw frames can take this path; nil otherwise.
	frames *frameEnds
}

// from is where clients start.
func (e ends) from() gen.Namespace { return gen.On{Namespace: e.client, CPU: e.cpu} }

func (e ends) target(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(e.server, port+e.offset)
}

// Load is one kind of traffic. It gives as many values as it has measures, in
// their units and order.
type Load struct {
	Name     string
	Measures []report.Measure
	// Quick loads are in the short table.
	Quick bool
	// Others are measured with this load too.
	Others bool
	// Connects says that the first measure is of connections.
	Connects bool
	plain    float64 // target for the first measure against rig.Bridge, 0: it is not measured there
	place    place
	run      func(ctx context.Context, e ends, window time.Duration) ([]float64, error)
}

// Rounds are those of s where others have so many of such a window.
func (s Scenario) Rounds(rounds int, window time.Duration) (int, time.Duration) {
	if s.Finer == 0 {
		return rounds, window
	}
	return rounds * s.Finer, max(window/time.Duration(s.Finer), 100*time.Millisecond)
}

// Run puts load on the path of s in r, which is the subject or the baseline, for
// window.
func (s Scenario) Run(ctx context.Context, load Load, r *rig.Rig, window time.Duration, subject bool) (values []float64, err error) {
	e, err := s.ends(r)
	if err != nil {
		return nil, err
	}
	if s.Around != nil {
		end, err := s.Around(ctx, r, subject)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, end()) }()
	}
	switch load.place {
	case oneCPU, twoCPUs:
		if int(load.place) > runtime.NumCPU() {
			return nil, errors.New("needs two CPUs")
		}
		e.cpu = 1
		if err := r.Place(int(load.place)); err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, r.Place(0)) }()
	}
	return load.run(ctx, e, window)
}

// On reports whether a load is measured on one of the scenario's other systems.
func (l Load) On(system string) bool {
	if system == rig.Bridge {
		return l.plain > 0
	}
	return l.Others
}

// withOthers is l for the other systems too.
func withOthers(l Load) Load {
	l.Others = true
	return l
}

// Bound is the target for the ratio of vswitch to system, one of Others, in the nth measure of l;
// 0 for none.
func Bound(system string, l Load, n int) float64 {
	switch m := l.Measures[n]; {
	case system == rig.Bridge && n == 0:
		return l.plain
	case system != rig.OVS:
		return 0
	case m.Unit == report.BitsPerSecond || m.Unit == report.FramesPerSec:
		return 1.5
	}
	return 1
}

// Compared are the scenarios that baseline and subject both run, in the order
// they are shown.
func Compared() []Scenario {
	return append([]Scenario{containers(), masquerade(), published(), host(), localhost(), hairpin(), crowd(), changingCrowd(), changing(), inIPv6(containers()), inIPv6(host()), inIPv6(published()), inIPv6(masquerade())}, slices.Concat(guards(), observed())...)
}

// Extent is how far the scenarios of the daemon alone go.
type Extent struct {
	Quick  bool
	Window time.Duration // of one measurement
}

// of is quick or full.
func (e Extent) of(quick, full []int) []int {
	if e.Quick {
		return quick
	}
	return full
}

// Findings are what a scenario of the daemon alone gives.
type Findings struct {
	Figures []report.Figure
	Curves  []report.Curve
}

// Alone is a measurement that is made once in a run: of vswitch by itself, or
// of a cost that grows with something, and then of the kernel's too.
type Alone struct {
	Name string
	Run  func(ctx context.Context, opt rig.Options, x Extent) (Findings, error)
}

// Alones are all of them, in the order they are shown.
func Alones() []Alone {
	return []Alone{
		{Name: "ports", Run: ports},
		{Name: "publish", Run: publish},
		{Name: "by-macs", Run: byMACs},
		{Name: "by-flows", Run: byFlows},
		{Name: "by-published", Run: byPublished},
		{Name: "by-ports", Run: byPorts},
		{Name: "blocking", Run: blocking},
		{Name: "carried", Run: carried},
		{Name: "restart", Run: restart},
	}
}
