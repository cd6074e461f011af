package edgetest

import (
	"errors"
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/reserve"
	"github.com/vswitch/vswitch/dataplane/header"
)

// testKept: what one process leaves the next takes, and what that does not want goes.
func testKept(c contract) {
	var stored []reserve.Range
	owner := edge.Owner{Identity: owner, Directory: "/var/lib/vswitch", PutReserved: func(list []reserve.Range) error { stored = list; return nil }}
	all := netip.Addr{}
	next := func(left string) edge.Edge {
		e := c.Next()
		if got, in := e.HeldFor(); got != left || left != "" && in != owner.Directory {
			c.Errorf("devices of %q in %q are left, want %q in %q", got, in, left, owner.Directory)
		}
		owner.Reserved = stored
		c.ok("begin", e.Begin(owner))
		return e
	}
	spec := edge.DeviceSpec{
		Name: "vs-0123456789", Alias: "vswitch:" + owner.Identity + ":network blue", MAC: []byte{2, 0, 0, 0, 0, 1}, MTU: 1400,
		Addrs: []netip.Prefix{netip.MustParsePrefix("10.88.0.1/24")},
	}
	unwanted := spec
	unwanted.Name, unwanted.Addrs = "vs-9876543210", []netip.Prefix{netip.MustParsePrefix("10.90.0.1/24")}
	// holds wants the copy of the state that is left to say so.
	holds := func(e edge.Edge, want string) {
		f, got := e.HeldState(), ""
		if f != nil {
			b := make([]byte, 64)
			n, _ := f.ReadAt(b, 0)
			got = string(b[:n])
			c.ok("close", f.Close())
		}
		if got != want {
			c.Errorf("the state that is left is %q, want %q", got, want)
		}
	}
	hold := func(e edge.Edge, text, more string) {
		f, err := e.HoldState([]byte(text))
		c.ok("hold", err)
		_, err = f.WriteAt([]byte(more), int64(len(text)))
		c.ok("write", errors.Join(err, f.Close()))
	}
	e := next("")
	holds(e, "")
	hold(e, "one", "")
	hold(e, "tw", "o")
	ns, _ := c.netns("web")
	index, err := e.AddCable(ns, cable()) // or nothing would be kept
	c.ok("add a cable", err)
	d, err := e.OpenDevice(spec)
	c.ok("open", err)
	d2, err := e.OpenDevice(unwanted)
	c.ok("open", err)
	_, err = e.TakePorts(header.ProtoTCP, all, 8080, 8080, reserve.Keeper{})
	c.ok("take", err)
	_, err = e.TakePorts(header.ProtoUDP, all, 7000, 7003, reserve.Keeper{})
	c.ok("take", err)
	for _, first := range []uint16{20000, 21000} {
		_, err = e.TakePorts(header.ProtoTCP, all, first, first+999, reserve.Keeper{})
		c.ok("take a large range", err)
	}
	e.Keep()
	c.ok("close", d.Close())
	c.ok("close", d2.Close())
	c.ok("end", e.Close())

	spec.Addrs = []netip.Prefix{netip.MustParsePrefix("10.89.0.1/24"), netip.MustParsePrefix("fd00:89::1/64")}
	e = next(owner.Identity)
	holds(e, "two")
	hold(e, "three", "")
	again, err := e.OpenDevice(spec)
	c.ok("adopt", err)
	if again.Index() != d.Index() {
		c.Error("another device was made")
	}
	if got := c.addrsOf(again.Index()); !slices.Equal(got, []string{"10.89.0.1/24", "fd00:89::1/64"}) {
		c.Errorf("addresses %v", got)
	}
	p := c.port(again)
	c.ok("check", p.Check())
	c.ok("close the port", p.Close())
	h, err := e.TakePorts(header.ProtoTCP, all, 8080, 8080, reserve.Keeper{})
	c.ok("take again", err)
	_, err = e.TakePorts(header.ProtoUDP, all, 7001, 7002, reserve.Keeper{})
	c.ok("take some of them", err)
	_, err = e.TakePorts(header.ProtoTCP, all, 21000, 21999, reserve.Keeper{})
	c.ok("take a large range again", err)
	if len(stored) == 0 {
		c.Error("what is reserved is not stored any more before it is settled")
	}
	c.ok("drop the rest", e.DropHeld())
	if want := []reserve.Range{{First: 21000, Last: 21999}}; !slices.Equal(stored, want) {
		c.Errorf("stored %v, want %v", stored, want)
	}
	if slices.Contains(c.names(), unwanted.Name) {
		c.Error("a device that nobody asked for is still there")
	}
	if list, err := e.Intruders(); err != nil || len(list) != 0 {
		c.Errorf("intruders %v, %v", list, err)
	}
	c.ok("release", h.Release())
	c.Bind(8080)()
	c.ok("remove the cable", e.DelLink(cable().Name, index))
	c.ok("close", again.Close())
	c.ok("end", e.Close())
	if slices.Contains(c.names(), spec.Name) {
		c.Error("the device is still there")
	}
	if len(stored) != 0 {
		c.Errorf("stored %v after the end", stored)
	}
	e = next("")
	holds(e, "")
	c.ok("end", e.Close())
}
