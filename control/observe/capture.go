package observe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/pcapfilter"
	"github.com/vswitch/vswitch/control/pcapng"
	"github.com/vswitch/vswitch/control/readers"
	"github.com/vswitch/vswitch/control/server"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/filter"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// capture names what a data path's capture holds. Ports that come while it runs
// join it when it wants them.
type capture struct {
	*dataplane.Capture
	dir  *directory.Live
	stop func() // follows the directory no more
	// release gives back what the reader took for it.
	release func()
	cfg     server.CaptureConfig
	points  dataplane.Points
	past    *past // of the recorder, instead of a capture of its own

	mu     sync.Mutex
	seen   sight
	ifaces []pcapng.Interface
	byName map[string]int // of ifaces
	places [][]place      // of each interface, the ports it had in turn
	index  map[place]int
	addrs  []server.Name
	named  map[server.Name]bool // those in addrs
}

// place is where frames are captured.
type place struct {
	port  frame.PortID
	point dataplane.Point
}

// Capture begins to copy the frames of what cfg names.
func (o *Observer) Capture(ctx context.Context, cfg server.CaptureConfig) (_ server.Capture, err error) {
	points, err := pointsOf(cfg.Points)
	if err != nil {
		return nil, err
	}
	targets, err := targetsOf(cfg.Targets)
	if err != nil {
		return nil, err
	}
	names := o.dir.Now()
	for i := range targets {
		if err := targets[i].check(names); err != nil && !(cfg.Wait && errors.Is(err, api.ErrNotFound)) {
			return nil, err
		}
	}
	var prog *filter.Program
	if strings.TrimSpace(cfg.Filter) != "" {
		if werr := o.readers.Work(ctx, func() { prog, err = compileFilter(cfg.Filter, names) }); err != nil || werr != nil {
			return nil, cmp.Or(err, werr)
		}
	}
	var held []func()
	release := func() {
		for _, fn := range held {
			fn()
		}
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	for kind, n := range map[readers.Kind]int{readers.Captures: readers.CaptureBytes, readers.Filter: prog.Cost()} {
		if cfg.Last != 0 && kind == readers.Filter {
			continue // it runs over frames that have passed
		}
		fn, err := o.readers.Take(readers.From(ctx), kind, n)
		if err != nil {
			return nil, fmt.Errorf("capture: %w", err)
		}
		held = append(held, fn)
	}
	out := &capture{
		dir: o.dir, cfg: cfg, points: points, seen: sight{targets: targets}, release: release,
		byName: make(map[string]int), index: make(map[place]int), named: make(map[server.Name]bool),
	}
	if cfg.Last != 0 {
		if err := out.recall(o.recorder, prog); err != nil {
			return nil, err
		}
		return out, nil
	}
	// To make the memory takes time, too.
	werr := o.readers.Work(ctx, func() {
		out.Capture, err = dataplane.StartCapture(o.sw, dataplane.CaptureConfig{
			Points: points, Filter: prog, SnapLen: cfg.SnapLen, Segment: cfg.Segment, BufferBytes: readers.CaptureBytes,
		})
	})
	if err == nil && werr != nil && out.Capture != nil {
		out.Capture.Close()
	}
	if err = cmp.Or(err, werr); err != nil {
		return nil, err
	}
	out.addNames(names)
	out.stop = o.dir.Follow(out.follow)
	return out, nil
}

// recall makes a capture one of the past: what the recorder has of the ports it wants,
// those that are gone too.
func (o *capture) recall(r *recorder, prog *filter.Program) error {
	switch {
	case r == nil:
		return model.Conflictf("the daemon keeps no recent frames: start it with --capture-ring 16M")
	case o.points&^recorderPoints != 0:
		return model.Invalidf("the recent frames are of the points rx, tx and drop: leave the others out, or --last")
	}
	names := o.dir.Now()
	for _, id := range names.Ports(true) {
		if p, _ := names.LastPort(id); wanted(o.seen.targets, names.Behind(id), p) && r.saw(id) {
			o.join(id, p)
		}
	}
	if of := words(r.seen.targets); len(o.ifaces) == 0 {
		return model.Conflictf("the daemon keeps recent frames of %s only: start it with --capture-ring-of %s,%s", of, of, words(o.seen.targets))
	}
	o.addNames(names)
	o.past = newPast(func(yield func(dataplane.CaptureRecord) bool) {
		r.Recent(time.Now().Add(-o.cfg.Last), func(f dataplane.CaptureRecord) bool {
			if _, ok := o.index[place{f.Port, f.Point}]; !ok || !prog.Match(f.Data, f.OrigLen, f.Outbound()) {
				return true
			}
			if s := o.cfg.SnapLen; s > 0 && len(f.Data) > s {
				f.Data = f.Data[:s]
			}
			return yield(f)
		})
	})
	return nil
}

// past are frames of the recorder, read as they are asked for: in memory they are once.
type past struct {
	mu   sync.Mutex // one call at a time
	next func() (dataplane.CaptureRecord, bool)
	stop func()
}

func newPast(seq iter.Seq[dataplane.CaptureRecord]) *past {
	next, stop := iter.Pull(seq)
	return &past{next: next, stop: stop}
}

func (p *past) read() (dataplane.CaptureRecord, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.next()
}

func (p *past) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stop()
}

// compileFilter makes the program of an expression.
func compileFilter(expr string, names *directory.Directory) (*filter.Program, error) {
	code, err := pcapfilter.Compile(expr, filterNames{names})
	if err != nil {
		return nil, model.Invalidf("%w", err)
	}
	return filter.New(code)
}

// follow takes ports in that came into sight, and lets others go.
func (o *capture) follow(names *directory.Directory, changed []frame.PortID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	differs := o.seen.update(names, changed)
	for _, id := range changed {
		p, ok := names.Port(id)
		if !ok {
			continue
		}
		if o.seen.has(id) {
			o.join(id, p)
		}
		if ct := names.ByID(p.Owner); ct != nil {
			for _, e := range ct.Endpoints {
				for _, a := range e.Addrs {
					o.addName(server.Name{Addr: a, Name: ct.Name})
				}
			}
		}
	}
	if differs {
		o.SetPorts(o.seen.list())
	}
}

// join gives a port an interface for each point. One that comes again under its
// name, as after a restart of its container, has the one it had.
func (o *capture) join(id frame.PortID, n directory.Port) {
	for p := range dataplane.NumPoints {
		if !o.points.Has(p) {
			continue
		}
		nic := pcapng.Interface{Name: n.Title() + " " + p.String(), Description: describe(n, p), Filter: o.cfg.Filter, SnapLen: o.cfg.SnapLen}
		at, ok := o.byName[nic.Name]
		if !ok {
			at = len(o.ifaces)
			o.ifaces, o.places = append(o.ifaces, nic), append(o.places, nil)
			o.byName[nic.Name] = at
		}
		here := place{id, p}
		if was, ok := o.index[here]; !ok || was != at {
			o.index[here] = at
			o.places[at] = append(o.places[at], here)
		}
	}
}

// addNames takes in the names of all addresses.
func (o *capture) addNames(names *directory.Directory) {
	for a, name := range names.Addrs() {
		o.addName(server.Name{Addr: a, Name: name})
	}
}

func (o *capture) addName(n server.Name) {
	if !o.named[n] {
		o.named[n] = true
		o.addrs = append(o.addrs, n)
	}
}

// Interfaces implements server.Capture.
func (o *capture) Interfaces() []pcapng.Interface {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.ifaces)
}

// Names implements server.Capture.
func (o *capture) Names() []server.Name {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.addrs)
}

// Counts implements server.Capture.
func (o *capture) Counts(iface int) (taken, lost uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.Capture == nil || iface >= len(o.places) {
		return 0, 0
	}
	for _, p := range o.places[iface] {
		t, l := o.Capture.Counts(p.port, p.point)
		taken, lost = taken+t, lost+l
	}
	return taken, lost
}

// Next implements server.Capture.
func (o *capture) Next(ctx context.Context) (server.Frame, bool, error) {
	r, ok, err := o.next(ctx)
	if err != nil || !ok {
		return server.Frame{}, false, err
	}
	return o.frame(&r), true, nil
}

// Ready implements server.Capture.
func (o *capture) Ready() (f server.Frame, ok bool) {
	if o.Capture == nil {
		f, ok, _ = o.Next(context.Background()) // of the past: it waits for nothing
		return f, ok
	}
	r, ok := o.Capture.Ready()
	if !ok {
		return f, false
	}
	return o.frame(&r), true
}

// Doze implements server.Capture.
func (o *capture) Doze(d time.Duration) {
	if o.Capture != nil {
		o.Capture.Doze(d)
	}
}

// frame puts a record into the words of a reader.
func (o *capture) frame(r *dataplane.CaptureRecord) server.Frame {
	o.mu.Lock()
	at := o.index[place{r.Port, r.Point}]
	o.mu.Unlock()
	f := server.Frame{Time: r.Time, Interface: at, Data: r.Data, OrigLen: r.OrigLen, Comment: comment(o.dir.Now(), r), Direction: pcapng.Inbound}
	if r.Outbound() {
		f.Direction = pcapng.Outbound
	}
	return f
}

func (o *capture) next(ctx context.Context) (r dataplane.CaptureRecord, ok bool, err error) {
	if o.Capture != nil {
		return o.Capture.Next(ctx)
	}
	r, ok = o.past.read()
	return r, ok, nil
}

// Close implements server.Capture.
func (o *capture) Close() {
	if o.Capture == nil {
		o.past.close()
		return
	}
	o.Capture.Close()
	o.stop()
}

// Release implements server.Capture.
func (o *capture) Release() { o.release() }
