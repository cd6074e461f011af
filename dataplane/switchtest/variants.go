package switchtest

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Variant sends a frame that TCP and UDP know, and that is not the next one in order.
func (w *Twins) Variant(f *TwinFlow, side int) {
	w.T.Helper()
	r := w.Rand
	if f.proto != header.ProtoTCP {
		if b := f.Frame(side, 0, 0, 0, make([]byte, 200+r.IntN(1200))); !f.v6 {
			for _, piece := range Fragment(b, 8*(1+r.IntN(80))) {
				w.Send(f.at[side], piece, f.Kind)
			}
		}
		return
	}
	flags, seq, payload := uint8(ACK), uint32(0), make([]byte, pick(r, 0, 0, 1, 30))
	kind := r.IntN(11)
	switch kind {
	case 0: // keep-alive
		seq, payload = ^uint32(0), payload[:min(len(payload), 1)]
	case 1: // again
		seq = -uint32(len(payload))
	case 2: // a hole before it
		seq = pick(r, uint32(1), 1448, 30000)
	case 3: // the end of a side, after which the other may go on
		flags |= FIN
	case 4: // fast open, or an old one
		flags = SYN
	case 5:
		if r.IntN(40) == 0 { // the exact one
			flags |= RST
		}
	}
	b := f.Frame(side, flags, seq, 0, payload)
	tcp := b[f.l4():]
	switch kind {
	case 6, 7: // timestamps, or a selective acknowledgment
		b = slices.Insert(b, f.l4()+20, []byte(pick(r, "\x01\x01\x08\x0a\x00\x00\x00\x07\x00\x00\x00\x09", "\x01\x01\x05\x0a\x00\x00\x01\x00\x00\x00\x02\x00"))...)
		b[f.l4()+12] = 8 << 4
		f.length(b)
	case 8:
		binary.BigEndian.PutUint16(tcp[14:], uint16(pick(r, 0, 0, 1, r.IntN(1<<16)))) // the window
	case 9:
		tcp[13] |= 0x20
		tcp[19] = 1
	case 10:
		tcp[13] |= pick(r, uint8(0x40), 0x80, 0xc0)
		b[15] |= uint8(r.IntN(4))
	}
	f.sum(b)
	w.Send(f.at[side], b, f.Kind)
	switch kind {
	case 3:
		f.seq[side] += uint32(len(payload)) + 1
	case 5, 6, 7, 8, 9, 10:
		f.seq[side] += uint32(len(payload))
	}
}

// length makes the length of the packet right.
func (f *TwinFlow) length(b []byte) {
	if f.v6 {
		binary.BigEndian.PutUint16(b[18:], uint16(len(b)-54))
		return
	}
	binary.BigEndian.PutUint16(b[16:], uint16(len(b)-14))
	sumIP(b)
}

// lengthless takes the length of the packet out of a frame.
func (f *TwinFlow) lengthless(b []byte) []byte {
	if f.v6 {
		b[18], b[19] = 0, 0
		return b
	}
	b[16], b[17] = 0, 0
	sumIP(b)
	return b
}

// Error sends an ICMP error of a side, or of a router before it, about a packet of the other
// side, whose number a stranger may have guessed.
func (w *Twins) Error(f *TwinFlow, side int) {
	w.T.Helper()
	r := w.Rand
	here, there := f.addrs[side][0], f.addrs[side][1]
	seq := f.seq[1-side] - pick(r, 0, 1, 7, 66000, r.Uint32())
	quoted := Bytes(Packet{Src: there, Dst: here, Proto: f.proto, Flags: ACK, Seq: seq, Ack: f.seq[side], DF: !f.v6, Payload: make([]byte, pick(r, 0, 40))})
	from, family := addrOf(here), Families[0]
	if f.v6 {
		family = Families[1]
	}
	if f.at[side] == "up" && r.IntN(2) == 0 {
		from = family.NextHop
	}
	p := Packet{EthSrc: f.eth[side][0], EthDst: f.eth[side][1], Src: from, Dst: addrOf(there), Proto: family.ICMP, MTU: pick(r, uint16(1280), 1400, 576, 68, 1500)}
	switch {
	case r.IntN(2) == 0: // it is too big
		p.Type, p.Code = 3, 4
		if f.v6 {
			p.Type, p.Code = 2, 0
		}
	case f.v6:
		p.Type, p.Code = pick(r, uint8(1), 3, 4), pick(r, uint8(0), 1, 4)
	default:
		p.Type, p.Code = pick(r, uint8(3), 11, 12, 4, 5), pick(r, uint8(0), 1, 3)
	}
	p.Payload = quoted[header.EthernetLen : header.EthernetLen+min(len(quoted)-header.EthernetLen, pick(r, 28, 48, 60, 200))]
	w.Send(f.at[side], Bytes(p), f.Kind)
}

func addrOf(end string) string { return netip.MustParseAddrPort(end).Addr().String() }

// Strange sends a frame of another kind than flows in the table, of other protocols and with tags
// among them, and answers the frames that arrive outside. One container does so: of two that have
// one port at a far end each switch gives the second one a port at random.
func (w *Twins) Strange() {
	w.T.Helper()
	r := w.Rand
	from := pick(r, "c1", "up")
	all := Corpus(from)
	f := all[r.IntN(len(all))]
	if from == "c1" && strings.HasPrefix(f.Name, "tcp") {
		return // where its port rests after a connection another one is chosen at random
	}
	for _, b := range w.Send(from, f.Frame, "other")["up"] {
		if a := answer(b); a != nil {
			w.Send("up", a, "other")
		}
	}
}

// answer turns a frame round: addresses, ports, and of an echo its type.
func answer(b []byte) []byte {
	var l header.Layers
	if b = slices.Clone(b); !header.Parse(b, &l) || l.Kind < header.KindIP {
		return nil
	}
	swap := func(x, y, n int) {
		for i := range n {
			b[x+i], b[y+i] = b[y+i], b[x+i]
		}
	}
	swap(0, 6, 6)
	if l.Flags&header.FlagIPv6 != 0 {
		swap(22, 38, 16)
	} else {
		swap(26, 30, 4)
	}
	at := int(l.L4)
	switch {
	case l.Tuple.Proto == header.ProtoTCP, l.Tuple.Proto == header.ProtoUDP, l.Tuple.Proto == header.ProtoSCTP:
		if at == 0 || len(b) < at+4 || l.Flags&header.FlagFragment != 0 {
			return nil
		}
		swap(at, at+2, 2)
	case at != 0 && len(b) > at && (b[at] == 8 || b[at] == 128):
		b[at] = map[byte]byte{8: 0, 128: 129}[b[at]] // and the checksum stays: nobody reads it here
	}
	return b
}

// Super sends a super-packet, of TCP or UDP: of a container none, whose partial checksum the
// programs would have to prove, and no test run has one.
func (w *Twins) Super(f *TwinFlow, side int) {
	w.T.Helper()
	r := w.Rand
	if networkOf[f.at[side]] != 0 && !strings.HasPrefix(f.at[side], "host") {
		return
	}
	gso := pick(r, 536, 1000, 1328, 1340, 1341, 1360, 1361, 1372, 1373, 1400, 1428, 1440, 1441, 1448, 1460, 1461, 1472, 1473)
	b := f.Frame(side, ACK, 0, 0, nil)
	size := gso*pick(r, 1, 2, 2, 3, 40) - r.IntN(gso)
	if r.IntN(8) == 0 {
		size = header.EthernetLen + 1<<16 - 1 - len(b)
	}
	b = append(b[:len(b):len(b)], make([]byte, size)...)
	f.length(b)
	if f.proto == header.ProtoUDP {
		binary.BigEndian.PutUint16(b[f.l4()+4:], uint16(len(b)-f.l4()))
	}
	f.sum(b)
	if r.IntN(8) == 0 { // no length: right of more than 64 KiB only
		w.send(f.at[side], f.lengthless(b), f.Kind, uint16(gso))
		return
	}
	if w.send(f.at[side], b, f.Kind, uint16(gso)) != nil && f.proto == header.ProtoTCP {
		f.seq[side] += uint32(len(b) - f.l4() - 20)
	}
}

// partial is a super-packet as a device hands it to the switch: its checksum is still to be
// finished.
func partial(b []byte, gso uint16) frame.Offload {
	o := frame.Offload{Csum: frame.CsumPartial, GSOType: frame.GSOTCPv4, GSOSize: gso, CsumStart: 34, CsumOffset: 16}
	proto := b[23]
	if !isIPv4(b) {
		o.GSOType, o.CsumStart, proto = frame.GSOTCPv6, 54, b[20]
	}
	if proto == header.ProtoUDP {
		o.GSOType, o.CsumOffset = frame.GSOUDPL4, 6
	}
	return o
}

// withoutSum is a super-packet without the checksum of its transport header.
func withoutSum(b []byte) []byte {
	o := partial(b, 1)
	if b = slices.Clone(b); len(b) >= int(o.CsumStart+o.CsumOffset)+2 {
		clear(b[o.CsumStart+o.CsumOffset:][:2])
	}
	return b
}
