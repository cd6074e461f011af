package nattest

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
)

// step is what a station sends at once. inside is the endpoint whose mapping it
// may make.
type step struct {
	label  string
	from   string
	inside endpoint
	frames func(*side) [][]byte
}

const (
	published = switchtest.HostAddr + ":8080"
	other     = "203.0.113.10"
	router    = "203.0.113.1"
)

// traffic makes random flows one after the other.
type traffic struct {
	rng   *rand.Rand
	port  uint16 // of the next flow
	steps []step
}

func (g *traffic) payload() []byte {
	b := make([]byte, g.rng.Intn(600))
	g.rng.Read(b)
	return b
}

// flow adds one flow of a random kind.
func (g *traffic) flow() {
	g.port++
	// Two containers take the same port in turn, so that mappings clash.
	e := endpoint{[]string{"c1", "c2"}[g.rng.Intn(2)], 20000 + g.port/2, header.ProtoUDP}
	remote := []string{switchtest.World, other}[g.rng.Intn(2)] + fmt.Sprintf(":%d", []int{53, 80, 4000}[g.rng.Intn(3)])
	kinds := []func(endpoint, string){
		g.udp, g.tcp, g.tcp, g.ping, g.publishedUDP, g.publishedTCP, g.hairpin, g.errors, g.errorsInside,
		g.unsolicited, g.fragments, g.hops, g.resets, g.midstream, g.big,
	}
	kinds[g.rng.Intn(len(kinds))](e, remote)
}

// out is a packet that a container sends by its gateway.
func (g *traffic) out(label string, e endpoint, dst string, p switchtest.Packet) {
	p.Src, p.Proto = netip.AddrPortFrom(netip.MustParseAddr(switchtest.Stations[e.station]), e.port).String(), e.proto
	if e.proto == header.ProtoICMP {
		p.Src, p.ID = switchtest.Stations[e.station], e.port
	}
	f := switchtest.Bytes(switchtest.From(e.station, dst, p))
	g.steps = append(g.steps, step{label, e.station, e, func(*side) [][]byte { return [][]byte{f} }})
}

// in is a packet from outside to where an endpoint shows.
func (g *traffic) in(label string, src string, e endpoint, p switchtest.Packet) {
	g.steps = append(g.steps, step{label, "up", endpoint{}, func(s *side) [][]byte {
		a := s.ext(e, peerOf(e, src))
		q := p
		q.EthSrc, q.EthDst, q.Proto, q.Src, q.Dst = switchtest.NextHopMAC, switchtest.MAC("up"), e.proto, src, a.String()
		if e.proto == header.ProtoICMP {
			q.Src, q.Dst, q.ID = netip.MustParseAddrPort(src).Addr().String(), a.Addr().String(), a.Port()
		}
		return [][]byte{switchtest.Bytes(q)}
	}})
}

// peerOf is the remote end under which a mapping is known: an ICMP query has no
// port there.
func peerOf(e endpoint, remote string) string {
	if e.proto == header.ProtoICMP {
		return netip.AddrPortFrom(netip.MustParseAddrPort(remote).Addr(), 0).String()
	}
	return remote
}

// to is a packet from outside to an address as it is.
func (g *traffic) to(label string, proto uint8, src, dst string, p switchtest.Packet) {
	p.EthSrc, p.EthDst, p.Proto, p.Src, p.Dst = switchtest.NextHopMAC, switchtest.MAC("up"), proto, src, dst
	f := switchtest.Bytes(p)
	g.steps = append(g.steps, step{label, "up", endpoint{}, func(*side) [][]byte { return [][]byte{f} }})
}

func (g *traffic) udp(e endpoint, remote string) {
	for range 1 + g.rng.Intn(3) {
		g.out("udp out", e, remote, switchtest.Packet{Payload: g.payload(), DF: g.rng.Intn(2) == 0})
		g.in("udp reply", remote, e, switchtest.Packet{Payload: g.payload()})
	}
	g.in("udp from a stranger", "203.0.113.77:53", e, switchtest.Packet{Payload: g.payload()})
	g.in("udp from another port", netip.MustParseAddrPort(remote).Addr().String()+":999", e, switchtest.Packet{Payload: g.payload()})
	g.out("udp to a second peer", e, other+":5353", switchtest.Packet{Payload: g.payload()})
	g.in("udp reply of the second peer", other+":5353", e, switchtest.Packet{Payload: g.payload()})
	g.out("udp empty", e, remote, switchtest.Packet{})
}

func (g *traffic) ping(e endpoint, remote string) {
	e.proto = header.ProtoICMP
	host := netip.MustParseAddrPort(remote).Addr().String()
	for range 1 + g.rng.Intn(2) {
		g.out("echo", e, host, switchtest.Packet{Type: 8, Payload: g.payload()})
		g.in("echo reply", remote, e, switchtest.Packet{Type: 0, Payload: g.payload()})
	}
	g.to("echo reply of another query", header.ProtoICMP, host, switchtest.HostAddr, switchtest.Packet{ID: 3, Payload: g.payload()})
	g.out("echo reply from inside", e, host, switchtest.Packet{Type: 0, Payload: g.payload()})
}

// conn is a TCP connection as its ends would have it.
type conn struct {
	g          *traffic
	client     func(label string, p switchtest.Packet)
	server     func(label string, p switchtest.Packet)
	cseq, sseq uint32
}

func (c *conn) open() {
	c.client("tcp SYN", switchtest.Packet{Flags: switchtest.SYN, Seq: c.cseq})
	c.cseq++
	c.server("tcp SYN/ACK", switchtest.Packet{Flags: switchtest.SYN | switchtest.ACK, Seq: c.sseq, Ack: c.cseq})
	c.sseq++
	c.client("tcp ACK", switchtest.Packet{Flags: switchtest.ACK, Seq: c.cseq, Ack: c.sseq})
}

func (c *conn) data() {
	for range c.g.rng.Intn(4) {
		p := c.g.payload()
		if c.g.rng.Intn(2) == 0 {
			c.client("tcp data", switchtest.Packet{Flags: switchtest.ACK | switchtest.PSH, Seq: c.cseq, Ack: c.sseq, Payload: p})
			c.cseq += uint32(len(p))
			c.server("tcp ACK", switchtest.Packet{Flags: switchtest.ACK, Seq: c.sseq, Ack: c.cseq})
			continue
		}
		c.server("tcp data back", switchtest.Packet{Flags: switchtest.ACK | switchtest.PSH, Seq: c.sseq, Ack: c.cseq, Payload: p})
		c.sseq += uint32(len(p))
		c.client("tcp ACK", switchtest.Packet{Flags: switchtest.ACK, Seq: c.cseq, Ack: c.sseq})
	}
}

func (c *conn) close() {
	fin := switchtest.Packet{Flags: switchtest.FIN | switchtest.ACK}
	switch c.g.rng.Intn(4) {
	case 0: // reset by the client
		c.client("tcp RST", switchtest.Packet{Flags: switchtest.RST | switchtest.ACK, Seq: c.cseq, Ack: c.sseq})
		c.server("tcp data after the RST", switchtest.Packet{Flags: switchtest.ACK, Seq: c.sseq, Ack: c.cseq, Payload: []byte("late")})
	case 1: // by the server
		c.server("tcp RST back", switchtest.Packet{Flags: switchtest.RST, Seq: c.sseq})
	case 2: // half-closed: the other end still sends
		fin.Seq, fin.Ack = c.cseq, c.sseq
		c.client("tcp FIN", fin)
		c.cseq++
		c.server("tcp data back, half-closed", switchtest.Packet{Flags: switchtest.ACK, Seq: c.sseq, Ack: c.cseq, Payload: []byte("more")})
		c.sseq += 4
		c.client("tcp ACK, half-closed", switchtest.Packet{Flags: switchtest.ACK, Seq: c.cseq, Ack: c.sseq})
		fallthrough
	default:
		fin.Seq, fin.Ack = c.sseq, c.cseq
		c.server("tcp FIN back", fin)
		c.sseq++
		c.client("tcp FIN", switchtest.Packet{Flags: switchtest.FIN | switchtest.ACK, Seq: c.cseq, Ack: c.sseq})
		c.cseq++
		c.server("tcp last ACK", switchtest.Packet{Flags: switchtest.ACK, Seq: c.sseq, Ack: c.cseq})
	}
}

func (g *traffic) outbound(e endpoint, remote string) *conn {
	e.proto = header.ProtoTCP
	return &conn{
		g: g, cseq: g.rng.Uint32(), sseq: g.rng.Uint32(),
		client: func(label string, p switchtest.Packet) { g.out(label, e, remote, p) },
		server: func(label string, p switchtest.Packet) { g.in(label, remote, e, p) },
	}
}

func (g *traffic) tcp(e endpoint, remote string) {
	c := g.outbound(e, remote)
	c.open()
	c.data()
	c.close()
}

func (g *traffic) inbound(client string) *conn {
	web := endpoint{"c1", 80, header.ProtoTCP}
	return &conn{
		g: g, cseq: g.rng.Uint32(), sseq: g.rng.Uint32(),
		client: func(label string, p switchtest.Packet) { g.to(label, header.ProtoTCP, client, published, p) },
		server: func(label string, p switchtest.Packet) { g.out(label, web, client, p) },
	}
}

// client is an address outside that no flow has had.
func (g *traffic) client() string { return fmt.Sprintf("203.0.113.20:%d", 10000+g.port) }

func (g *traffic) publishedTCP(endpoint, string) {
	c := g.inbound(g.client())
	c.open()
	c.data()
	c.close()
}

func (g *traffic) publishedUDP(endpoint, string) {
	client := g.client()
	for range 1 + g.rng.Intn(2) {
		g.to("published udp", header.ProtoUDP, client, published, switchtest.Packet{Payload: g.payload()})
		g.out("published udp reply", endpoint{"c1", 80, header.ProtoUDP}, client, switchtest.Packet{Payload: g.payload()})
	}
}

// hairpin: a container uses the host's address to reach a published port, its own
// or another's.
func (g *traffic) hairpin(e endpoint, _ string) {
	web := endpoint{"c1", 80, e.proto}
	g.out("hairpin", e, published, switchtest.Packet{Payload: g.payload()})
	g.steps = append(g.steps, step{"hairpin reply", "c1", web, func(s *side) [][]byte {
		p := switchtest.Packet{Src: switchtest.Stations["c1"] + ":80", Proto: e.proto, Payload: []byte("reply")}
		return [][]byte{switchtest.Bytes(switchtest.From("c1", s.ext(e, switchtest.Stations["c1"]+":80").String(), p))}
	}})
}

// icmp is an error about a packet, whose headers are those the sender of the error
// saw.
func icmp(p switchtest.Packet, typ, code uint8, seen []byte) []byte {
	p.Proto, p.Type = header.ProtoICMP, typ
	p.Payload = seen[header.EthernetLen:min(len(seen), header.EthernetLen+28)]
	f := switchtest.Bytes(p)
	const at = header.EthernetLen + 20
	f[at+1] = code
	if typ == 3 && code == 4 {
		binary.BigEndian.PutUint16(f[at+6:], 1300)
	}
	end := header.EthernetLen + int(binary.BigEndian.Uint16(f[header.EthernetLen+2:]))
	binary.BigEndian.PutUint16(f[at+2:], 0)
	header.FinishChecksum(f[:end], at, 2)
	return f
}

var errorKinds = [][2]uint8{{3, 0}, {3, 1}, {3, 3}, {3, 4}, {3, 13}, {11, 0}, {12, 0}}

// errors come from outside about what went out.
func (g *traffic) errors(e endpoint, remote string) {
	g.out("udp out", e, remote, switchtest.Packet{Payload: g.payload()})
	for _, from := range []string{router, netip.MustParseAddrPort(remote).Addr().String()} {
		kind := errorKinds[g.rng.Intn(len(errorKinds))]
		for _, known := range []bool{true, false} {
			label := "error from outside"
			if !known {
				label = "error about nothing"
			}
			g.steps = append(g.steps, step{label, "up", endpoint{}, func(s *side) [][]byte {
				a := s.ext(e, remote)
				if !known {
					a = netip.AddrPortFrom(a.Addr(), 7)
				}
				seen := switchtest.Bytes(switchtest.Packet{Src: a.String(), Dst: remote, Proto: e.proto, Payload: []byte("as it went out")})
				return [][]byte{icmp(switchtest.Packet{EthSrc: switchtest.NextHopMAC, EthDst: switchtest.MAC("up"), Src: from, Dst: switchtest.HostAddr}, kind[0], kind[1], seen)}
			}})
		}
	}
	g.in("udp reply after errors", remote, e, switchtest.Packet{Payload: g.payload()})
}

// errorsInside come from a container about what came in to it.
func (g *traffic) errorsInside(endpoint, string) {
	client := g.client()
	g.to("published udp", header.ProtoUDP, client, published, switchtest.Packet{Payload: g.payload()})
	kind := errorKinds[g.rng.Intn(len(errorKinds))]
	seen := switchtest.Bytes(switchtest.Packet{Src: client, Dst: switchtest.Stations["c1"] + ":80", Proto: header.ProtoUDP, Payload: []byte("as it came in")})
	f := icmp(switchtest.From("c1", netip.MustParseAddrPort(client).Addr().String(), switchtest.Packet{Src: switchtest.Stations["c1"]}), kind[0], kind[1], seen)
	g.steps = append(g.steps, step{"error from inside", "c1", endpoint{}, func(*side) [][]byte { return [][]byte{f} }})
}

// unsolicited packets come from outside for nobody.
func (g *traffic) unsolicited(endpoint, string) {
	at := fmt.Sprintf("%s:%d", switchtest.HostAddr, 1000+g.rng.Intn(7000))
	src := g.client()
	switch g.rng.Intn(5) {
	case 0:
		g.to("unsolicited udp", header.ProtoUDP, src, at, switchtest.Packet{Payload: g.payload()})
	case 1:
		g.to("unsolicited SYN", header.ProtoTCP, src, at, switchtest.Packet{Flags: switchtest.SYN, Seq: 1})
	case 2:
		g.to("unsolicited ACK", header.ProtoTCP, src, at, switchtest.Packet{Flags: switchtest.ACK, Seq: 1, Ack: 1})
	case 3:
		g.to("unsolicited RST", header.ProtoTCP, src, at, switchtest.Packet{Flags: switchtest.RST, Seq: 1})
	case 4:
		g.to("direct to a container", header.ProtoUDP, src, switchtest.Stations["c2"]+":80", switchtest.Packet{Payload: g.payload()})
	}
}

// fragments of a datagram go out or in, in a random order.
func (g *traffic) fragments(e endpoint, remote string) {
	payload := make([]byte, 1500+g.rng.Intn(2000))
	g.rng.Read(payload)
	label, from := "fragments out", e.station
	p := switchtest.From(e.station, remote, switchtest.Packet{Src: netip.AddrPortFrom(netip.MustParseAddr(switchtest.Stations[e.station]), e.port).String()})
	inside := e
	if g.rng.Intn(2) == 0 {
		label, from, inside = "fragments in", "up", endpoint{}
		p = switchtest.Packet{EthSrc: switchtest.NextHopMAC, EthDst: switchtest.MAC("up"), Src: g.client(), Dst: published}
	}
	p.Proto, p.Payload = header.ProtoUDP, payload
	whole := switchtest.Bytes(p)
	binary.BigEndian.PutUint16(whole[header.EthernetLen+4:], g.port)
	pieces := switchtest.Fragment(whole, 1200)
	switch g.rng.Intn(4) {
	case 0:
		slices.Reverse(pieces)
		label += ", reversed"
	case 1:
		g.rng.Shuffle(len(pieces), func(i, j int) { pieces[i], pieces[j] = pieces[j], pieces[i] })
		label += ", in any order"
	case 2:
		pieces = pieces[:len(pieces)-1]
		label += ", the last is missing"
	}
	g.steps = append(g.steps, step{label, from, inside, func(*side) [][]byte { return pieces }})
}

// hops run out.
func (g *traffic) hops(e endpoint, remote string) {
	g.out("ttl 1", e, remote, switchtest.Packet{TTL: 1, Payload: g.payload()})
	g.out("ttl 2", e, remote, switchtest.Packet{TTL: 2, Payload: g.payload()})
	g.to("published, ttl 1", header.ProtoUDP, g.client(), published, switchtest.Packet{TTL: 1, Payload: g.payload()})
}

// resets are guessed by a stranger.
func (g *traffic) resets(e endpoint, remote string) {
	c := g.outbound(e, remote)
	c.open()
	blind := switchtest.Packet{Flags: switchtest.RST, Seq: c.sseq + 1<<30}
	c.server("RST outside the window", blind)
	near := switchtest.Packet{Flags: switchtest.RST, Seq: c.sseq + 1000}
	c.server("RST within the window", near)
	c.client("tcp data after forged RST", switchtest.Packet{Flags: switchtest.ACK, Seq: c.cseq, Ack: c.sseq, Payload: []byte("alive")})
	c.cseq += 5
	c.server("tcp data back after forged RST", switchtest.Packet{Flags: switchtest.ACK, Seq: c.sseq, Ack: c.cseq, Payload: []byte("too")})
}

// midstream segments belong to no known connection.
func (g *traffic) midstream(e endpoint, remote string) {
	e.proto, e.port = header.ProtoTCP, 40000+g.port // of no other flow
	flags := []uint8{switchtest.ACK, switchtest.ACK | switchtest.PSH, switchtest.FIN | switchtest.ACK, switchtest.SYN | switchtest.ACK, switchtest.RST, 0, 0x29, 0x03, 0x06}[g.rng.Intn(9)]
	label := fmt.Sprintf("first segment with flags %#x", flags)
	p := switchtest.Packet{Flags: flags, Seq: 7, Ack: 9, Payload: []byte("middle")}
	g.out(label+" from inside", e, remote, p)
	g.to(label+" to a published port", header.ProtoTCP, g.client(), published, p)
}

// big packets do not fit the uplink.
func (g *traffic) big(e endpoint, remote string) {
	b := make([]byte, 1420)
	g.rng.Read(b)
	g.out("too big, not to be cut", e, remote, switchtest.Packet{DF: true, Payload: b})
	g.out("too big", e, remote, switchtest.Packet{Payload: b})
	g.in("udp reply", remote, e, switchtest.Packet{Payload: g.payload()})
}
