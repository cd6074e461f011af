package flowtest

import (
	"encoding/binary"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Frame is a frame as the kernel hands it to a program.
type Frame struct {
	Data    []byte // with an Ethernet header; programs change it
	Ifindex uint32
	// ToHost says that the frame is for the address of the interface (PACKET_HOST), ToGroup
	// that it is for a group or for all (PACKET_MULTICAST, PACKET_BROADCAST).
	ToHost, ToGroup bool
	// Forwarded says that the host received the frame by another interface than it leaves by.
	Forwarded bool
	// GSOSize is the payload of each segment of a super-packet, 0 for an ordinary one.
	GSOSize uint32
	CB      [5]uint32 // skb->cb, which the kernel keeps with the frame

	// What the socket filter has said of it.
	said  Whose
	index uint32 // of an entry
}

// Verdicts (linux/pkt_cls.h). A socket filter tells how many bytes to keep.
const (
	Unspec   = -1
	Shot     = 2
	Redirect = 7
	All      = -1
	None     = 0
)

// Result is how a program ends, and with Redirect where to.
type Result struct {
	Verdict int32
	Out     uint32
	Peer    bool // into the namespace of the other end
	Ingress bool // as if the interface had received it
}

// decision is what the flow table says of a frame.
type decision int

const (
	noFlow decision = iota
	toSwitch
	lose
	carry
)

// Decide is the socket filter of a container's port.
func (k *Kernel) Decide(f *Frame) Result {
	r, index := k.decide(f, false)
	if r == noFlow {
		switch d, to := k.station(f, false); d {
		case carry:
			k.mark(f, to)
			return Result{Verdict: None}
		case noFlow:
			k.count(f)
		}
	}
	return k.keep(f, r, index)
}

// keep is the verdict of a socket filter.
func (k *Kernel) keep(f *Frame, d decision, index uint32) Result {
	switch d {
	case carry:
		f.CB[2], f.CB[3], f.index = index, k.Rows[index].Generation, index
		k.say(f, Carried)
		return Result{Verdict: None}
	case lose:
		k.say(f, Nobodys)
		return Result{Verdict: None}
	}
	k.say(f, Ours)
	return Result{Verdict: All}
}

// say leaves in the frame what a socket filter says of it.
func (k *Kernel) say(f *Frame, whose Whose) {
	f.said = whose
	f.CB[0], f.CB[1], f.CB[4] = k.Stamp[0], k.Stamp[1], uint32(whose)
}

// Seal is tc ingress of a container's cable.
func (k *Kernel) Seal(f *Frame) Result {
	whose, row, to := k.heard(f)
	if to != nil {
		return deliver(to)
	}
	if whose == Unknown {
		if row = k.alone(f, false); row == nil {
			if d, to := k.station(f, true); d == carry {
				return deliver(to)
			}
			return k.answer(f, Shot)
		}
	}
	if row == nil {
		return Result{Verdict: Shot}
	}
	return k.execute(f, row)
}

// Forwarded is tc egress of a network's TAP, before all others.
func (k *Kernel) Forwarded(f *Frame) Result {
	if f.Forwarded {
		clear(f.Data[6:12])
	}
	return Result{Verdict: Unspec}
}

// Host is tc egress of a network's TAP, after all others.
func (k *Kernel) Host(f *Frame) Result {
	r := Result{Verdict: Unspec}
	d, index := k.decide(f, false)
	row := &k.Rows[index]
	switch d {
	case lose:
		r.Verdict = Shot
	case noFlow:
		switch d, to := k.station(f, false); d {
		case carry:
			return Result{Verdict: Redirect, Out: to.Ifindex}
		case noFlow:
			k.count(f)
		}
	}
	if d != carry {
		if !k.Nobody {
			return r
		}
		if row = k.alone(f, false); row == nil {
			if d, to := k.station(f, true); d == carry {
				return Result{Verdict: Redirect, Out: to.Ifindex}
			}
			return k.answer(f, r.Verdict)
		}
	}
	k.carried(f, row)
	return Result{Verdict: Redirect, Out: row.Out}
}

// Filter is the socket filter of an uplink.
func (k *Kernel) Filter(f *Frame) Result {
	if !f.ToHost && !f.ToGroup {
		k.say(f, Theirs)
		return Result{Verdict: None}
	}
	if d, index := k.decide(f, true); d != noFlow {
		return k.keep(f, d, index)
	}
	whose := k.Classify(f)
	k.say(f, whose)
	if whose != Ours && whose != Fragment && whose != Echo {
		return Result{Verdict: None}
	}
	k.count(f)
	return Result{Verdict: All}
}

// Shield is tc ingress of an uplink.
func (k *Kernel) Shield(f *Frame) Result {
	whose, row, _ := k.heard(f)
	if whose == Unknown {
		if f.ToHost || f.ToGroup {
			row = k.alone(f, true)
		}
		if row == nil {
			whose = k.Classify(f)
		}
	}
	switch {
	case row != nil:
		return k.execute(f, row)
	case whose == Ours || whose == Nobodys:
		return Result{Verdict: Shot}
	}
	return Result{Verdict: Unspec}
}

func (k *Kernel) count(f *Frame) {
	if a := k.Tallies[f.Ifindex]; a != nil {
		a.In++
	}
}

// heard is what the socket filter has said, in the place of the CPU or in the frame.
func (k *Kernel) heard(f *Frame) (Whose, *flowmap.Entry, *flowmap.StationRow) {
	whose, index, generation := Whose(f.CB[4]), f.CB[2], f.CB[3]
	switch {
	case f.said != Unknown:
		switch whose, index = f.said, f.index; whose {
		case Carried:
			generation = k.Rows[index].Generation
		case Station:
			generation = k.Residents.At[index&0xffff].Generation
		}
	case f.CB[0] != k.Stamp[0] || f.CB[1] != k.Stamp[1]:
		return Unknown, nil, nil
	}
	f.said = Unknown
	switch {
	case whose == Station:
		if to := k.receiver(f, index, generation); to != nil {
			return Station, nil, to
		}
		return Unknown, nil, nil
	case whose != Carried:
		return whose, nil, nil
	case int(index) >= len(k.Rows) || k.Rows[index].Generation != generation:
		return Nobodys, nil, nil
	case k.Rows[index].In != f.Ifindex:
		return Unknown, nil, nil
	}
	return Carried, &k.Rows[index], nil
}

// find looks up the entry of a frame.
func (k *Kernel) find(f *Frame, uplink bool) (p packet, index uint32, ok bool) {
	if p, ok = parse(f); !ok || p.key.Proto != header.ProtoTCP && p.key.Proto != header.ProtoUDP {
		return p, 0, false // an echo has no entry
	}
	if p.key.Side = f.Ifindex; uplink {
		p.key.Side = 0
	}
	if index, ok = k.Keys[p.key]; !ok {
		return p, 0, false
	}
	row := &k.Rows[index]
	return p, index, row.Key == p.key && row.In == f.Ifindex && row.Match == [12]byte(f.Data) && !k.dead(index)
}

// dead says whether a flow has ended, or neither direction was used for too long.
func (k *Kernel) dead(index uint32) bool {
	idle := func(m *flowmap.Entry) bool {
		return m.Timeout != 0 && m.LastUse != 0 && int64(k.Jiffies()-m.LastUse) > int64(m.Timeout)
	}
	row, other := &k.Rows[index], &k.Rows[index^1]
	if row.Ended == 0 && row.LastUse == 0 {
		return other.Ended == 0 && idle(other)
	}
	return row.Ended != 0 || idle(row) && (other.Ended != 0 || other.LastUse == 0 || idle(other))
}

// ends notes that a side ends a connection that nobody tracks.
func (p *packet) ends(row *flowmap.Entry) {
	if p.key.Proto != header.ProtoTCP {
		return
	}
	switch flags := p.l4[13]; {
	case flags&header.TCPRST != 0:
		row.Half.Ended = flowmap.HalfRST
	case flags&header.TCPFIN != 0:
		row.Half.Ended = flowmap.HalfFIN
	}
}

// lost says whether a flow has a UDP port of the host's address that a program has bound.
func (k *Kernel) lost(key *flowmap.Key) bool {
	slot, ok := k.Addrs[key.Dst]
	port := binary.BigEndian.Uint16(key.Ports[2:])
	return ok && key.Proto == header.ProtoUDP && k.bound(key.Dst.Is4(), port) && !k.published(key.Dst.Is4(), slot, key.Proto, port)
}

// decide finds the row of a frame and says who carries it.
func (k *Kernel) decide(f *Frame, uplink bool) (decision, uint32) {
	p, index, ok := k.find(f, uplink)
	if !ok || uplink && k.lost(&p.key) {
		return noFlow, 0
	}
	row, a := &k.Rows[index], k.Tallies[f.Ifindex]
	note := func() (decision, uint32) {
		if a != nil {
			a.In++
			row.LastIn = a.In
		}
		return toSwitch, index
	}
	what := ignore
	if row.Flags&flowmap.Rewrite == 0 {
		p.ends(row)
	} else {
		if what = p.track(row, &k.Rows[index^1].Half, false); what == leave {
			return note()
		}
	}
	switch {
	case row.State == flowmap.Active:
	case row.State < flowmap.Ready:
		return note()
	case a == nil:
		return toSwitch, index
	case row.LastIn <= a.Taken+a.Lost:
		row.State = flowmap.Active
	case row.State == flowmap.Ready:
		return note()
	default:
		a.Drained++
		return lose, index
	}
	if p.wireSize(f) > int(row.MTU) {
		return note()
	}
	k.learn(&p, index, what)
	return carry, index
}

// alone is decide while nobody is there, nil when the kernel does not carry it.
func (k *Kernel) alone(f *Frame, uplink bool) *flowmap.Entry {
	p, index, ok := k.find(f, uplink)
	if !ok || uplink && k.lost(&p.key) {
		return nil
	}
	row := &k.Rows[index]
	if p.wireSize(f) > int(row.MTU) {
		return nil
	}
	if row.Flags&flowmap.Rewrite == 0 {
		p.ends(row)
	} else {
		what := p.track(row, &k.Rows[index^1].Half, true)
		if what == leave {
			return nil
		}
		k.learn(&p, index, what)
	}
	return row
}

// execute does with a frame what a row says, and counts both that and what it cannot do.
func (k *Kernel) execute(f *Frame, row *flowmap.Entry) Result {
	r := execute(f, row, k.Numbers)
	if r.Verdict != Shot {
		k.carried(f, row)
	} else if a := k.Tallies[f.Ifindex]; a != nil {
		a.Refused++
	}
	return r
}

func (k *Kernel) carried(f *Frame, row *flowmap.Entry) {
	row.Packets++
	row.Bytes += uint64(len(f.Data))
	row.LastUse = k.Jiffies()
}

func execute(f *Frame, row *flowmap.Entry, ids *flowmap.Identifiers) Result {
	if row.Flags&flowmap.ProveSum != 0 && !f.proved(row) || row.Flags&flowmap.Rewrite != 0 && !rewrite(f, row, ids) {
		return Result{Verdict: Shot}
	}
	r := Result{Verdict: Redirect, Out: row.Out, Peer: row.Flags&flowmap.ToPeer != 0}
	r.Ingress = !r.Peer && row.Flags&flowmap.ToStack != 0
	return r
}

// proved says whether a partial checksum lies where that of the transport header does. No
// frame of a test has one, so a super-packet, which must, is refused.
func (f *Frame) proved(row *flowmap.Entry) bool {
	proto := 6
	if etherType(f.Data) == header.TypeIPv4 {
		proto = 9
	}
	return f.GSOSize == 0 && (row.Flags&flowmap.Rewrite != 0 || len(f.Data) > header.EthernetLen+proto)
}

func be16(b []byte) int    { return int(binary.BigEndian.Uint16(b)) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
