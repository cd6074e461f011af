package control

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/plan"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// operation is a kind of change, and the one that takes it back.
type operation struct {
	name     string
	do, undo func(context.Context, *Controller) error
}

// operations are all kinds. They want network blue and containers other, and kube of a
// runtime.
func operations(web, kube string, rules []string) []operation {
	attach := func(in api.Attach) func(context.Context, *Controller) error {
		return func(ctx context.Context, c *Controller) error { _, err := c.Attach(ctx, in); return err }
	}
	detach := func(ctx context.Context, c *Controller) error { return c.Detach(ctx, "web") }
	more := ofKube(kube)
	more.Networks = []api.Connect{{Network: "blue", Ifname: "net1"}}
	more.Publish = []string{rule6}
	label := func(name, value string) func(context.Context, *Controller) error {
		return func(ctx context.Context, c *Controller) error {
			_, err := c.UpdateContainer(ctx, "other", api.ContainerUpdate{Labels: map[string]string{name: value}})
			return err
		}
	}
	icc := func(on bool) func(context.Context, *Controller) error {
		return func(ctx context.Context, c *Controller) error {
			_, err := c.UpdateNetwork(ctx, "blue", api.NetworkUpdate{ICC: &on})
			return err
		}
	}
	return []operation{
		{"create", func(ctx context.Context, c *Controller) error {
			_, err := c.CreateNetwork(ctx, api.NetworkCreate{Name: "green", Subnet: "10.99.0.0/24", IPv6: yes()})
			return err
		}, func(ctx context.Context, c *Controller) error { return c.RemoveNetwork(ctx, "green") }},
		{"update", icc(false), icc(true)},
		{"attach", attach(api.Attach{
			Name: "web", Netns: web, Publish: rules,
			Networks: []api.Connect{{Network: "bridge"}, {Network: "blue", IP: "10.88.1.77"}},
		}), detach},
		{"ephemeral", attach(api.Attach{Name: "web", Netns: web, PID: os.Getpid(), Ephemeral: true}), detach},
		{"add", attach(more), func(ctx context.Context, c *Controller) error {
			return c.Release(ctx, api.Release{Runtime: more.Runtime, RuntimeID: more.RuntimeID, Ifname: "net1"})
		}},
		{"connect", func(ctx context.Context, c *Controller) error {
			_, err := c.Connect(ctx, "other", api.Connect{Network: "blue"})
			return err
		}, func(ctx context.Context, c *Controller) error { return c.Disconnect(ctx, "other", "blue") }},
		{"publish", func(ctx context.Context, c *Controller) error {
			_, err := c.Publish(ctx, "other", rules)
			return err
		}, func(ctx context.Context, c *Controller) error { return c.Unpublish(ctx, "other", rules) }},
		{"label", label("a", "b"), label("a", "")},
		{"rename", func(ctx context.Context, c *Controller) error {
			_, err := c.UpdateContainer(ctx, "other", api.ContainerUpdate{Name: "another"})
			return err
		}, func(ctx context.Context, c *Controller) error {
			_, err := c.UpdateContainer(ctx, "another", api.ContainerUpdate{Name: "other"})
			return err
		}},
	}
}

// rule6 is one that only network blue serves.
const rule6 = "[::]:7070:70"

func ofKube(netns string) api.Attach {
	return api.Attach{Name: "kube", Runtime: "cni", RuntimeID: "k1", Netns: netns}
}

// faulty is a controller whose steps fail where a test says so.
type faulty struct {
	*Controller
	t         *testing.T
	mu        sync.Mutex  // guards steps: a change nobody waits for takes some, too
	steps     []plan.Step // see taken
	web, kube string      // namespaces
	end       func(*Controller)
	start     func() *Controller
	facts     func(*Controller) map[string]string
}

// onModel has a controller on the model of the kernel.
func onModel(t *testing.T) *faulty {
	m := newMachine(t)
	m.Run(os.Getpid(), "")
	netns := func(name string) string { m.AddNetns(netnsOf(name)); return netnsOf(name) }
	f := &faulty{t: t, web: netns("web"), kube: netns("kube"), end: func(*Controller) { m.stop() },
		start: func() *Controller { return m.start().Controller },
		facts: func(*Controller) map[string]string { return m.all() }}
	f.begin(netns("other"), netns("stays"))
	return f
}

// onKernel has one on the kernel, which takes rights.
func onKernel(t *testing.T) *faulty {
	dir := t.TempDir()
	endHolder(t, dir)
	netns := func(name string) string { return labtest.New(t, name).Path() }
	f := &faulty{t: t, end: func(c *Controller) { endIn(t, c) },
		start: func() *Controller { return startIn(t, dir, slog.New(slog.DiscardHandler)) },
		facts: func(c *Controller) map[string]string { return facts(t, c) }}
	f.Controller = f.start()
	f.end(f.Controller) // rights are missing before a namespace is
	f.web, f.kube = netns("web"), netns("kube")
	f.begin(netns("other"), netns("stays"))
	return f
}

func (f *faulty) begin(other, stays string) {
	t, ctx := f.t, f.t.Context()
	f.Controller = f.start()
	t.Cleanup(func() {
		f.fault.fn.Store(nil)
		ctx := context.Background()
		if err := errors.Join(f.Detach(ctx, "other"), f.Detach(ctx, "kube"), f.Detach(ctx, "stays"), f.RemoveNetwork(ctx, "blue")); err != nil {
			t.Error(err)
		}
		f.end(f.Controller)
	})
	if _, err := f.CreateNetwork(ctx, api.NetworkCreate{Name: "blue", Subnet: "10.88.1.0/24", IPv6: yes()}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Attach(ctx, api.Attach{Name: "other", Netns: other}); err != nil {
		t.Fatal(err)
	}
	// A device without containers is made anew by the next daemon.
	if _, err := f.Attach(ctx, api.Attach{Name: "stays", Netns: stays, Networks: []api.Connect{{Network: "blue"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Attach(ctx, ofKube(f.kube)); err != nil {
		t.Fatal(err)
	}
}

// restart is what the next daemon makes of what this one has left.
func (f *faulty) restart() {
	f.end(f.Controller)
	f.Controller = f.start()
}

// fail lets the steps of these numbers fail, counted from here on, and keeps them all.
func (f *faulty) fail(numbers ...int) {
	f.mu.Lock()
	f.steps = nil
	f.mu.Unlock()
	fails := func(s plan.Step) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.steps = append(f.steps, s)
		if slices.Contains(numbers, len(f.steps)-1) {
			return errBoom
		}
		return nil
	}
	f.fault.fn.Store(&fails)
}

// taken are the steps since fail.
func (f *faulty) taken() []plan.Step {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.steps)
}

var errBoom = errors.New("boom")

// TestF26EveryStepFails lets each step of each gain fail once and wants all to be as
// it was.
func TestF26EveryStepFails(t *testing.T) {
	t.Run("model", func(t *testing.T) { testEveryStepFails(t, onModel(t)) })
	t.Run("kernel", func(t *testing.T) { testEveryStepFails(t, onKernel(t)) })
}

func testEveryStepFails(t *testing.T, f *faulty) {
	ctx := t.Context()
	rules := []string{"8080:80", "53/udp", "127.0.0.1:9090:90", "10000-60000:10000-60000"}
	for _, op := range operations(f.web, f.kube, rules) {
		t.Run(op.name, func(t *testing.T) {
			// Once in full: what is made lazily is made, and the steps are known.
			f.fail()
			if err := op.do(ctx, f.Controller); err != nil {
				t.Fatal(err)
			}
			steps := f.taken()
			if err := op.undo(ctx, f.Controller); err != nil {
				t.Fatal(err)
			}
			before, disk := settled(f.now), stored(t, f.Controller)
			for i, s := range steps {
				f.fail(i)
				if err := op.do(ctx, f.Controller); !errors.Is(err, errBoom) {
					t.Fatalf("%s: %v, want it to fail: %v of %v", s, err, f.taken(), steps)
				}
				if d := changed(before, f.now); d != "" {
					t.Errorf("%s left something (-before +after):\n%s", s, d)
				}
				if d := cmp.Diff(disk, stored(t, f.Controller)); d != "" {
					t.Errorf("%s left something on disk (-before +after):\n%s", s, d)
				}
			}
			f.fault.fn.Store(nil)
			// And it works after all that.
			if err := errors.Join(op.do(ctx, f.Controller), op.undo(ctx, f.Controller)); err != nil {
				t.Fatal(err)
			}
			if d := changed(before, f.now); d != "" {
				t.Errorf("undone, something is left (-before +after):\n%s", d)
			}
			t.Logf("%d steps: %v", len(steps), steps)
		})
	}
}

// TestEveryStepBackFails lets the last step of each gain fail and then, once each, what
// takes the others back. The next daemon finds what is left.
func TestEveryStepBackFails(t *testing.T) {
	t.Run("model", func(t *testing.T) { testEveryStepBackFails(t, onModel(t)) })
	t.Run("kernel", func(t *testing.T) { testEveryStepBackFails(t, onKernel(t)) })
}

func testEveryStepBackFails(t *testing.T, f *faulty) {
	ctx := t.Context()
	for _, op := range operations(f.web, f.kube, []string{"8080:80"}) {
		t.Run(op.name, func(t *testing.T) {
			before := f.lasting()
			f.fail()
			if err := op.do(ctx, f.Controller); err != nil {
				t.Fatal(err)
			}
			last := len(f.taken()) - 1
			if err := op.undo(ctx, f.Controller); err != nil {
				t.Fatal(err)
			}
			f.fail(last)
			_ = op.do(ctx, f.Controller)
			back := f.taken()[last+1:]
			for i, s := range back {
				if s.Kind == plan.Unbind {
					continue // the end of the process is the end of its watch
				}
				f.fail(last, last+1+i)
				if err := op.do(ctx, f.Controller); !errors.Is(err, errBoom) {
					t.Fatalf("%s: %v, want it to fail", s, err)
				}
				if len(f.taken()) != last+1+len(back) {
					t.Errorf("%s fails: after it %v, want all of %v", s, f.taken()[last:], back)
				}
				f.restart()
				if s.Kind == plan.Unstore { // what is on disk may have happened after all
					_, _ = op.undo(ctx, f.Controller), f.Unpublish(ctx, "kube", []string{rule6})
				}
				if d := cmp.Diff(before, f.lasting()); d != "" {
					t.Errorf("%s fails: the next daemon leaves something (-before +after):\n%s", s, d)
				}
			}
		})
	}
}

// TestEveryLossFails lets each step of each loss fail once. One that is refused changes
// nothing; of the others the next daemon finds what is left.
func TestEveryLossFails(t *testing.T) {
	t.Run("model", func(t *testing.T) { testEveryLossFails(t, onModel(t)) })
	t.Run("kernel", func(t *testing.T) { testEveryLossFails(t, onKernel(t)) })
}

func testEveryLossFails(t *testing.T, f *faulty) {
	ctx := t.Context()
	for _, op := range operations(f.web, f.kube, []string{"8080:80"}) {
		t.Run(op.name, func(t *testing.T) {
			before := f.lasting()
			if err := op.do(ctx, f.Controller); err != nil {
				t.Fatal(err)
			}
			f.fail()
			if err := op.undo(ctx, f.Controller); err != nil {
				t.Fatal(err)
			}
			for i, s := range f.taken() {
				if s.Kind == plan.Unbind {
					continue // the end of the process is the end of its watch
				}
				if err := op.do(ctx, f.Controller); err != nil {
					t.Fatal(err)
				}
				had, disk := settled(f.now), stored(t, f.Controller)
				f.fail(i)
				if err := op.undo(ctx, f.Controller); !errors.Is(err, errBoom) {
					t.Fatalf("%s: %v, want it to fail", s, err)
				}
				f.fault.fn.Store(nil)
				if !slices.ContainsFunc(f.taken(), func(s plan.Step) bool { return s.Kind == plan.Hide || s.Kind == plan.Reclaim }) {
					if d := changed(had, f.now); d != "" {
						t.Errorf("%s refuses, and changes something (-before +after):\n%s", s, d)
					}
					if d := cmp.Diff(disk, stored(t, f.Controller)); d != "" {
						t.Errorf("%s refuses, and changes something on disk (-before +after):\n%s", s, d)
					}
					if err := op.undo(ctx, f.Controller); err != nil {
						t.Fatal(err)
					}
				}
				f.restart()
				if d := cmp.Diff(before, f.lasting()); d != "" {
					t.Errorf("%s fails: the next daemon leaves something (-before +after):\n%s", s, d)
				}
			}
		})
	}
}

// now are the facts of the process that runs.
func (f *faulty) now() map[string]string { return f.facts(f.Controller) }

// settled are the facts once nothing is opened any more: after a start, and after an attach, the edge
// prepares sockets for the cables to come.
func settled(now func() map[string]string) map[string]string {
	was := now()
	for range 100 {
		time.Sleep(50 * time.Millisecond)
		is := now()
		if is["descriptors"] == was["descriptors"] {
			return is
		}
		was = is
	}
	return was
}

// lasting are the facts that are the same in the next process.
func (f *faulty) lasting() map[string]string {
	all := f.now()
	maps.DeleteFunc(all, func(k, _ string) bool {
		return k == "descriptors" || k == "directory" || strings.HasPrefix(k, "socket ") && !strings.HasSuffix(k, " 8080")
	})
	if kernel, ok := all["kernel"]; ok { // neighbours are a cache: what nobody confirms ends by itself
		lines := slices.DeleteFunc(strings.Split(kernel, "\n"), func(l string) bool { return strings.Contains(l, " neighbour ") })
		all["kernel"] = strings.Join(lines, "\n")
	}
	return all
}
