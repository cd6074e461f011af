package switchtest

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Twins are two switches that get the same frames. To the first the kernel's side carries
// flows; the second has its stages alone. Output, the host's share, counters and tracked
// connections must be the same.
type Twins struct {
	T    testing.TB
	Rand *rand.Rand
	// Carried is how many frames the kernel's side has carried, by the kind of the flow.
	Carried map[string]int
	// Frames is how many were sent.
	Frames int

	both     [2]*twin
	numbered map[identified]int // when, in Frames
	// Of RunAlone: nobody is there to the first, and what the last frame has ended.
	nobody bool
	ended  ended
	flows  []*TwinFlow
	made   int
	last   []string // what was sent last, for the report
}

type twin struct {
	*Lab
	all     *[2]*twin // their clocks go alike
	side    Side
	entries []flowmap.Entry
}

// NewTwins makes both. side makes the kernel's side, whose clock is given.
func NewTwins(t testing.TB, seed uint64, side func(clock *atomic.Int64) Side) *Twins {
	t.Helper()
	w := &Twins{T: t, Rand: rand.New(rand.NewPCG(seed, 13)), Carried: make(map[string]int), numbered: make(map[identified]int)}
	for i := range w.both {
		b := &twin{all: &w.both}
		b.Lab = NewCarried(t, 4096, func(cfg *dataplane.Config) func(uint32) *flowmap.Tally {
			if i == 0 {
				b.side = side(cfg.Clock)
				cfg.Flows = b.side.Flows()
			} else {
				b.side = NewModelSide(2, cfg.Clock) // claims, and no rows
			}
			b.entries = cfg.Flows.There()
			cfg.Opened, cfg.Peers, cfg.PortKey = b.side.Opened(), b.side.Peers(), [16]byte{1}
			return b.side.Tally
		})
		b.DualStack()
		b.AddUplink()
		b.Interfaces()
		for n, f := range Families {
			for slot, addr := range map[int]string{n + 1: f.Host, n + 3: secondAddrs[f.Name].Host} {
				if err := b.side.ClaimSlot(netip.MustParseAddr(addr), slot); err != nil {
					t.Fatal(err)
				}
				for _, proto := range []uint8{header.ProtoTCP, header.ProtoUDP} {
					b.side.Published().Set(slot, proto, 8080)
				}
			}
			b.PublishFamily(f, 8080, "c1", 8000)
		}
		for _, n := range b.Config.Networks {
			for _, p := range n.Subnets {
				if err := b.side.ClaimSubnet(p, false); err != nil {
					t.Fatal(err)
				}
			}
		}
		b.Config.Timeouts.UDP = time.Hour
		b.Install()
		w.both[i] = b
	}
	return w
}

// ends are the kinds of flows: where they begin, to where, and who answers.
var twinKinds = []struct {
	kind, from, answers string
	to                  func(f Family) string
}{
	{"bridged", "c1", "c2", func(f Family) string { return f.At("c2", 7) }},
	{"host", "c1", "host1", func(f Family) string { return f.At("host1", 7) }},
	{"from the host", "host1", "c2", func(f Family) string { return f.At("c2", 7) }},
	{"masqueraded", "c1", "up", func(f Family) string { return f.At(f.World, 443) }},
	{"published", "up", "c1", func(f Family) string { return f.At(f.Host, 8080) }},
	{"masqueraded by another uplink", "c1", second, func(f Family) string { return f.At(secondAddrs[f.Name].World, 443) }},
	{"published by another uplink", second, "c1", func(f Family) string { return f.At(secondAddrs[f.Name].Host, 8080) }},
	{"hairpin", "c2", "c1", func(f Family) string { return f.At(f.Host, 8080) }},
	{"between networks", "c4", "c1", func(f Family) string { return f.At(f.Host, 8080) }},
	{"by the gateway", "c1", "c2", func(f Family) string { return f.At("c2", 90) }},
}

// TwinFlow is a flow of both. Side 0 began it.
type TwinFlow struct {
	Kind  string
	proto uint8
	v6    bool
	at    [2]string // the station where the frames of a side come in
	eth   [2][2]header.MAC
	addrs [2][2]string // source, destination
	seq   [2]uint32    // of the next segment of a side
	// Of the last forged segment of a side: a reset with one of these is exact for whom
	// that segment has moved.
	end, ack [2]uint32
}

// Open begins a flow of the nth kind, family and protocol, and lets it pass until it is
// worth a row. Flows are opened on both and compared as everything is.
func (w *Twins) Open(n int) *TwinFlow {
	w.T.Helper()
	k := twinKinds[n%len(twinKinds)]
	family := Families[n/len(twinKinds)%2]
	f := &TwinFlow{Kind: k.kind, proto: []uint8{header.ProtoTCP, header.ProtoUDP}[n/len(twinKinds)/2%2], v6: family.ICMP == header.ProtoICMPv6}
	f.at = [2]string{k.from, k.answers}
	from := k.from
	if from == second {
		from = secondAddrs[family.Name].World
	}
	f.seq = [2]uint32{w.Rand.Uint32(), -w.Rand.Uint32N(500)} // the one wraps soon
	var early []byte
	if w.Rand.IntN(4) == 0 {
		early = []byte("early") // TCP fast open (RFC 7413)
	}
	var first map[string][][]byte
	var l header.Layers
	for range 3 { // what a stranger sent may have the tuple of the answers
		w.made++
		port := uint16(20000 + w.made) // masquerade keeps it
		if k.from == "host1" {
			port = uint16(33000 + w.made%28000) // and has none of the host's
		}
		f.begins(k.kind, family, from, port, k.to(family))
		if first = w.Send(f.at[0], f.Frame(0, SYN, 0, 0, early), f.Kind); len(first[f.at[1]]) > 0 {
			break
		}
	}
	got := first[f.at[1]]
	if len(got) != 1 || !header.Parse(got[0], &l) {
		w.T.Fatalf("%s: %d frames arrive at %s: %v; drops %s, the last frame %s", k.kind, len(got), f.at[1], first, w.both[1].Drops(), w.last[len(w.last)-1])
	}
	f.eth[1] = [2]header.MAC{l.Dst, l.Src}
	f.addrs[1] = [2]string{end(l.Tuple.Dst, l.Tuple.DstPort), end(l.Tuple.Src, l.Tuple.SrcPort)}
	f.seq[0]++
	if w.Rand.IntN(4) == 0 { // both open it at once (RFC 9293, 3.5)
		w.Send(f.at[1], f.Frame(1, SYN, 0, 0, nil), f.Kind)
		f.seq[1]++
		w.Send(f.at[0], f.Frame(0, SYN|ACK, ^uint32(0), 0, nil), f.Kind)
		f.seq[1]--
	}
	f.seq[0] += uint32(len(early))
	w.Send(f.at[1], f.Frame(1, SYN|ACK, 0, 0, nil), f.Kind)
	f.seq[1]++
	for range 26 {
		w.Valid(f, 0)
		w.Valid(f, 1)
	}
	w.flows = append(w.flows, f)
	return f
}

// begins says who begins the flow, from which port, and where to.
func (f *TwinFlow) begins(kind string, family Family, from string, port uint16, to string) {
	f.addrs[0] = [2]string{family.At(from, port), to}
	f.eth[0] = [2]header.MAC{MAC(f.at[0]), gatewayMAC(f.at[0])}
	switch kind {
	case "published":
		f.eth[0][0], f.addrs[0][0] = NextHopMAC, family.At(family.World, port)
	case "published by another uplink":
		f.eth[0][0] = secondHop
	case "bridged", "from the host":
		f.eth[0][1] = MAC(f.at[1])
	}
}

// Frame is a frame of a side. seq and ack are how far it is from what is due.
func (f *TwinFlow) Frame(side int, flags uint8, seq, ack uint32, payload []byte) []byte {
	p := Packet{
		EthSrc: f.eth[side][0], EthDst: f.eth[side][1], Src: f.addrs[side][0], Dst: f.addrs[side][1], Proto: f.proto,
		Flags: flags, Seq: f.seq[side] + seq, Ack: f.seq[1-side] + ack, DF: !f.v6, Payload: payload,
	}
	if flags == SYN {
		p.Ack = 0
	}
	return Bytes(p)
}

// At is the station where frames of a side come in.
func (f *TwinFlow) At(side int) string { return f.at[side] }

// Valid sends what is due.
func (w *Twins) Valid(f *TwinFlow, side int) {
	w.T.Helper()
	payload := []byte("payload")[:w.Rand.IntN(8)]
	if got := w.Send(f.at[side], f.Frame(side, ACK, 0, 0, payload), f.Kind); w.nobody && got == nil {
		w.T.Fatalf("a frame that is due is not carried while nobody is there: %s", w.last[len(w.last)-1])
	}
	f.seq[side] += uint32(len(payload))
}

// Rows enters what was offered and makes rows ready.
func (w *Twins) Rows() {
	for range 3 {
		for _, b := range w.both {
			b.Tock(2 * time.Millisecond)
		}
		w.both[0].Switch.StepFlows()
	}
}

// Send gives a frame to both and compares what comes of it, which is returned by station.
func (w *Twins) Send(from string, frame []byte, kind string) map[string][][]byte {
	w.T.Helper()
	return w.send(from, frame, kind, 0)
}

// send is Send of a super-packet whose segments have so much payload, or of a frame: 0.
func (w *Twins) send(from string, frame []byte, kind string, gso uint16) map[string][][]byte {
	w.T.Helper()
	m, ok := w.Meet(0, from, frame, gso)
	if !ok {
		return nil
	}
	return w.Compare(from, frame, kind, m, gso)
}

// Meet runs the programs of one.
func (w *Twins) Meet(which int, from string, frame []byte, gso uint16) (flowtest.Met, bool) {
	b := w.both[which]
	at := flowtest.Cable
	switch {
	case isUplink(from):
		at = flowtest.Uplink
	case strings.HasPrefix(from, "host"):
		at = flowtest.Device
	}
	return b.side.Meet(at, b.Ifindex(b.Port(from)), header.MAC(frame[:6]) == MAC(from), frame, uint32(gso))
}

// Compare is the rest of Send, for a frame that has met the programs of the first.
func (w *Twins) Compare(from string, frame []byte, kind string, met flowtest.Met, gso uint16) map[string][][]byte {
	w.T.Helper()
	w.Frames++
	w.last = append(w.last, fmt.Sprintf("%s of %s, gso %d: % x", from, kind, gso, frame[:min(len(frame), 2000)]))
	w.last = w.last[max(0, len(w.last)-4):]
	if w.nobody {
		return w.compareAlone(from, frame, kind, met, gso)
	}
	plain, _ := w.Meet(1, from, frame, gso)
	a, b := w.both[0].got(from, frame, met, gso), w.both[1].got(from, frame, plain, gso)
	if met.Out != 0 {
		w.Carried[kind]++
	}
	if !w.unique(frame, a) {
		w.T.Fatalf("%s\nwith an identification that was another's:\n%s", strings.Join(w.last, "\n"), tell(a))
	}
	if met.Host != plain.Host || !same(a, b) {
		w.T.Fatalf("%s\nwith the kernel's side %+v, the host %v:\n%s\nby the stages, the host %v:\n%s",
			strings.Join(w.last, "\n"), met, met.Host, tell(a), plain.Host, tell(b))
	}
	return b
}

// got is what each station gets of a frame.
func (b *twin) got(from string, frame []byte, met flowtest.Met, gso uint16) map[string][][]byte {
	switch {
	case met.Switch && gso != 0:
		b.SendOffload(from, frame, partial(frame, gso))
	case met.Switch:
		b.Send(from, frame)
	}
	// A super-packet is paid for in turns, and a flood that nobody answers waits for its own.
	for b.Memory(from).Waiting() > 0 {
		if b.Switch.Step() == 0 {
			for _, one := range b.all {
				one.clock.Add(int64(time.Millisecond))
			}
		}
	}
	if t := b.side.Tally(b.Ifindex(b.Port(from))); t != nil {
		atomic.StoreUint64(&t.Taken, atomic.LoadUint64(&t.In))
	}
	got := make(map[string][][]byte)
	for name, id := range b.ids {
		list := b.Got(name)
		if met.Out != 0 && met.Out == b.Ifindex(id) {
			list = append(list, met.Sent)
		}
		if gso != 0 {
			for i := range list {
				list[i] = withoutSum(list[i])
			}
		}
		if len(list) > 0 {
			got[name] = list
		}
	}
	return got
}

// same compares what stations got. The identification of a packet that may be cut is each
// switch's own.
func same(a, b map[string][][]byte) bool {
	return maps.EqualFunc(a, b, func(x, y [][]byte) bool {
		return slices.EqualFunc(x, y, func(p, q []byte) bool { return string(withoutID(p)) == string(withoutID(q)) })
	})
}

func isIPv4(b []byte) bool { return len(b) >= 34 && binary.BigEndian.Uint16(b[12:]) == header.TypeIPv4 }

func withoutID(b []byte) []byte {
	if !isIPv4(b) || b[20]&0x40 != 0 {
		return b
	}
	b = slices.Clone(b)
	sum := uint32(0)
	for i := 14; i+1 < len(b) && i < 14+int(b[14]&15)*4; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	copy(b[18:20], "id")
	binary.BigEndian.PutUint16(b[24:], uint16(sum)) // 0xffff when it is right
	return b
}

func tell(got map[string][][]byte) string {
	var lines []string
	for name, list := range got {
		for _, f := range list {
			lines = append(lines, fmt.Sprintf("  %s gets % x", name, f))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Count lets a second pass and compares what is counted and what is known of flows.
func (w *Twins) Count() {
	w.T.Helper()
	var told [2][]string
	for i, b := range w.both {
		b.Advance(time.Second)
		for _, p := range b.Switch.Stats().Ports {
			told[i] = append(told[i], fmt.Sprintf("port %d: %d frames %d bytes in, %d %d out, drops %v", p.ID, p.Rx, p.RxBytes, p.Tx, p.TxBytes, p.Drops))
		}
		told[i] = append(told[i], conns(b.Switch)...)
	}
	for i := range told[0] {
		if i >= len(told[1]) || told[0][i] != told[1][i] {
			w.T.Fatalf("after %s\nwith the kernel's side %s\nby the stages\n%s", strings.Join(w.last, "\n"), told[0][i], strings.Join(told[1][min(i, len(told[1])):min(i+1, len(told[1]))], ""))
		}
	}
	if len(told[0]) != len(told[1]) {
		w.T.Fatalf("%d lines are told, by the stages %d", len(told[0]), len(told[1]))
	}
}

func conns(s *dataplane.Switch) (list []string) {
	page := make([]conntrack.Info, 256)
	for place := uint32(0); ; {
		n, next := s.ReadConns(page, place)
		for _, c := range page[:n] {
			list = append(list, fmt.Sprintf("%v %v, %v: %s, %d packets, %d bytes", c.Orig, c.Reply, c.Kind, c.State, c.Packets, c.Bytes))
		}
		if place = next; place == 0 {
			break
		}
	}
	slices.Sort(list)
	return list
}
