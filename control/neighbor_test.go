package control

import (
	"strconv"
	"testing"

	"github.com/vswitch/vswitch/control/api"
)

// TestNeighborsAreIntroduced: host and container know each other's MAC before they ask,
// so that the first packets do not wait for an answer; and not any more afterwards.
func TestNeighborsAreIntroduced(t *testing.T) {
	r := newRig(t)
	r.start()
	n, err := r.CreateNetwork(t.Context(), api.NetworkCreate{Name: "dual", IPv6: yes()})
	if err != nil {
		t.Fatal(err)
	}
	ns, ct := r.attach("a", api.Attach{Networks: []api.Connect{{Network: "dual"}}})
	ep := ct.Endpoints[0]
	for f, a := range addrsOf(t, ct) {
		if state, mac, err := r.world.Host.Neighbor(n.Interface, a); err != nil || state == 0 || mac != ep.MAC {
			t.Errorf("the host has neighbour %s in state %#x with %q, %v, not %s", a, state, mac, err, ep.MAC)
		}
		if state, mac, err := ns.Neighbor("eth0", ep.Gateways[f]); err != nil || state == 0 || mac != n.GatewayMAC {
			t.Errorf("the container has neighbour %s in state %#x with %q, %v, not %s", ep.Gateways[f], state, mac, err, n.GatewayMAC)
		}
	}
	if err := r.Detach(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	for _, a := range addrsOf(t, ct) {
		eventually(t, "the host forgets "+a, func() bool {
			state, _, err := r.world.Host.Neighbor(n.Interface, a)
			return err == nil && state == 0
		})
	}
}

// TestManyNeighborsAreNot: the kernel's table of neighbours is for all namespaces, and
// small: beyond a number the containers ask, and the host.
func TestManyNeighborsAreNot(t *testing.T) {
	r := newRig(t)
	r.start()
	known := 0
	for i := range introduceUpTo + 3 {
		ns, ct := r.attach("c"+strconv.Itoa(i), api.Attach{})
		there, _, err := ns.Neighbor("eth0", ct.Endpoints[0].Gateway)
		if err != nil {
			t.Fatal(err)
		}
		if there != 0 {
			known++
		}
	}
	// Other namespaces may fill the kernel's table meanwhile, and it forgets some of ours.
	if known == 0 || known > introduceUpTo {
		t.Errorf("%d containers know their gateway from the start, want some, up to %d", known, introduceUpTo)
	}
}
