package inventory

import (
	"strings"

	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// Numbers are what the data path knows ports and networks by; control/claims has the slots
// of the host's addresses.
// The state has them too, so that decisions made by them can outlive the process.
// The tally of an interface in the flow table has the number of its port.
type Numbers struct {
	// Ports are found by the cable of an endpoint, the ID of a network for its TAP,
	// or OfUplink.
	Ports    *model.Numbering[string]
	Networks *model.Numbering[string] // by ID; FDB entries outlive a network
}

// LastNetwork is the largest number of a network.
const LastNetwork = 1<<16 - 1

func newNumbers() Numbers {
	return Numbers{
		Ports:    model.NewNumbering[string](dataplane.MaxPorts-1, false),
		Networks: model.NewNumbering[string](LastNetwork, true),
	}
}

const uplinkPrefix = "uplink "

// OfUplink is the key of an uplink in Ports.
func OfUplink(name string) string { return uplinkPrefix + name }

// Keep lets everything have the number that the state says. One that cannot
// be, because it is out of range or another's, is given anew; refused hears of it.
func (t *Numbers) Keep(s state.Contents, refused func(what string, n int)) {
	check := func(ok bool, what string, n int) {
		if !ok && n != 0 {
			refused(what, n)
		}
	}
	t.Ports.Begin(s.Latest.Port)
	t.Networks.Begin(s.Latest.Network)
	for _, n := range s.Networks {
		check(t.Networks.Keep(n.ID, n.Number), "network "+n.Name, n.Number)
		check(t.Ports.Keep(n.ID, n.PortNumber), "port of network "+n.Name, n.PortNumber)
	}
	for _, ct := range s.Containers {
		for _, e := range ct.Endpoints {
			check(t.Ports.Keep(e.Veth, e.PortNumber), "port of container "+ct.Name, e.PortNumber)
		}
	}
	for _, u := range s.Numbers.Uplinks {
		check(t.Ports.Keep(OfUplink(u.Name), u.PortNumber), OfUplink(u.Name), u.PortNumber)
	}
}

// Uplinks are the numbers that no other record has.
func (t *Numbers) Uplinks() (list []state.UplinkNumber) {
	for _, k := range t.Ports.List() {
		if name, ok := strings.CutPrefix(k.Key, uplinkPrefix); ok {
			list = append(list, state.UplinkNumber{Name: name, PortNumber: k.Number})
		}
	}
	return list
}

// Latest is how far the numbers have got.
func (t *Numbers) Latest() *state.Latest {
	return &state.Latest{Network: t.Networks.Latest(), Port: t.Ports.Latest()}
}

// TakeNetwork numbers a network and the port of its TAP.
func (t *Numbers) TakeNetwork(n *Network) error {
	number, ok := t.Networks.Take(n.Rec.ID)
	if !ok {
		return model.Fullf("network %s: %d networks were made since the daemon started: restart it", n.Called(), LastNetwork)
	}
	id, err := t.TakePort(n.Rec.ID)
	if err != nil {
		t.Networks.Free(number)
		return err
	}
	n.Rec.Number, n.Rec.PortNumber = number, int(id)
	n.ID, n.Port = frame.NetworkID(number), id
	return nil
}

// FreeNetwork is the end of a network that no snapshot names any more.
func (t *Numbers) FreeNetwork(n *Network) {
	t.Networks.Free(n.Rec.Number)
	t.Ports.Free(n.Rec.PortNumber)
}

// TakePort numbers the port of a key.
func (t *Numbers) TakePort(key string) (frame.PortID, error) {
	n, ok := t.Ports.Take(key)
	if !ok {
		return frame.NoPort, model.Fullf("all %d ports of the switch are in use: detach a container first", dataplane.MaxPorts-1)
	}
	return frame.PortID(n), nil
}

// KeptUplinks is how many interfaces that are uplinks no more keep their number. An interface
// of a dialler may have a new name each time.
const KeptUplinks = 32

// ForgetUplinks forgets interfaces whose port has been closed for longest.
func (t *Numbers) ForgetUplinks(open func(frame.PortID) bool) {
	var away []int
	for _, k := range t.Ports.List() {
		if !open(frame.PortID(k.Number)) && strings.HasPrefix(k.Key, uplinkPrefix) {
			away = append(away, k.Number)
		}
	}
	for _, n := range away[:max(0, len(away)-KeptUplinks)] {
		t.Ports.Forget(n)
	}
}
