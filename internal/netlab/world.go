package netlab

import "errors"

// Addresses of a World.
const (
	HostAddr     = "198.51.100.1"
	HostAddr6    = "2001:db8::1"
	OutsideAddr  = "198.51.100.9"
	OutsideAddr6 = "2001:db8::9"
	FarAddr      = "203.0.113.9"   // on Outside's lo: behind the router
	FarAddr6     = "2001:db8:f::9" // likewise
)

// World is a host with one uplink and the world behind it: two namespaces joined
// by a veth pair named eth0 at both ends.
//
//	Host     eth0 198.51.100.1/24 2001:db8::1/64, default route via Outside
//	Outside  eth0 198.51.100.9/24 2001:db8::9/64, lo 203.0.113.9/32 2001:db8:f::9/128
//
// Outside has no route to private addresses: what leaves the host with one as
// its source gets no answer.
type World struct{ Host, Outside *NS }

// NewWorld makes a World.
func NewWorld() (*World, error) {
	w := &World{}
	if err := w.make(); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

func (w *World) make() (err error) {
	if w.Host, err = New("host"); err != nil {
		return err
	}
	if w.Outside, err = New("outside"); err != nil {
		return err
	}
	return errors.Join(
		Veth(w.Host, "eth0", w.Outside, "eth0", 1500),
		w.Host.AddAddr("eth0", HostAddr+"/24"),
		w.Host.AddAddr("eth0", HostAddr6+"/64"),
		w.Outside.AddAddr("eth0", OutsideAddr+"/24"),
		w.Outside.AddAddr("eth0", OutsideAddr6+"/64"),
		w.Outside.AddAddr("lo", FarAddr+"/32"),
		w.Outside.AddAddr("lo", FarAddr6+"/128"),
		w.Host.SetUp("eth0"),
		w.Outside.SetUp("eth0"),
		w.Host.AddRoute("default", OutsideAddr, "eth0"),
		w.Host.AddRoute("default", OutsideAddr6, "eth0"),
	)
}

// Close closes both namespaces.
func (w *World) Close() error {
	var err error
	for _, n := range []*NS{w.Host, w.Outside} {
		if n != nil {
			err = errors.Join(err, n.Close())
		}
	}
	return err
}
