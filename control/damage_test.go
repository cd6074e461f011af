package control

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/state"
)

// damaged ends the daemon, damages what it stored and starts the next.
func (m *machine) damaged(change func(name string, b []byte) []byte) {
	m.t.Helper()
	m.kill()
	for _, name := range []string{state.FileName, state.CopyName} {
		path := filepath.Join(m.cfg.StateDir, name)
		b, err := os.ReadFile(path)
		m.ok(err)
		if b = change(name, b); b == nil {
			m.ok(os.Remove(path))
		} else {
			m.ok(os.WriteFile(path, b, 0o600))
		}
	}
	m.start()
}

// inventory is what the API says of all there is.
func (m *machine) listed() (list []any) {
	m.t.Helper()
	cts, err := m.Containers(m.t.Context(), api.ContainerFilter{})
	m.ok(err)
	nets, err := m.Networks(m.t.Context())
	m.ok(err)
	return append(list, cts, nets)
}

// told is the newest event about the state, "" when there is none.
func (m *machine) told() (text string) {
	m.t.Helper()
	s, err := m.Events(m.t.Context(), api.EventQuery{Since: new(uint64), Once: true})
	m.ok(err)
	defer s.Close()
	for {
		list, err := s.Next(m.t.Context())
		m.ok(err)
		if len(list) == 0 {
			return text
		}
		for _, e := range list {
			if e.Type == api.EventStateDamaged {
				text = e.Message
			}
		}
	}
}

// Whatever is damaged in one of the two files, the next start has all containers with all
// they had, says so once, and touches no interface.
func TestF20DaemonStartsOnADamagedState(t *testing.T) {
	cut := func(b []byte) []byte { return b[:min(len(b)/2, 3*4096)] }
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[at%len(b)] ^= 1; return b }
	}
	same := func(b []byte) []byte { return b }
	for what, change := range map[string][2]func([]byte) []byte{
		"nothing":              {same, same},
		"half a file":          {cut, same},
		"an empty file":        {func([]byte) []byte { return []byte{} }, same},
		"no file":              {func([]byte) []byte { return nil }, same},
		"its pages are zeros":  {func(b []byte) []byte { clear(b[8192:]); return b }, same},
		"its first page":       {flip(16), same},
		"a name in a record":   {func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(`"web"`), []byte(`"wob"`)) }, same},
		"half a copy":          {same, cut},
		"a bit of the copy":    {same, flip(100)},
		"no copy":              {same, func([]byte) []byte { return nil }},
		"other pages together": {func(b []byte) []byte { copy(b[4*4096:], b[3*4096:4*4096]); return b }, same},
	} {
		t.Run(what, func(t *testing.T) {
			m := newMachine(t).start()
			_, err := m.CreateNetwork(t.Context(), api.NetworkCreate{Name: "blue", IPv6: yes(), Labels: map[string]string{"a": "b"}})
			m.ok(err)
			m.container("web", networks("bridge", "blue"), publish("8080:80"))
			m.container("db", networks("blue"), publish("5432"))
			want, links := m.listed(), m.Facts()
			m.damaged(func(name string, b []byte) []byte {
				if name == state.FileName {
					return change[0](b)
				}
				return change[1](b)
			})
			if d := cmp.Diff(want, m.listed()); d != "" {
				t.Errorf("(-before +after):\n%s", d)
			}
			for _, f := range m.Facts() {
				if strings.Contains(f, "link") && !slices.Contains(links, f) {
					t.Errorf("new: %s", f)
				}
			}
			if text := m.told(); (text != "") != (what != "nothing") || strings.Contains(text, "\n") {
				t.Errorf("event %q", text)
			}
			m.kill()
			m.start()
			if d := cmp.Diff(want, m.listed()); d != "" || m.told() != "" {
				t.Errorf("the next start: event %q (-before +after):\n%s", m.told(), d)
			}
		})
	}
}

// With nothing left on disk the networks and containers come back from the kernel's links,
// as closed as they were; published ports do not.
func TestF20StateIsFoundAgainInTheKernel(t *testing.T) {
	for what, change := range map[string]func(string, []byte) []byte{
		"both empty":   func(string, []byte) []byte { return []byte{} },
		"both zeros":   func(_ string, b []byte) []byte { clear(b); return b },
		"both cut off": func(_ string, b []byte) []byte { return b[:700] },
		"a record, and all of the copy": func(name string, b []byte) []byte {
			if name == state.CopyName {
				clear(b)
			}
			return bytes.ReplaceAll(b, []byte(`"name":"web"`), []byte(`"name":"wob"`))
		},
	} {
		t.Run(what, func(t *testing.T) {
			m := newMachine(t).start()
			ctx := t.Context()
			no := false
			_, err := m.CreateNetwork(ctx, api.NetworkCreate{Name: "blue", Subnet: "10.7.0.0/24", IPv6: yes(), Internal: true})
			m.ok(err)
			_, err = m.CreateNetwork(ctx, api.NetworkCreate{Name: "red", Subnet: "10.8.0.0/24", MTU: 1400, Mode: api.GatewayRouted})
			m.ok(err)
			_, err = m.UpdateNetwork(ctx, "red", api.NetworkUpdate{ICC: &no})
			m.ok(err)
			m.container("web", networks("bridge", "blue"), publish("8080:80"))
			m.container("db", networks("red"))
			m.AddNetns(netnsOf("pod"))
			_, err = m.Attach(ctx, api.Attach{Name: "pod", Runtime: api.RuntimeCNI, RuntimeID: "abc", Netns: netnsOf("pod"), Networks: []api.Connect{{Network: "blue", Ifname: "net0", Guard: api.GuardOff}}})
			m.ok(err)
			nets, err := m.Networks(ctx)
			m.ok(err)
			before := m.endpoints()
			m.damaged(change)
			if got := m.names(); got != "db pod web" {
				t.Fatalf("containers %q", got)
			}
			if d := cmp.Diff(before, m.endpoints()); d != "" {
				t.Errorf("endpoints (-before +after):\n%s", d)
			}
			after, err := m.Networks(ctx)
			m.ok(err)
			for i := range nets {
				nets[i].Created, after[i].Created = nets[0].Created, nets[0].Created
			}
			if d := cmp.Diff(nets, after); d != "" {
				t.Errorf("networks (-before +after):\n%s", d)
			}
			text := m.told()
			if !strings.Contains(text, "found again") || !strings.Contains(text, "web") || strings.Contains(text, "\n") {
				t.Errorf("event %q", text)
			}
			// They are containers like any others, also for their runtime and the next daemon.
			m.stop()
			m.start()
			if got, text := m.names(), m.told(); got != "db pod web" || text != "" {
				t.Errorf("then containers %q, event %q", got, text)
			}
			m.ok(m.Release(ctx, api.Release{Runtime: api.RuntimeCNI, RuntimeID: "abc"}))
			_, err = m.Publish(ctx, "web", []string{"8080:80"})
			m.ok(err)
			m.dials(tcp, "127.0.0.1:8080", "10.88.0.2:80")
			m.ok(m.Detach(ctx, "web"))
			m.ok(m.Detach(ctx, "db"))
			m.until("the interfaces are gone", func() bool {
				return !slices.ContainsFunc(m.Facts(), func(f string) bool { return strings.Contains(f, "veth") })
			})
		})
	}
}

// endpoints are the places of all containers, without what only a record has.
func (m *machine) endpoints() (list []string) {
	m.t.Helper()
	cts, err := m.Containers(m.t.Context(), api.ContainerFilter{})
	m.ok(err)
	for _, ct := range cts {
		for _, e := range ct.Endpoints {
			e.Handover = "" // the runtime's own name of an interface that nobody hands over any more
			list = append(list, fmt.Sprintf("%s %s %+v", ct.Name, ct.ID, e))
		}
	}
	return list
}

// A record of a network that cannot be keeps its containers' interfaces, and nobody else down.
func TestF20NetworkRecordIsLost(t *testing.T) {
	m := newMachine(t).start()
	_, err := m.CreateNetwork(t.Context(), api.NetworkCreate{Name: "blue"})
	m.ok(err)
	m.container("web", networks("blue"))
	m.container("db")
	m.kill()
	s, c, err := state.Open(m.cfg.StateDir)
	m.ok(err)
	for _, n := range c.Networks {
		if n.Name == "blue" {
			n.Subnets = nil
			m.ok(s.PutNetwork(n, nil))
		}
	}
	m.ok(s.Close())
	m.start()
	if got := m.names(); got != "db web" {
		t.Errorf("containers %q", got)
	}
	if text := m.told(); !strings.Contains(text, "network blue") || !strings.Contains(text, "found again") {
		t.Errorf("event %q", text)
	}
}

// Somebody removes what is stored, while a daemon runs or not: the next one finds the containers
// that live, as the holder says that they are of this directory. With another directory it begins anew.
func TestF20StateIsRemoved(t *testing.T) {
	m := newMachine(t).start()
	web := m.container("web", publish("8080:80"))
	before := m.endpoints()
	m.stop()
	was := m.cfg.StateDir
	m.cfg.StateDir = t.TempDir()
	m.start()
	if got := m.names(); got != "" {
		t.Fatalf("another directory has containers %q", got)
	}
	m.stop()
	m.cfg.StateDir = was
	m.start()
	if got := m.names(); got != "web" {
		t.Fatalf("containers %q", got)
	}
	m.stop()
	for _, name := range []string{state.FileName, state.CopyName} {
		m.ok(os.Remove(filepath.Join(was, name)))
	}
	m.start()
	if d := cmp.Diff(before, m.endpoints()); d != "" {
		t.Errorf("endpoints (-before +after):\n%s", d)
	}
	if text := m.told(); !strings.Contains(text, "removed") || !strings.Contains(text, "holder") {
		t.Errorf("event %q", text)
	}
	m.stop()
	m.start()
	if got, text := m.names(), m.told(); got != "web" || text != "" {
		t.Errorf("then containers %q, event %q", got, text)
	}
	if again, err := m.Container(t.Context(), web.ID); err != nil || again.Name != "web" {
		t.Errorf("its ID is another: %v", err)
	}
}

// Whatever becomes of both files, all comes back from the copy that the holder has: published ports,
// labels, what a network does not translate, containers without interfaces.
func TestF20StateIsRecalled(t *testing.T) {
	for what, change := range map[string]func([]byte) []byte{
		"removed": func([]byte) []byte { return nil },
		"empty":   func([]byte) []byte { return []byte{} },
		"zeros":   func(b []byte) []byte { clear(b); return b },
		"a third": func(b []byte) []byte { return b[:len(b)/3] },
		"bits": func(b []byte) []byte {
			for i := 40; i < len(b); i += 97 {
				b[i] ^= 4
			}
			return b
		},
	} {
		t.Run(what, func(t *testing.T) {
			m := newMachine(t).start()
			ctx := t.Context()
			m.container("before")
			m.stop()
			m.start() // the copy begins anew with each process
			_, err := m.CreateNetwork(ctx, api.NetworkCreate{Name: "blue", Subnet: "10.7.0.0/24", Labels: map[string]string{"a": "b"}, Exempt: []string{"192.0.2.0/24"}})
			m.ok(err)
			m.container("web", networks("bridge", "blue"), publish("8080:80", "20000-20999:20000-20999/udp"), func(in *api.Attach) { in.Labels = map[string]string{"x": "y"} })
			m.container("gone", publish("9090:80"))
			m.ok(m.Detach(ctx, "gone"))
			_, err = m.Publish(ctx, "before", []string{"8443:443"})
			m.ok(err)
			want, facts := m.listed(), m.Facts()
			m.lost(change)
			m.start()
			if d := cmp.Diff(want, m.listed()); d != "" {
				t.Errorf("(-before +after):\n%s", d)
			}
			if text := m.told(); !strings.Contains(text, "holder") || strings.Contains(text, "lost are") || strings.Contains(text, "\n") {
				t.Errorf("event %q", text)
			}
			m.same("the loss", facts, m.Facts())
			m.dials(tcp, "127.0.0.1:8443", "10.88.0.2:443")
			// What is on disk now is all there is, also without a holder.
			m.stop()
			m.EndHolder()
			m.start()
			if d := cmp.Diff(want, m.listed()); d != "" || m.told() != "" {
				t.Errorf("the next start: event %q (-before +after):\n%s", m.told(), d)
			}
		})
	}
}

// dies kills the daemon, whose files stay where they are.
func (m *machine) dies() {
	m.t.Helper()
	dir := m.cfg.StateDir
	m.kill()
	m.cfg.StateDir = dir
}

// lost kills the daemon and changes both files where they are.
func (m *machine) lost(change func([]byte) []byte) {
	m.t.Helper()
	m.dies()
	dir := m.cfg.StateDir
	for _, name := range []string{state.FileName, state.CopyName} {
		path := filepath.Join(dir, name)
		b, err := os.ReadFile(path)
		m.ok(err)
		if b = change(b); b == nil {
			m.ok(os.Remove(path))
		} else {
			m.ok(os.WriteFile(path, b, 0o600))
		}
	}
}

// A copy of another directory, or one that is damaged too, gives nothing.
func TestF20RecalledByItsOwnOnly(t *testing.T) {
	m := newMachine(t).start()
	m.container("web", publish("8080:80"))
	m.lost(func(b []byte) []byte { clear(b); return b })
	elsewhere, was := t.TempDir(), m.cfg.StateDir
	for _, name := range []string{state.FileName, state.CopyName} {
		b, err := os.ReadFile(filepath.Join(was, name))
		m.ok(err)
		m.ok(os.WriteFile(filepath.Join(elsewhere, name), b, 0o600))
	}
	m.cfg.StateDir = elsewhere
	m.start()
	cts, err := m.Containers(t.Context(), api.ContainerFilter{})
	m.ok(err)
	for _, ct := range cts {
		if len(ct.Ports) > 0 {
			t.Errorf("%s has ports %v of another directory's state", ct.Name, ct.Ports)
		}
	}
}
