package control

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/state"
)

// lose kills the daemon and leaves nothing on disk that can be read.
func (m *machine) lose() {
	m.t.Helper()
	m.kill()
	for _, name := range []string{state.FileName, state.CopyName} {
		m.ok(os.WriteFile(filepath.Join(m.cfg.StateDir, name), nil, 0o600))
	}
}

// veth is the host end of a container that has one.
func (m *machine) veth(name string) string {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.inv.Containers[name].Endpoints[0].Veth
}

func (m *machine) hasLink(name string) bool {
	return slices.ContainsFunc(m.Facts(), func(f string) bool { return strings.Contains(f, name) })
}

// A container that was found again without its network keeps its interface start after
// start, until somebody detaches it or attaches its name anew.
func TestF20FoundWithoutItsNetwork(t *testing.T) {
	for _, how := range []string{"detach", "attach"} {
		t.Run(how, func(t *testing.T) {
			m := newMachine(t).start()
			ctx := t.Context()
			n, err := m.CreateNetwork(ctx, api.NetworkCreate{Name: "blue"})
			m.ok(err)
			m.container("web", networks("blue"))
			m.container("db")
			veth := m.veth("web")
			m.lose()
			m.RemoveLink(n.Interface)
			for i := range 3 {
				m.start()
				if got, text := m.names(), m.told(); got != "db" || !m.hasLink(veth) || !strings.Contains(text, "web") {
					t.Errorf("start %d: containers %q, its interface is there: %v, event %q", i, got, m.hasLink(veth), text)
				}
				m.kill()
			}
			m.start()
			if how == "detach" {
				m.ok(m.Detach(ctx, "web"))
			} else {
				m.container("web")
			}
			if m.hasLink(veth) {
				t.Error("its interface stays")
			}
			for range 2 { // the first has nothing left to look for
				m.kill()
				m.start()
			}
			if text := m.told(); text != "" {
				t.Errorf("then event %q", text)
			}
		})
	}
}

// A step that fails while records are looked for removes no interface that is up, no record
// and no network.
func TestF20NothingAliveGoesWhileRecordsAreLooked(t *testing.T) {
	for what, lose := range map[string]func(*machine){
		"all is lost": (*machine).lose,
		"something is lost": func(m *machine) {
			m.kill()
			s, _, err := state.Open(m.cfg.StateDir)
			m.ok(err)
			m.ok(errors.Join(s.Lost("network red"), s.Close()))
		},
	} {
		for _, call := range []string{"AdoptCable", "OpenCable"} {
			t.Run(what+" "+call, func(t *testing.T) {
				m := newMachine(t).start()
				_, err := m.CreateNetwork(t.Context(), api.NetworkCreate{Name: "blue", Ephemeral: true})
				m.ok(err)
				m.container("web", networks("blue"))
				veth, want := m.veth("web"), m.endpoints()
				lose(m)
				m.Fail(func(c string) error {
					if c == call {
						return errors.New("no memory")
					}
					return nil
				})
				m.start()
				m.Fail(nil)
				if !m.hasLink(veth) {
					t.Fatal("its interface is gone")
				}
				if _, err := m.Network(t.Context(), "blue"); err != nil {
					t.Errorf("its network: %v", err)
				}
				m.kill()
				m.start()
				if got := m.endpoints(); !slices.Equal(got, want) {
					t.Errorf("then %v, want %v", got, want)
				}
				m.kill()
				m.start()
				if text := m.told(); text != "" || m.names() != "web" {
					t.Errorf("at last %q, event %q", m.names(), text)
				}
			})
		}
	}
}

// Of two records of one name the one that has an interface stays.
func TestF20TwoRecordsOfOneName(t *testing.T) {
	for _, id := range []string{strings.Repeat("0", 32), strings.Repeat("f", 32)} {
		m := newMachine(t).start()
		m.container("web", publish("8080:80"))
		want := m.endpoints()
		m.kill()
		s, c, err := state.Open(m.cfg.StateDir)
		m.ok(err)
		dead := c.Containers[0]
		dead.ID, dead.Endpoints = id, slices.Clone(dead.Endpoints)
		dead.Endpoints[0].Veth, dead.Endpoints[0].Network = "vethgone", model.NewID()
		m.ok(errors.Join(s.PutContainer(dead, nil, nil), s.Close()))
		m.start()
		if got := m.endpoints(); !slices.Equal(got, want) {
			t.Errorf("with %s: %v, want %v", id, got, want)
		}
		m.dials(tcp, "127.0.0.1:8080", "10.88.0.2:80")
		m.stop()
	}
}

// A link says the name that its container had first: of two links of one name and
// interface no container is made.
func TestF20RenamedContainerIsNoPartOfAnother(t *testing.T) {
	m := newMachine(t).start()
	ctx := t.Context()
	m.container("web")
	old := m.veth("web")
	_, err := m.UpdateContainer(ctx, "web", api.ContainerUpdate{Name: "www"})
	m.ok(err)
	m.AddNetns("/run/netns/other")
	_, err = m.Attach(ctx, api.Attach{Name: "web", Netns: "/run/netns/other"})
	m.ok(err)
	other := m.veth("web")
	m.lose()
	m.start()
	ct, err := m.Container(ctx, "web")
	m.ok(err)
	if len(ct.Endpoints) != 1 || !m.hasLink(old) || !m.hasLink(other) {
		t.Errorf("container web has %d endpoints, want one; links there: %v %v", len(ct.Endpoints), m.hasLink(old), m.hasLink(other))
	}
	if text := m.told(); !strings.Contains(text, "interfaces that nobody knows") {
		t.Errorf("event %q", text)
	}
	_, err = m.CreateNetwork(ctx, api.NetworkCreate{Name: "red"})
	m.ok(err)
	if _, err := m.Connect(ctx, "web", api.Connect{Network: "red"}); err == nil || !strings.Contains(err.Error(), "detach it and attach it again") {
		t.Errorf("connect: %v", err)
	}
}
