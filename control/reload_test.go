package control

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
)

// All of a configuration that can change while the switch runs does, and one that
// is wrong changes nothing.
func TestF38Reload(t *testing.T) {
	m := newMachine(t).start()
	ctx := t.Context()
	m.container("web")
	before := m.Facts()
	next := m.cfg
	next.Pool, next.Timeouts, next.Workers = netip.MustParsePrefix("10.200.0.0/16"), map[string]time.Duration{"udp": 7 * time.Minute}, 2
	m.ok(m.Reload(next))
	m.same("the configuration", before, m.Facts())
	n, err := m.CreateNetwork(ctx, api.NetworkCreate{Name: "blue"})
	m.ok(err)
	if n.Subnet != "10.200.0.0/24" {
		t.Errorf("subnet %s is not of the new pool", n.Subnet)
	}
	m.mu.Lock()
	cfg, _ := m.compileLocked()
	m.mu.Unlock()
	if cfg.Timeouts.UDP != 7*time.Minute {
		t.Errorf("UDP flows end after %s", cfg.Timeouts.UDP)
	}
	next.Pool, next.Timeouts = netip.MustParsePrefix("10.201.0.0/16"), map[string]time.Duration{"nosuch": time.Minute}
	if err := m.Reload(next); err == nil {
		t.Error("a wrong timeout was taken")
	}
	n, err = m.CreateNetwork(ctx, api.NetworkCreate{Name: "red"})
	m.ok(err)
	if n.Subnet != "10.200.1.0/24" {
		t.Errorf("subnet %s after a configuration that was refused", n.Subnet)
	}
}
