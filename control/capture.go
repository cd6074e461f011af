package control

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vswitch/vswitch/control/pcapfilter"
	"github.com/vswitch/vswitch/control/pcapng"
	"github.com/vswitch/vswitch/control/server"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/filter"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// capture names what a data path's capture holds. Ports that come while it runs
// join it when it wants them.
type capture struct {
	*dataplane.Capture
	ctl     *Controller
	targets []target
	cfg     server.CaptureConfig
	points  dataplane.Points
	past    []dataplane.CaptureRecord // of the recorder, instead of a capture of its own

	mu     sync.Mutex
	ifaces []pcapng.Interface
	places [][]place // of each interface, the ports it had in turn
	index  map[place]int
	addrs  []server.Name
	names  *captureNames
}

// place is where frames are captured.
type place struct {
	port  frame.PortID
	point dataplane.Point
}

// captureNames is what ports and addresses are called. Ports that have gone keep
// their name: frames of theirs may still be read.
type captureNames struct {
	ports map[frame.PortID]portName
	hosts map[netip.Addr]string
}

// Capture begins to copy the frames of what cfg names.
func (c *Controller) Capture(_ context.Context, cfg server.CaptureConfig) (server.Capture, error) {
	points, err := pointsOf(cfg.Points)
	if err != nil {
		return nil, err
	}
	targets, err := targetsOf(cfg.Targets)
	if err != nil {
		return nil, err
	}
	out := &capture{ctl: c, targets: targets, cfg: cfg, points: points, index: make(map[place]int)}
	prog, err := c.openCapture(out)
	if err == nil && cfg.Last != 0 {
		out.replay(c.recorder, prog)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// openCapture checks what is asked for and lets the capture run, unless it is
// of the past.
func (c *Controller) openCapture(out *capture) (prog *filter.Program, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !out.cfg.Wait {
		for i := range out.targets {
			if err := c.checkTargetLocked(&out.targets[i]); err != nil {
				return nil, err
			}
		}
	}
	if strings.TrimSpace(out.cfg.Filter) != "" {
		code, err := pcapfilter.Compile(out.cfg.Filter, filterNames{c})
		if err != nil {
			return nil, invalidf("%w", err)
		}
		if prog, err = filter.New(code); err != nil {
			return nil, err
		}
	}
	if out.cfg.Last != 0 {
		return prog, c.recallLocked(out)
	}
	out.Capture, err = c.sw.OpenCapture(dataplane.CaptureConfig{
		Points: out.points, Filter: prog, SnapLen: out.cfg.SnapLen, Segment: out.cfg.Segment,
	})
	if err != nil {
		return nil, err
	}
	c.captures = append(c.captures, out)
	c.portsChangedLocked()
	return prog, nil
}

// startRecorder keeps the newest frames of what words name, in so much memory.
func (c *Controller) startRecorder(bytes int, words []string) error {
	targets, err := targetsOf(words)
	if err != nil {
		return fmt.Errorf("--capture-ring-of: %w", err)
	}
	r, err := c.sw.OpenCapture(dataplane.CaptureConfig{Points: recorderPoints, Recorder: true, SnapLen: recorderSnap, BufferBytes: bytes})
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recorder = &capture{Capture: r, ctl: c, targets: targets, points: recorderPoints, index: make(map[place]int)}
	c.captures = append(c.captures, c.recorder)
	c.portsChangedLocked()
	return nil
}

// What the recorder keeps: enough of a frame for its headers.
const (
	recorderPoints = 1<<dataplane.PointRx | 1<<dataplane.PointTx | 1<<dataplane.PointDrop
	recorderSnap   = 192
)

// recallLocked gives a capture of the past the ports of the recorder.
func (c *Controller) recallLocked(out *capture) error {
	switch {
	case c.recorder == nil:
		return conflictf("the daemon keeps no recent frames: start it with --capture-ring 16M")
	case out.points&^recorderPoints != 0:
		return invalidf("the recent frames are of the points rx, tx and drop: leave the others out, or --last")
	}
	out.names = c.captureNamesLocked(c.recorder.names)
	for _, id := range sortedPorts(out.names.ports) {
		if n := out.names.ports[id]; wanted(out.targets, n) && wanted(c.recorder.targets, n) {
			out.joinLocked(id, n)
		}
	}
	if of := words(c.recorder.targets); len(out.ifaces) == 0 {
		return conflictf("the daemon keeps recent frames of %s only: start it with --capture-ring-of %s,%s", of, of, words(out.targets))
	}
	out.addNamesLocked()
	return nil
}

// replay fills a capture from the recorder.
func (o *capture) replay(recorder *capture, prog *filter.Program) {
	recorder.Recent(time.Now().Add(-o.cfg.Last), func(r dataplane.CaptureRecord) bool {
		if _, ok := o.index[place{r.Port, r.Point}]; ok && prog.Match(r.Data, r.OrigLen, r.Outbound()) {
			if s := o.cfg.SnapLen; s > 0 && len(r.Data) > s {
				r.Data = r.Data[:s]
			}
			o.past = append(o.past, r)
		}
		return true
	})
}

// portOwner says what a port of the switch is.
type portOwner struct {
	ep     *endpoint
	net    *network // of a TAP
	uplink *uplink
}

// setPortLocked notes whose a port is.
func (c *Controller) setPortLocked(id frame.PortID, o portOwner) {
	c.byPort[id] = o
	c.portsChangedLocked()
}

// dropPortLocked forgets a port.
func (c *Controller) dropPortLocked(id frame.PortID) {
	delete(c.byPort, id)
	c.portsChangedLocked()
}

// portsChangedLocked lets the running captures follow.
func (c *Controller) portsChangedLocked() {
	if len(c.captures) == 0 {
		return
	}
	var old *captureNames
	if i := slices.IndexFunc(c.captures, func(o *capture) bool { return o.names != nil }); i >= 0 {
		old = c.captures[i].names
	}
	if c.recorder != nil && c.recorder.names != nil {
		old = c.recorder.names // the longest memory
	}
	names := c.captureNamesLocked(old)
	for _, o := range c.captures {
		o.follow(c, names)
	}
}

// captureNamesLocked are the names of now, with those of ports that have gone.
func (c *Controller) captureNamesLocked(old *captureNames) *captureNames {
	n := &captureNames{ports: make(map[frame.PortID]portName, len(c.byPort)), hosts: make(map[netip.Addr]string)}
	if old != nil {
		for id, p := range old.ports {
			n.ports[id] = p
		}
	}
	for id := range c.byPort {
		n.ports[id], _ = c.portNameLocked(id)
	}
	for name, ct := range c.containers {
		for _, e := range ct.endpoints {
			for _, a := range e.addrs {
				n.hosts[a] = name
			}
		}
	}
	return n
}

// follow makes the capture one of the ports of now that it wants.
func (o *capture) follow(c *Controller, names *captureNames) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.names = names
	var ids []frame.PortID
	for _, id := range sortedPorts(names.ports) {
		if _, here := c.byPort[id]; here && wanted(o.targets, names.ports[id]) {
			ids = append(ids, id)
			o.joinLocked(id, names.ports[id])
		}
	}
	o.addNamesLocked()
	o.SetPorts(ids)
}

func sortedPorts(m map[frame.PortID]portName) []frame.PortID {
	ids := make([]frame.PortID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// joinLocked gives a port an interface for each point. One that comes again
// under its name, as after a restart of its container, has the one it had.
func (o *capture) joinLocked(id frame.PortID, n portName) {
	for p := range dataplane.NumPoints {
		if !o.points.Has(p) {
			continue
		}
		nic := pcapng.Interface{Name: n.title() + " " + p.String(), Description: n.describe(p), Filter: o.cfg.Filter, SnapLen: o.cfg.SnapLen}
		at := slices.IndexFunc(o.ifaces, func(i pcapng.Interface) bool { return i.Name == nic.Name })
		if at < 0 {
			at = len(o.ifaces)
			o.ifaces, o.places = append(o.ifaces, nic), append(o.places, nil)
		}
		here := place{id, p}
		if was, ok := o.index[here]; !ok || was != at {
			o.index[here] = at
			o.places[at] = append(o.places[at], here)
		}
	}
}

func (o *capture) addNamesLocked() {
	for a, name := range o.names.hosts {
		if n := (server.Name{Addr: a, Name: name}); !slices.Contains(o.addrs, n) {
			o.addrs = append(o.addrs, n)
		}
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
	at, names := o.index[place{r.Port, r.Point}], o.names
	o.mu.Unlock()
	f := server.Frame{Time: r.Time, Interface: at, Data: r.Data, OrigLen: r.OrigLen, Comment: names.comment(r), Direction: pcapng.Inbound}
	if r.Outbound() {
		f.Direction = pcapng.Outbound
	}
	return f
}

func (o *capture) next(ctx context.Context) (r dataplane.CaptureRecord, ok bool, err error) {
	if o.Capture != nil {
		return o.Capture.Next(ctx)
	}
	if len(o.past) == 0 {
		return r, false, nil
	}
	r, o.past = o.past[0], o.past[1:]
	return r, true, nil
}

// Close implements server.Capture.
func (o *capture) Close() {
	if o.Capture == nil {
		return
	}
	o.Capture.Close()
	o.ctl.mu.Lock()
	defer o.ctl.mu.Unlock()
	o.ctl.captures = slices.DeleteFunc(o.ctl.captures, func(c *capture) bool { return c == o })
}
