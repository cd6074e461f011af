package host

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// qdiscsOf names the qdiscs of an interface that hold ingress filters.
func qdiscsOf(t testing.TB, h *Host, index int) (kinds []string) {
	t.Helper()
	all, err := h.route.qdiscs(index)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range all {
		if q.index == index && q.parent == tcClsact {
			kinds = append(kinds, q.kind)
		}
	}
	return kinds
}

// filtersOf lists what stands on an interface's ingress, in the kernel's order,
// as priority and name.
func filtersOf(t testing.TB, h *Host, index int) (list []string) {
	t.Helper()
	all, err := h.route.filters(index, tcIngress)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.handle != 0 {
			list = append(list, fmt.Sprintf("%d %s", f.info>>16, f.name))
		}
	}
	return list
}

func wantOnIngress(t testing.TB, h *Host, index int, qdisc string, filters ...string) {
	t.Helper()
	if got := strings.Join(qdiscsOf(t, h, index), " "); got != qdisc {
		t.Errorf("qdiscs %q, want %q", got, qdisc)
	}
	if got := filtersOf(t, h, index); !slices.Equal(got, filters) {
		t.Errorf("filters %q, want %q", got, filters)
	}
}

// someone attaches a bpf filter as any program may; the tests remove none.
func someone(t testing.TB, h *Host, index int, parent uint32, info uint32, prog int) {
	t.Helper()
	err := h.route.addFilter(filter{index: index, parent: parent, info: info, handle: 1, name: "someone"}, prog)
	if err != nil {
		t.Fatal(err)
	}
}

func addShield(t testing.TB, h *Host, index, prog int, owner string) {
	t.Helper()
	if err := h.AddShield(index, prog, owner); err != nil {
		t.Fatal(err)
	}
}

func removeShields(t testing.TB, h *Host, owner string, but ...int) {
	t.Helper()
	if _, err := h.RemoveShields(owner, but...); err != nil {
		t.Error(err)
	}
}

// inWorld runs fn in the host of a world, with the index of its uplink.
func inWorld(t *testing.T, fn func(w *netlab.World, h *Host, uplink int)) {
	t.Helper()
	w := labtest.NewWorld(t)
	index, err := w.Host.Index("eth0")
	if err != nil {
		t.Fatal(err)
	}
	inHost(t, w.Host, func(h *Host) { fn(w, h, index) })
}

func TestShieldDropsUntilRemoved(t *testing.T) {
	drop := dropAll(t)
	inWorld(t, func(w *netlab.World, h *Host, up int) {
		// Without one an answer to ARP is needed, which the shield would drop.
		mac, err := w.Host.MAC("eth0")
		if err != nil {
			t.Fatal(err)
		}
		run(t, w.Outside, "ip", "neigh", "replace", netlab.HostAddr, "lladdr", mac.String(), "dev", "eth0")
		addShield(t, h, up, drop, "a")
		wantOnIngress(t, h, up, "clsact", "1 vswitch:a,clsact")
		before := inPackets(t)
		send(t, w.Host, w.Outside, "eth0", netlab.HostAddr+":9")
		if got := inPackets(t) - before; got != 0 {
			t.Errorf("the host's stack received %d packets behind the shield", got)
		}
		removeShields(t, h, "a")
		wantOnIngress(t, h, up, "")
		removeShields(t, h, "a") // and again
		c, err := w.Outside.Dial("udp", netlab.HostAddr+":9", 0)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		before = inPackets(t)
		for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
			_, _ = c.Write([]byte("x"))
			if inPackets(t) > before {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Error("no packet passes where the shield was")
	})
}

// TestShieldBesideOthers has filters of somebody else before and after the shield
// comes, on a qdisc of theirs and on ours: they stay.
func TestShieldBesideOthers(t *testing.T) {
	drop := dropAll(t)
	const ipv4 = 1<<16 | 0x0008 // priority 1, ETH_P_IP in network order
	t.Run("their clsact", func(t *testing.T) {
		inWorld(t, func(_ *netlab.World, h *Host, up int) {
			if err := h.route.addClsact(up); err != nil {
				t.Fatal(err)
			}
			addShield(t, h, up, drop, "a")
			removeShields(t, h, "a")
			wantOnIngress(t, h, up, "clsact") // empty, but not ours
			someone(t, h, up, tcIngress, tcInfo(1), drop)
			addShield(t, h, up, drop, "a")
			wantOnIngress(t, h, up, "clsact", "1 vswitch:a", "1 someone")
			removeShields(t, h, "a")
			wantOnIngress(t, h, up, "clsact", "1 someone")
		})
	})
	t.Run("our clsact", func(t *testing.T) {
		inWorld(t, func(_ *netlab.World, h *Host, up int) {
			addShield(t, h, up, drop, "a")
			someone(t, h, up, tcIngress, tcInfo(1), drop)
			removeShields(t, h, "a")
			wantOnIngress(t, h, up, "clsact", "1 someone")
		})
	})
	t.Run("a start goes first again", func(t *testing.T) {
		inWorld(t, func(_ *netlab.World, h *Host, up int) {
			addShield(t, h, up, drop, "a")
			someone(t, h, up, tcIngress, tcInfo(1), drop)
			wantOnIngress(t, h, up, "clsact", "1 someone", "1 vswitch:a,clsact")
			addShield(t, h, up, dropAll(t), "a")
			wantOnIngress(t, h, up, "clsact", "1 vswitch:a,clsact", "1 someone")
		})
	})
	t.Run("our clsact, their egress", func(t *testing.T) {
		inWorld(t, func(_ *netlab.World, h *Host, up int) {
			addShield(t, h, up, drop, "a")
			someone(t, h, up, tcEgress, tcInfo(1), drop)
			removeShields(t, h, "a")
			wantOnIngress(t, h, up, "clsact")
			if left, err := h.route.filters(up, tcEgress); err != nil || len(left) == 0 {
				t.Errorf("their egress filter is gone: %v, %v", left, err)
			}
		})
	})
	t.Run("their ingress qdisc and other protocol", func(t *testing.T) {
		inWorld(t, func(w *netlab.World, h *Host, up int) {
			run(t, w.Host, "tc", "qdisc", "add", "dev", "eth0", "ingress")
			someone(t, h, up, tcIngress, ipv4, drop)
			addShield(t, h, up, drop, "a")
			wantOnIngress(t, h, up, "ingress", "1 someone", "2 vswitch:a")
			removeShields(t, h, "a")
			wantOnIngress(t, h, up, "ingress", "1 someone")
		})
	})
	t.Run("their qdisc in place of ours", func(t *testing.T) {
		inWorld(t, func(w *netlab.World, h *Host, up int) {
			addShield(t, h, up, drop, "a")
			run(t, w.Host, "tc", "qdisc", "del", "dev", "eth0", "clsact")
			removeShields(t, h, "a")
			run(t, w.Host, "tc", "qdisc", "add", "dev", "eth0", "ingress")
			removeShields(t, h, "a")
			wantOnIngress(t, h, up, "ingress")
		})
	})
}

// TestShieldOfSeveralDaemons wants each to remove its own and the last the qdisc,
// whoever made it.
func TestShieldOfSeveralDaemons(t *testing.T) {
	drop := dropAll(t)
	inWorld(t, func(_ *netlab.World, h *Host, up int) {
		addShield(t, h, up, drop, "a")
		addShield(t, h, up, drop, "b")
		removeShields(t, h, "a")
		wantOnIngress(t, h, up, "clsact", "1 vswitch:b,clsact")
		removeShields(t, h, "b")
		wantOnIngress(t, h, up, "")
	})
}

// TestRemoveShields: a start takes the place of what a killed process left, and what is
// no uplink any more has no shield.
func TestRemoveShields(t *testing.T) {
	drop := dropAll(t)
	inWorld(t, func(w *netlab.World, h *Host, up int) {
		if err := netlab.Veth(w.Host, "eth1", w.Outside, "eth1", 0); err != nil {
			t.Fatal(err)
		}
		second, err := w.Host.Index("eth1")
		if err != nil {
			t.Fatal(err)
		}
		addShield(t, h, up, drop, "a")
		addShield(t, h, up, drop, "ab") // another owner, although its name begins like ours
		addShield(t, h, second, drop, "a")
		addShield(t, h, second, dropAll(t), "a") // in its place
		wantOnIngress(t, h, second, "clsact", "1 vswitch:a,clsact")
		from, err := h.RemoveShields("a", second)
		if want := []string{"eth0"}; err != nil || !slices.Equal(from, want) {
			t.Errorf("removed from %v, %v, want %v", from, err, want)
		}
		from, err = h.RemoveShields("a")
		if want := []string{"eth1"}; err != nil || !slices.Equal(from, want) {
			t.Errorf("removed from %v, %v, want %v", from, err, want)
		}
		wantOnIngress(t, h, up, "clsact", "1 vswitch:ab,clsact")
		wantOnIngress(t, h, second, "")
		if from, err = h.RemoveShields("a"); err != nil || len(from) != 0 {
			t.Errorf("and again: %v, %v, want nothing", from, err)
		}
	})
}

func TestShieldOfAVanishedInterface(t *testing.T) {
	drop := dropAll(t)
	inWorld(t, func(w *netlab.World, h *Host, up int) {
		addShield(t, h, up, drop, "a")
		if err := w.Host.DelLink("eth0"); err != nil {
			t.Fatal(err)
		}
		removeShields(t, h, "a")
		if err := h.AddShield(up, drop, "a"); err == nil {
			t.Error("a shield on an interface that is not there")
		}
	})
}
