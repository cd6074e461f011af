package control

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/plan"
)

// everyCall runs an operation again and again, and lets another call of the edge fail each
// time, until none is left. done is told after each which call it was, and what the
// operation said.
func (m *machine) everyCall(run func() error, done func(call string, err error)) {
	m.t.Helper()
	boom := errors.New("boom")
	for n, again := 0, true; again; n++ {
		var mu sync.Mutex
		count, failed := 0, ""
		m.Fail(func(call string) error {
			mu.Lock()
			defer mu.Unlock()
			// What the controller looks at by itself comes when it comes.
			if slices.Contains([]string{"BusyPorts", "Watch", "Intruders", "Neighbors"}, call) {
				return nil
			}
			if count++; count-1 == n {
				failed = call
				return fmt.Errorf("%s: %w", call, boom)
			}
			return nil
		})
		err := run()
		m.Fail(nil)
		mu.Lock()
		call := failed
		mu.Unlock()
		if call == "" && err != nil {
			m.t.Fatalf("without a fault: %v", err)
		}
		if err != nil && !errors.Is(err, boom) && !strings.Contains(err.Error(), "boom") && !strings.Contains(err.Error(), "overlaps") {
			m.t.Errorf("%s failed, and the error is %v", call, err)
		}
		done(call, err)
		again = call != ""
	}
}

// all is the model and the controller's tables.
func (m *machine) all() map[string]string {
	f := tables(m.Controller)
	f["kernel"] = strings.Join(m.Facts(), "\n")
	return f
}

// A call of the edge that fails leaves nothing of the operation, in the kernel, in the
// controller or on disk; or the operation does without it.
func TestEveryCallFails(t *testing.T) {
	m := newMachine(t).start()
	ctx := t.Context()
	_, err := m.CreateNetwork(ctx, api.NetworkCreate{Name: "blue", IPv6: yes()})
	m.ok(err)
	m.container("other")
	m.AddNetns(netnsOf("web"))
	rules := []string{"8080:80", "127.0.0.1:9090:90", "10000-11000:10000-11000", "81"}
	for _, op := range []struct {
		name string
		do   func() error
		undo func() error
	}{
		{"create", func() error {
			_, err := m.CreateNetwork(ctx, api.NetworkCreate{Name: "green", IPv6: yes(), Mode: api.GatewayRouted})
			return err
		}, func() error { return m.RemoveNetwork(ctx, "green") }},
		{"attach", func() error {
			_, err := m.attach("web", networks("bridge", "blue"), publish(rules...))
			return err
		}, func() error { return m.Detach(ctx, "web") }},
		{"waiting", func() error {
			_, err := m.Attach(ctx, api.Attach{Name: "web", Runtime: api.RuntimeDocker, RuntimeID: "abc", Handover: true, Networks: []api.Connect{{Network: "bridge"}}})
			return err
		}, func() error { return m.Detach(ctx, "web") }},
		{"connect", func() error {
			_, err := m.Connect(ctx, "other", api.Connect{Network: "blue"})
			return err
		}, func() error { return m.Disconnect(ctx, "other", "blue") }},
		{"publish", func() error { _, err := m.Publish(ctx, "other", rules); return err },
			func() error { return m.Unpublish(ctx, "other", []string{"80", "90", "10000-11000", "81"}) }},
	} {
		t.Run(op.name, func(t *testing.T) {
			cables := m.cables()
			m.ok(op.do())
			m.ok(op.undo())
			quiet := func() map[string]string { // what is dropped in the background has gone
				m.until("the cables are gone", func() bool { return m.cables() == cables })
				return m.all()
			}
			before, disk := quiet(), stored(t, m.Controller)
			m.everyCall(op.do, func(call string, err error) {
				if err == nil {
					m.ok(op.undo())
				}
				if d := cmp.Diff(before, quiet()); d != "" {
					t.Errorf("%s failed, with error %v, and left something (-before +after):\n%s", call, err, d)
				}
				if d := cmp.Diff(disk, stored(t, m.Controller)); d != "" {
					t.Errorf("%s failed and left something on disk (-before +after):\n%s", call, d)
				}
			})
		})
	}
}

// cables counts them in the host's namespace.
func (m *machine) cables() (n int) {
	for _, f := range m.Facts() {
		if strings.Contains(f, "link veth") || strings.Contains(f, "link wait") {
			n++
		}
	}
	return n
}

// What cannot be undone is found by the next start.
func TestDetachWithFaults(t *testing.T) {
	m := newMachine(t).start()
	ctx := t.Context()
	m.AddNetns(netnsOf("web"))
	clean := m.Facts()
	for _, call := range []string{"DelLink", "DropSlot", "DelNeighbor"} {
		m.container("web", publish("127.0.0.1:8080:80"))
		m.Fail(func(c string) error {
			if c == call {
				return errors.New("boom")
			}
			return nil
		})
		_ = m.Detach(ctx, "web")
		m.Fail(nil)
		if got := m.names(); got != "" {
			t.Errorf("%s failed, and the containers are %q", call, got)
		}
		m.stop()
		m.start()
		m.same("a failed "+call, clean, slices.DeleteFunc(m.Facts(), func(f string) bool { return strings.Contains(f, "neighbour 10.88.0.") }))
	}
}

// A start that fails leaves the machine as it was.
func TestStartWithFaults(t *testing.T) {
	m := newMachine(t)
	first := m.Facts()
	m.everyCall(m.tryStart, func(call string, err error) {
		if err == nil {
			m.stop()
			return
		}
		m.Controller = nil
		m.same("a start whose "+call+" failed", first, m.Facts())
	})
	m.start()
	m.container("web", publish("8080:80"))
	m.stop()
	m.everyCall(m.tryStart, func(call string, err error) {
		if err != nil {
			m.Controller = nil
			m.start() // finds what is there
		}
		if m.names() == "" { // its cable could not be adopted, and is removed then
			if n := m.cables(); n > 0 || call != "AdoptCable" && call != "OpenCable" {
				t.Errorf("%s failed, and web is not restored: %d cables", call, n)
			}
			m.container("web", publish("8080:80"))
		}
		m.stop()
	})
}

// A snapshot that the switch refuses leaves nothing of a change, and a network that could
// not be removed stays one that can.
func TestARefusedSnapshotLeavesNothing(t *testing.T) {
	m := newMachine(t).start()
	ctx := t.Context()
	_, err := m.CreateNetwork(ctx, api.NetworkCreate{Name: "blue", Subnet: "10.7.0.0/24"})
	m.ok(err)
	m.container("web")
	refuse := func(on bool) {
		m.Controller.mu.Lock()
		defer m.Controller.mu.Unlock()
		m.Controller.cfg.timeouts.UDP = 0
		if on {
			m.Controller.cfg.timeouts.UDP = -1
		}
	}
	named := func() string {
		ct, err := m.dir.Now().Container("web")
		m.ok(err)
		n, err := m.Network(ctx, "blue")
		m.ok(err)
		return fmt.Sprintf("%+v %+v", *ct, n)
	}
	before, was, disk := m.all(), named(), stored(t, m.Controller)
	refuse(true)
	if _, err := m.UpdateNetwork(ctx, "blue", api.NetworkUpdate{ICC: no(), Labels: map[string]string{"a": "b"}}); err == nil {
		t.Error("the update was not refused")
	}
	if _, err := m.Publish(ctx, "web", []string{"8080:80"}); err == nil {
		t.Error("the port was not refused")
	}
	if d := cmp.Diff(was, named()); d != "" {
		t.Errorf("a refused change left something (-before +after):\n%s", d)
	}
	refuse(false)
	full := func(s plan.Step) error {
		if s.Kind != plan.Store {
			return nil
		}
		refuse(true)
		return errors.New("disk full")
	}
	m.fault.fn.Store(&full)
	if err := m.RemoveNetwork(ctx, "blue"); err == nil {
		t.Error("the removal was not refused")
	}
	m.fault.fn.Store(nil)
	refuse(false)
	if d := cmp.Diff(was, named()); d != "" {
		t.Errorf("a refused removal left something (-before +after):\n%s", d)
	}
	if d := cmp.Diff(before, m.all()); d != "" {
		t.Errorf("something is left (-before +after):\n%s", d)
	}
	if d := cmp.Diff(disk, stored(t, m.Controller)); d != "" {
		t.Errorf("something is left on disk (-before +after):\n%s", d)
	}
	m.ok(m.RemoveNetwork(ctx, "blue"))
}
