// Package flowtest is the kernel's side of the flow table in plain Go, as simple as can be:
// the maps, and what the BPF programs of control/kernel make of a frame. Tests hold both
// the programs and the stages against it. It is not safe for concurrent use.
package flowtest

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Kernel is what the programs look at and change. It is bpfmap.Flows.
type Kernel struct {
	Stamp             [2]uint32
	Keys              map[flowmap.Key]uint32
	Rows              []flowmap.Entry
	Ends              *flowmap.Ends
	Numbers           *flowmap.Identifiers
	Tallies           map[uint32]*flowmap.Tally // by ifindex
	Opened, Published flowmap.ClaimPlane
	Addrs             map[header.Addr]int // slots
	Subnets           map[netip.Prefix]flowmap.Subnet
	Peers             map[flowmap.PeerKey]bool
	Bound             [2]map[uint16]bool // UDP ports of IPv4 and IPv6 that programs of the host have bound
	Told              flowmap.Stations
	Residents         stations
	Nobody            bool                         // is there: frames meet no socket filter
	Jiffies           func() uint64                // of 4 ms for the switch
	Waits             int                          // how often somebody waited for the programs
	OnWait            func()                       // nil, or what those do meanwhile that began before
	OnGrow            func() (made int, err error) // nil: all Rows are there

	fragments map[datagram]Whose // by their first one
}

// New has room for so many rows, and no claims. now, in ns, is what jiffies are
// counted by.
func New(rows int, now func() int64) *Kernel {
	return &Kernel{
		Stamp: [2]uint32{1, 2}, // or a frame without a mark has one
		Rows:  make([]flowmap.Entry, rows), Ends: new(flowmap.Ends), Numbers: new(flowmap.Identifiers), Keys: make(map[flowmap.Key]uint32), Tallies: make(map[uint32]*flowmap.Tally),
		Published: make(flowmap.ClaimPlane, flowmap.ClaimWords),
		Told:      flowmap.Stations{Askers: make(map[uint32]flowmap.Asker), At: make(map[flowmap.StationKey]flowmap.Station)},
		Residents: stations{
			At: make([]flowmap.StationRow, flowmap.MaxPorts), Keys: make(map[flowmap.StationKey]uint32),
			Flows: make(map[flowmap.Key]flowmap.StationFlow), MaxFlows: flowmap.MaxStationFlows,
		},
		Jiffies: func() uint64 { return uint64(now()) / uint64(jiffy) },
	}
}

const jiffy = 4 * time.Millisecond

// Tally is that of an interface: every one has one.
func (k *Kernel) Tally(ifindex uint32) *flowmap.Tally {
	a := k.Tallies[ifindex]
	if a == nil {
		a = new(flowmap.Tally)
		k.Tallies[ifindex] = a
	}
	return a
}

// Identifiers is where the programs count identifications.
func (k *Kernel) Identifiers() *flowmap.Identifiers { return k.Numbers }

// Close implements bpfmap.Flows.
func (k *Kernel) Close() error { return nil }

// Grow implements bpfmap.Flows.
func (k *Kernel) Grow() (made int, err error) { return k.OnGrow() }

// InJiffies implements bpfmap.Flows.
func (k *Kernel) InJiffies(d time.Duration) uint32 { return uint32(d / jiffy) }

// Entered implements bpfmap.Flows.
func (k *Kernel) Entered() (map[flowmap.Key]uint32, error) { return maps.Clone(k.Keys), nil }

// Ticks implements bpfmap.Flows.
func (k *Kernel) Ticks() (uint32, bool) { return uint32(k.Jiffies()), true }

// Stations implements bpfmap.Flows.
func (k *Kernel) Stations() (flowmap.Stations, error) {
	return flowmap.Stations{Askers: maps.Clone(k.Told.Askers), At: maps.Clone(k.Told.At)}, nil
}

// Tell implements bpfmap.Flows.
func (k *Kernel) Tell(s flowmap.Stations) error {
	maps.Copy(k.Told.Askers, s.Askers)
	maps.Copy(k.Told.At, s.At)
	return nil
}

// Forget implements bpfmap.Flows.
func (k *Kernel) Forget(s flowmap.Stations) error {
	for index := range s.Askers {
		delete(k.Told.Askers, index)
	}
	for at := range s.At {
		delete(k.Told.At, at)
	}
	return nil
}

// Wait implements bpfmap.Flows.
func (k *Kernel) Wait() {
	if k.Waits++; k.OnWait != nil {
		k.OnWait()
	}
}

// Insert implements bpfmap.Flows.
func (k *Kernel) Insert(key flowmap.Key, number uint32) error {
	if _, ok := k.Keys[key]; ok {
		return errors.New("inserted twice")
	}
	k.Keys[key] = number
	return nil
}

// Delete implements bpfmap.Flows.
func (k *Kernel) Delete(keys []flowmap.Key) error {
	for _, key := range keys {
		if _, ok := k.Keys[key]; !ok {
			return errors.New("not there")
		}
		delete(k.Keys, key)
	}
	return nil
}

// Activate makes every row carry its flow.
func (k *Kernel) Activate() {
	for _, number := range k.Keys {
		if r := &k.Rows[number]; !r.IsOff() {
			r.State = flowmap.Active
		}
	}
}

// At says which programs look at the frames of an interface.
type At int

const (
	Cable  At = iota // decide and seal
	Uplink           // filter and shield
	Device           // host, of a network's TAP
)

// Met is what the programs of an interface have done with a frame, one after the other.
type Met struct {
	Switch bool   // the switch gets it
	Host   bool   // the host's stack gets it
	Out    uint32 // the interface that it was carried out of, 0: none
	Sent   []byte // as it was carried
}

// Meet runs the programs of an interface on a frame. toHost says that it is for the
// interface's own address, and gso is Frame.GSOSize. Where nobody is
// there no switch gets it.
func (k *Kernel) Meet(at At, ifindex uint32, toHost bool, frame []byte, gso uint32) (m Met) {
	f := &Frame{Data: slices.Clone(frame), Ifindex: ifindex, ToHost: toHost, ToGroup: frame[0]&1 != 0, GSOSize: gso}
	var r Result
	switch at {
	case Device:
		r = k.Host(f)
		m.Switch = r.Verdict == Unspec && !k.Nobody
	case Uplink:
		m.Switch = !k.Nobody && k.Filter(f).Verdict == All
		r = k.Shield(f)
		m.Host = r.Verdict == Unspec
	default:
		m.Switch = !k.Nobody && k.Decide(f).Verdict == All
		r = k.Seal(f)
	}
	if r.Verdict == Redirect {
		m.Out, m.Sent = r.Out, f.Data
	}
	return m
}

// Execute writes into a frame what a row says.
func Execute(frame []byte, row *flowmap.Entry) {
	execute(&Frame{Data: frame}, row, new(flowmap.Identifiers))
}
