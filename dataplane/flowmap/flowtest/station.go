package flowtest

import (
	"encoding/binary"
	"errors"
	"maps"
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// stations are the maps of station rows (ADR 39).
type stations struct {
	At       []flowmap.StationRow
	Keys     map[flowmap.StationKey]uint32
	Flows    map[flowmap.Key]flowmap.StationFlow
	MaxFlows int
}

// StationRows are the memory of the rows.
func (k *Kernel) StationRows() []flowmap.StationRow { return k.Residents.At }

// Placed implements bpfmap.Flows.
func (k *Kernel) Placed() (map[flowmap.StationKey]uint32, error) {
	return maps.Clone(k.Residents.Keys), nil
}

// Place implements bpfmap.Flows.
func (k *Kernel) Place(all map[flowmap.StationKey]uint32) error {
	maps.Copy(k.Residents.Keys, all)
	return nil
}

// Displace implements bpfmap.Flows.
func (k *Kernel) Displace(keys []flowmap.StationKey) error {
	for _, key := range keys {
		if _, ok := k.Residents.Keys[key]; !ok {
			return errors.New("not there")
		}
		delete(k.Residents.Keys, key)
	}
	return nil
}

// StationFlows implements bpfmap.Flows.
func (k *Kernel) StationFlows(fn func(flowmap.Key, flowmap.StationFlow)) error {
	for key, f := range k.Residents.Flows {
		fn(key, f)
	}
	return nil
}

// EndStationFlows implements bpfmap.Flows.
func (k *Kernel) EndStationFlows(keys []flowmap.Key) error {
	for _, key := range keys {
		delete(k.Residents.Flows, key)
	}
	return nil
}

// pair finds the rows of who sends a frame and who receives it.
func (k *Kernel) pair(f *Frame, p *packet) (from, to uint32, ok bool) {
	for from = 0; ; from++ {
		if int(from) == len(k.Residents.At) {
			return 0, 0, false
		}
		if r := &k.Residents.At[from]; r.State != flowmap.Off && r.Ifindex == f.Ifindex {
			break
		}
	}
	s := &k.Residents.At[from]
	if s.Flags&flowmap.StationSends == 0 || header.MAC(f.Data[6:]) != s.MAC || !has(s, p.key.Src) {
		return 0, 0, false
	}
	if port := binary.BigEndian.Uint16(p.key.Ports[2:]); p.key.Proto == header.ProtoUDP && (port == 67 || port == 68 || port == 546 || port == 547) {
		return 0, 0, false
	}
	to, ok = k.Residents.Keys[flowmap.StationKey{Network: s.Network, Addr: p.key.Dst}]
	if !ok || to == from {
		return 0, 0, false
	}
	r := &k.Residents.At[to]
	ok = r.State != flowmap.Off && r.Flags&flowmap.StationReceives != 0 && r.Network == s.Network && has(r, p.key.Dst) &&
		header.MAC(f.Data) == r.MAC && ((s.Flags|r.Flags)&flowmap.StationHost != 0 || s.Reach>>r.Class&1 != 0)
	return from, to, ok
}

func has(r *flowmap.StationRow, a header.Addr) bool {
	if a.Is4() {
		return r.Addr4 != [4]byte{} && a == header.AddrFrom4(r.Addr4)
	}
	return r.Addr6 != header.Addr{} && a == r.Addr6
}

// station is decide for a frame that is of no entry. Only the tally says whether earlier ones are
// under way; while nobody is there none is.
func (k *Kernel) station(f *Frame, alone bool) (d decision, to *flowmap.StationRow) {
	p, ok := parse(f)
	if !ok {
		return noFlow, nil
	}
	src, dst, ok := k.pair(f, &p)
	if !ok {
		return noFlow, nil
	}
	from, to := &k.Residents.At[src], &k.Residents.At[dst]
	segments := p.key.Proto == header.ProtoTCP || p.key.Proto == header.ProtoUDP
	sound := (segments || f.GSOSize == 0) && p.wireSize(f) <= int(from.MTU) && (from.Flags&flowmap.StationHost != 0 || f.GSOSize == 0) // see proved
	last := &from.LastIn
	if to.Flags&flowmap.StationHost != 0 {
		last = &from.LastUp
		sound = sound && k.answersHost(&p, from.Network)
	}
	if a := k.Tallies[f.Ifindex]; !alone {
		if a == nil {
			return toSwitch, nil
		}
		if !sound || from.State != flowmap.Active || to.State != flowmap.Active || *last > atomic.LoadUint64(&a.Taken)+atomic.LoadUint64(&a.Lost) {
			a.In++
			*last = a.In
			return toSwitch, nil
		}
	} else if !sound {
		return noFlow, nil
	}
	k.account(f, &p, src, dst)
	f.index = src<<16 | dst
	return carry, to
}

// answersHost says whether a frame for the host is of a flow in which the host has spoken, and
// not for a published port.
func (k *Kernel) answersHost(p *packet, network uint32) bool {
	key, _ := turned(p.key, network)
	s, ok := k.Residents.Flows[key]
	if !ok || p.key.Proto == header.ProtoTCP && p.l4[13]&header.TCPSYN != 0 && closed(&s) {
		return false
	}
	slot := flowmap.WildcardSlot
	if !p.key.Src.Is4() {
		slot = flowmap.WildcardSlot6
	}
	return p.key.Proto != header.ProtoTCP && p.key.Proto != header.ProtoUDP || !k.Published.Test(slot, p.key.Proto, binary.BigEndian.Uint16(p.key.Ports[2:]))
}

// closed says whether the ends of a connection have closed it.
func closed(s *flowmap.StationFlow) bool {
	return (s.Flags[0]|s.Flags[1])&header.TCPRST != 0 || s.Flags[0]&s.Flags[1]&header.TCPFIN != 0
}

// turned makes a key that of both directions, and says which one it was of.
func turned(key flowmap.Key, network uint32) (flowmap.Key, int) {
	key.Side = network
	if !lesser(key.Dst, key.Src) {
		return key, 0
	}
	key.Src, key.Dst = key.Dst, key.Src
	key.Ports = [4]byte{key.Ports[2], key.Ports[3], key.Ports[0], key.Ports[1]}
	return key, 1
}

// lesser compares addresses as the words of the machine.
func lesser(a, b header.Addr) bool {
	for i := 0; i < len(a); i += 4 {
		if x, y := binary.NativeEndian.Uint32(a[i:]), binary.NativeEndian.Uint32(b[i:]); x != y {
			return x < y
		}
	}
	return false
}

// account counts a frame that is carried.
func (k *Kernel) account(f *Frame, p *packet, src, dst uint32) {
	from, to := &k.Residents.At[src], &k.Residents.At[dst]
	key, dir := turned(p.key, from.Network)
	n := uint64(len(f.Data))
	s, ok := k.Residents.Flows[key]
	if !ok {
		if from.Begun >= from.Lease || len(k.Residents.Flows) >= k.Residents.MaxFlows {
			from.Sent, from.SentBytes, to.Got, to.GotBytes = from.Sent+1, from.SentBytes+n, to.Got+1, to.GotBytes+n
			return
		}
		s.Created, s.Began = k.Jiffies(), uint8(dir)
		s.Ports[dir], s.Ports[1-dir] = uint16(src), uint16(dst)
		from.Begun++
	}
	s.Packets[dir]++
	s.Bytes[dir] += n
	s.Seen = k.Jiffies()
	if key.Proto == header.ProtoTCP {
		if p.l4[13]&(header.TCPSYN|header.TCPACK) == header.TCPSYN && closed(&s) {
			s.Flags = [2]uint8{}
		}
		s.Flags[dir] |= p.l4[13]
	}
	k.Residents.Flows[key] = s
}

// deliver sends a frame from a container's cable to a station, or up to the host.
func deliver(to *flowmap.StationRow) Result {
	return Result{Verdict: Redirect, Out: to.Ifindex, Peer: to.Flags&flowmap.StationPeer != 0, Ingress: to.Flags&flowmap.StationHost != 0}
}

// mark leaves the pair in the frame, for the seal.
func (k *Kernel) mark(f *Frame, to *flowmap.StationRow) {
	f.CB[2], f.CB[3] = f.index, to.Generation
	k.say(f, Station)
}

// receiver is the row that the mark of a frame leads to, nil when it is another's or comes from elsewhere.
func (k *Kernel) receiver(f *Frame, pair, generation uint32) *flowmap.StationRow {
	from, to := pair>>16, pair&0xffff
	if int(from) >= len(k.Residents.At) || int(to) >= len(k.Residents.At) || k.Residents.At[from].Ifindex != f.Ifindex || k.Residents.At[to].Generation != generation {
		return nil
	}
	return &k.Residents.At[to]
}
