package dataplane_test

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// narrow is a Lab whose uplink has a smaller MTU than its networks.
func narrow(t *testing.T, mtu int) *Lab {
	l := New(t)
	l.Config.Uplinks[0].MTU = mtu
	l.Install()
	return l
}

// RFC 4787 REQ-13 a: a packet without DF is cut, in order, with all checksums
// right; also with a partial checksum, and a fragment into smaller ones.
func TestN14PacketsWithoutDFAreCut(t *testing.T) {
	rng := rand.New(rand.NewSource(14))
	for _, mtu := range []int{1400, 576, 68} {
		for _, partial := range []bool{false, true} {
			l := narrow(t, mtu)
			payload := make([]byte, 1472)
			rng.Read(payload)
			f := UDP("c1", 5000, web, string(payload))
			var off frame.Offload
			if partial {
				off = frame.Offload{Csum: frame.CsumPartial, CsumStart: header.EthernetLen + 20, CsumOffset: 6}
				copyPseudo(f)
			}
			l.SendOffload("c1", f, off)
			var r reassembler
			at := 0
			for _, p := range l.Got("up") {
				from, to, _ := fragmentRange(t, p)
				if len(p)-header.EthernetLen > mtu || from != at {
					t.Errorf("MTU %d: a fragment of %d bytes at %d, want %d", mtu, len(p), from, at)
				}
				at = to
				r.add(t, p)
			}
			got, ok := r.packet()
			if !ok || !slices.Equal(got[8:], payload) || !r.sumOK(addr4(HostAddr), addr4(World)) {
				t.Errorf("MTU %d, partial %v: not what was sent; drops %s", mtu, partial, l.Drops())
			}
			l.ExpectNothing()
		}
	}
	l := narrow(t, 1400)
	var r reassembler
	for _, f := range Fragment(UDP("c1", 5000, web, string(make([]byte, 4000))), 1480) {
		l.Send("c1", f)
	}
	for _, p := range l.Got("up") {
		r.add(t, p)
	}
	if got, ok := r.packet(); !ok || len(got) != 4008 {
		t.Errorf("fragments of fragments: whole %v, %d bytes; drops %s", ok, len(got), l.Drops())
	}
}

// fragmentRange reads a fragment, or a whole packet.
func fragmentRange(t *testing.T, f []byte) (from, to int, more bool) {
	t.Helper()
	var l header.Layers
	if !header.Parse(f, &l) {
		t.Fatalf("malformed: %s", Describe(f))
	}
	return header.FragmentRange(f, &l)
}

// RFC 1191, RFC 8201: a sender that follows the errors ends at the MTU of the
// path; errors that cannot be true change nothing.
func TestN53PathMTUDiscovery(t *testing.T) {
	l := narrow(t, 1400)
	size, sent := 1500, 0
	for ; sent < 3; sent++ {
		l.Send("c1", Bytes(From("c1", web, Packet{Src: "10.1.0.11:5000", Proto: header.ProtoTCP, Flags: ACK, DF: true, Payload: make([]byte, size-40)})))
		if len(l.Got("up")) == 1 {
			break
		}
		f := l.Expect("c1")
		size = int(binary.BigEndian.Uint16(f[header.EthernetLen+26:]))
	}
	if size != 1400 || sent != 1 {
		t.Errorf("the sender uses %d after %d tries, want 1400 after one", size, sent)
	}

	f := newFlow(t, false)
	f.open()
	quote := func(seq uint32) []byte {
		return Bytes(Packet{EthSrc: MAC("up"), EthDst: NextHopMAC, Src: f.e, Dst: web, Proto: header.ProtoTCP, Flags: ACK, Seq: seq, DF: true})
	}
	f.pass(true, ACK, 1001, 3001, string(make([]byte, 1000)))
	forged := uint64(0)
	for _, tc := range []struct {
		seq  uint32
		mtu  uint16
		pass bool
	}{
		{1001, 1400, true}, {1500, 1400, true}, {1001, 68, true},
		{1001, 67, false}, {1001, 0, false}, {50_000_000, 1400, false}, {3_000_000_000, 1400, false}, {2100, 1400, false},
	} {
		f.Send("up", mtu(fromRouter(3, 4, quote(tc.seq)), tc.mtu))
		got := len(f.Got("c1"))
		if !tc.pass {
			forged++
		}
		if (got == 1) != tc.pass || f.Dropped("up", dataplane.DropForgedError) != forged {
			t.Errorf("MTU %d about %d: arrived %v, want %v; %s", tc.mtu, tc.seq, got == 1, tc.pass, f.Drops())
		}
	}
}

// RFC 8899: of probes with DF all that fit arrive, all others are lost and told.
func TestN54ProbesOfEverySize(t *testing.T) {
	l := narrow(t, 1400)
	for size := 1200; size <= 1500; size++ {
		l.Advance(10 * time.Millisecond)
		l.Send("c1", Bytes(From("c1", web, Packet{Src: "10.1.0.11:5000", Proto: header.ProtoUDP, DF: true, Payload: make([]byte, size-28)})))
		out, told := len(l.Got("up")), len(l.Got("c1"))
		if want := size <= 1400; (out == 1) != want || (told == 1) == want {
			t.Fatalf("size %d: %d arrived, %d errors", size, out, told)
		}
	}
}

func mssOf(t *testing.T, f []byte) uint16 {
	t.Helper()
	var l header.Layers
	if !header.Parse(f, &l) {
		t.Fatal("malformed")
	}
	h := f[l.L4:]
	for o := h[20 : int(h[12]>>4)*4]; len(o) > 3; {
		switch {
		case o[0] == 1:
			o = o[1:]
			continue
		case o[0] == 2:
			return binary.BigEndian.Uint16(o[2:])
		}
		o = o[o[1]:]
	}
	return 0
}

// The maximum segment size follows the uplink's MTU where that is smaller, both
// ways, or what is configured.
func TestN54MSSClamp(t *testing.T) {
	for _, tc := range []struct {
		mtu           int
		network, link dataplane.MSSClamp
		sent, want    uint16
	}{
		{1500, 0, 0, 8960, 8960},
		{1400, 0, 0, 1460, 1360},
		{1400, 0, 0, 1200, 1200},
		{1400, dataplane.MSSKeep, 0, 1460, 1460},
		{1400, 0, dataplane.MSSKeep, 1460, 1460},
		{1500, 1300, 0, 1460, 1300},
		{1500, 0, 1310, 1460, 1310},
		{1400, 1300, 1310, 1460, 1300},
	} {
		for _, pad := range []int{0, 1, 2} { // the option at even and odd places
			for _, partial := range []bool{false, true} {
				l := narrow(t, tc.mtu)
				l.Config.Uplinks[0].MSSClamp = tc.link
				eachNetwork(l, func(n *dataplane.NetworkConfig) { n.MSSClamp = tc.network })
				var opts []layers.TCPOption
				for range pad {
					opts = append(opts, layers.TCPOption{OptionType: layers.TCPOptionKindNop})
				}
				opts = append(opts, layers.TCPOption{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: binary.BigEndian.AppendUint16(nil, tc.sent)})
				f := Bytes(From("c1", web, Packet{Src: "10.1.0.11:5000", Proto: header.ProtoTCP, Flags: SYN, Options: opts}))
				if partial {
					l.SendOffload("c1", partialTCP(f), frame.Offload{Csum: frame.CsumPartial, CsumStart: header.EthernetLen + 20, CsumOffset: 16})
				} else {
					l.Send("c1", f)
				}
				out := l.Memory("up").SentFrames()
				if len(out) != 1 {
					t.Fatalf("%d frames; %s", len(out), l.Drops())
				}
				if out[0].Offload.Csum == frame.CsumPartial {
					header.FinishChecksum(out[0].Data, header.EthernetLen+20, 16)
				}
				CheckSums(t, out[0].Data)
				if got := mssOf(t, out[0].Data); got != tc.want {
					t.Errorf("%+v: left with %d", tc, got)
				}
				e := See(t, out[0].Data).From()
				l.Send("up", Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: web, Dst: e, Proto: header.ProtoTCP, Flags: SYN | ACK, Ack: 1, Options: opts}))
				if got := mssOf(t, l.Expect("c1")); got != tc.want {
					t.Errorf("%+v: came back with %d", tc, got)
				}
			}
		}
	}
}

// partialTCP puts the sum of the pseudo-header into the checksum field.
func partialTCP(f []byte) []byte {
	ip, tcp := f[header.EthernetLen:], f[header.EthernetLen+20:]
	sum := uint32(header.ProtoTCP) + uint32(ip[2])<<8 + uint32(ip[3]) - 20 // the frame may be padded
	for i := 12; i < 20; i += 2 {
		sum += uint32(ip[i])<<8 | uint32(ip[i+1])
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(tcp[16:], uint16(sum))
	return f
}

// RFC 6864, RFC 7857 section 10: an identification means nothing with DF and is
// left alone; without, no two packets to one destination share theirs, and the
// fragments of one do.
func TestN55Identification(t *testing.T) {
	l := New(t)
	l.Send("c1", Bytes(From("c1", web, Packet{Src: "10.1.0.11:5000", Proto: header.ProtoUDP, DF: true, IPID: 4711})))
	if id := binary.BigEndian.Uint16(l.Expect("up")[header.EthernetLen+4:]); id != 4711 {
		t.Errorf("with DF the identification became %d", id)
	}
	used := map[uint16]string{}
	for n := range uint16(100) {
		var mixed [2][][]byte
		for i, c := range []string{"c1", "c2"} {
			mixed[i] = Fragment(Bytes(From(c, web, Packet{Src: Stations[c] + ":5000", Proto: header.ProtoUDP, IPID: 1000 + n, Payload: make([]byte, 2000)})), 1480)
		}
		rs := map[uint16]*reassembler{}
		for _, f := range [][]byte{mixed[0][0], mixed[1][0], mixed[0][1], mixed[1][1]} {
			l.Send([]string{"c1", "c2"}[f[header.EthernetLen+15]-11], f)
			for _, out := range l.Got("up") {
				id := binary.BigEndian.Uint16(out[header.EthernetLen+4:])
				if rs[id] == nil {
					rs[id] = &reassembler{}
				}
				rs[id].add(t, out)
			}
		}
		if len(rs) != 2 {
			t.Fatalf("two datagrams left with %d identifications", len(rs))
		}
		for id, r := range rs {
			if _, ok := r.packet(); !ok || !r.sumOK(addr4(HostAddr), addr4(World)) {
				t.Errorf("datagram %d is corrupt", id)
			}
			if who, ok := used[id]; ok {
				t.Errorf("identification %d twice, before by %s", id, who)
			}
			used[id] = fmt.Sprint(n)
		}
	}
}

// RFC 4787 REQ-10, RFC 5382 REQ-6: no payload is read or changed, and none opens
// a port.
func TestN11N25NoApplicationGateways(t *testing.T) {
	for name, tc := range map[string]struct {
		proto   uint8
		dst     string
		payload string
		opens   uint16
	}{
		"ftp port":  {header.ProtoTCP, World + ":21", "PORT 10,1,0,11,195,80\r\n", 50000},
		"ftp eprt":  {header.ProtoTCP, World + ":21", "EPRT |1|10.1.0.11|50000|\r\n", 50000},
		"long epsv": {header.ProtoTCP, World + ":21", "229 " + strings.Repeat("x", 255) + "(|||50000|)\r\n", 50000},
		"sip":       {header.ProtoUDP, World + ":5060", "INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP 10.1.0.11:50000\r\nContact: <sip:c@10.1.0.11:50000>\r\n\r\nm=audio 50000 RTP/AVP 0\r\n", 50000},
		"irc dcc":   {header.ProtoTCP, World + ":6667", "PRIVMSG x :\x01DCC SEND f 167837707 50000 1\x01\r\n", 50000},
		"tftp":      {header.ProtoUDP, World + ":69", "\x00\x01file\x00octet\x00", 5000},
	} {
		l := New(t)
		if tc.proto == header.ProtoTCP {
			l.Send("c1", TCP("c1", 5000, tc.dst, SYN, ""))
			e := See(t, l.Expect("up")).From()
			l.Send("up", Inbound(header.ProtoTCP, tc.dst, e, SYN|ACK, ""))
			l.Expect("c1")
		}
		f := UDP("c1", 5000, tc.dst, tc.payload)
		if tc.proto == header.ProtoTCP {
			f = TCP("c1", 5000, tc.dst, PSH|ACK, tc.payload)
		}
		l.Send("c1", f)
		out := l.Expect("up")
		if got := See(t, out); !strings.Contains(string(out), tc.payload) {
			t.Errorf("%s: left as %q", name, got.Payload)
		}
		l.Send("up", Inbound(tc.proto, World+":20", fmt.Sprintf("%s:%d", HostAddr, tc.opens), SYN, "x"))
		l.Send("up", Inbound(tc.proto, World+":1069", See(t, out).From(), SYN, "x"))
		l.ExpectDrop("up", dataplane.DropUnclaimed, 2)
		if n := len(l.Switch.Conns()); n != 1 {
			t.Errorf("%s: %d flows", name, n)
		}
	}
}

// All of a segment but addresses, ports, TTL and checksums stays as it is, with
// every option, and data far out of the window passes.
func TestN36OptionsAreUntouched(t *testing.T) {
	opt := func(kind layers.TCPOptionKind, data ...byte) layers.TCPOption {
		return layers.TCPOption{OptionType: kind, OptionLength: uint8(2 + len(data)), OptionData: data}
	}
	for name, opts := range map[string][]layers.TCPOption{
		"syn":   {opt(2, 0x23, 0), opt(4), opt(8, 1, 2, 3, 4, 0, 0, 0, 0), opt(3, 7)},
		"mptcp": {opt(30, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8)},
		"tfo":   {opt(34, 1, 2, 3, 4, 5, 6, 7, 8)},
		"sack":  {opt(5, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 1, 0, 0, 0, 2, 0)},
		"odd":   {opt(253, 9, 9, 9)},
	} {
		for _, flags := range []uint8{SYN, ACK, PSH | ACK, ACK | 0x20, ACK | 0x40, ACK | 0x80, 0} {
			l := New(t)
			l.Send("c1", TCP("c1", 5000, web, SYN, ""))
			l.Expect("up")
			f := Bytes(From("c1", web, Packet{Src: "10.1.0.11:5000", Proto: header.ProtoTCP, Flags: flags & 0x1f, Seq: 4_000_000_000, Ack: 77, Options: opts, Payload: []byte("data")}))
			f[header.EthernetLen+20+13] |= flags & 0xe0
			f[header.EthernetLen+20+18] = 0x12 // urgent pointer
			f[header.EthernetLen+20+14], f[header.EthernetLen+20+15] = 0, 0
			header.FinishChecksum(partialTCP(f), header.EthernetLen+20, 16)
			l.Send("c1", slices.Clone(f))
			out := l.Expect("up")
			for _, at := range [][2]int{{header.EthernetLen + 20 + 4, header.EthernetLen + 20 + 16}, {header.EthernetLen + 20 + 18, len(f)}} {
				if !slices.Equal(out[at[0]:at[1]], f[at[0]:at[1]]) {
					t.Errorf("%s, flags %#x: bytes %v were changed:\n%x\n%x", name, flags, at, out, f)
				}
			}
		}
	}
}

// Fragments that wait for the next hop come by twice and are no copies of
// themselves; those of a datagram keep one identification.
func TestN15FragmentsThatWait(t *testing.T) {
	frags := Fragment(UDP("c1", 5000, web, string(make([]byte, 4000))), 1480)
	for known := range 4 { // the next hop is known before so many have come
		l := New(t)
		l.Switch.SetNeighbors(nil)
		var r reassembler
		ids := map[uint16]bool{}
		for i, f := range frags {
			if i == known {
				l.Neighbor(NextHop, NextHopMAC)
			}
			l.Send("c1", f)
		}
		l.Neighbor(NextHop, NextHopMAC)
		for l.Switch.Step() > 0 {
		}
		for _, f := range l.Got("up") {
			r.add(t, f)
			ids[binary.BigEndian.Uint16(f[header.EthernetLen+4:])] = true
		}
		if _, ok := r.packet(); !ok || len(ids) != 1 {
			t.Errorf("known before %d: whole %v, identifications %v; drops %s", known, ok, ids, l.Drops())
		}
	}
}
