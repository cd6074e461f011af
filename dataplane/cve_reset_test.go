package dataplane_test

import (
	"math/rand"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// segments opens a connection of c1 with web. tcp is a segment of it, from c1 or from web to the
// address e, which masquerade gave it.
func segments(t *testing.T, l *Lab) (tcp func(from string, flags uint8, seq, ack uint32, payload string) []byte, e string) {
	t.Helper()
	tcp = func(from string, flags uint8, seq, ack uint32, payload string) []byte {
		p := Packet{Proto: header.ProtoTCP, Flags: flags, Seq: seq, Ack: ack, Payload: []byte(payload)}
		if from == "c1" {
			p.Src = "10.1.0.11:5000"
			return Bytes(From("c1", web, p))
		}
		p.EthSrc, p.EthDst, p.Src, p.Dst = NextHopMAC, MAC("up"), web, from
		return Bytes(p)
	}
	l.Send("c1", tcp("c1", SYN, 1000, 0, ""))
	e = See(t, l.Expect("up")).From()
	l.Send("up", tcp(e, SYN|ACK, 7000, 1001, ""))
	l.Expect("c1")
	l.Send("c1", tcp("c1", ACK, 1001, 7001, ""))
	l.Expect("up")
	return tcp, e
}

// A RST with a guessed sequence number does not end a connection: data goes on
// both ways for as long as an idle connection lives.
func TestC26ForgedRST(t *testing.T) {
	l := New(t)
	tcp, e := segments(t, l)
	rng := rand.New(rand.NewSource(26))
	for range 100 {
		seq := 7001 + uint32(1<<20) + rng.Uint32()>>1 // outside the window of 65535
		l.Send("up", tcp(e, RST, seq, 0, ""))
		l.Send("up", tcp(e, RST|ACK, seq, 1001, ""))
		near := 7001 + 1 + rng.Uint32()%65534 // inside, and not the number that is due
		l.Send("up", tcp(e, RST, near, 0, ""))
		l.Send("up", tcp(e, RST|ACK, near, 1001, ""))
		l.Got("c1")
	}
	if c := l.Switch.Conns(); len(c) != 1 || c[0].State != "established" {
		t.Errorf("after forged RST: %+v", c)
	}
	for range 10 {
		l.Advance(10 * time.Minute) // a closed connection is forgotten after four
	}
	l.Send("c1", tcp("c1", ACK, 1001, 7001, "still here"))
	if got := See(t, l.Expect("up")); got.From() != e {
		t.Errorf("after forged RST the connection left from %s, before from %s", got.From(), e)
	}
	l.Send("up", tcp(e, ACK, 7001, 1011, "so am I"))
	if got := See(t, l.Expect("c1")); got.Payload != "so am I" {
		t.Errorf("after forged RST %+v came in", got)
	}
}

// A segment without ACK, which no receiver takes (RFC 9293 3.10.7.4), does not move the
// window: a RST at its end is a guess as before.
func TestC26ForgedWithoutACK(t *testing.T) {
	for _, flags := range []uint8{0, PSH, FIN, SYN} {
		l := New(t)
		tcp, e := segments(t, l)
		for i, seq := range []uint32{7001, 9000, 30000} {
			l.Send("up", tcp(e, flags, seq, 0, "forged"))
			l.Send("up", tcp(e, RST, seq+6+uint32(i), 0, ""))
			l.Send("up", tcp(e, RST, seq+6, 0, ""))
			l.Send("up", tcp(e, RST, seq+7, 0, ""))
		}
		if c := l.Switch.Conns(); len(c) != 1 || c[0].State != "established" {
			t.Errorf("after segments with flags %#x: %+v", flags, c)
		}
	}
}

// A connection that is made anew from the same port, while the switch still takes
// the one before for alive, is known by its own numbers: its RST passes, a guessed
// one does not.
func TestN60ReopenedWhileAlive(t *testing.T) {
	for _, server := range []bool{false, true} {
		l := New(t)
		seg := func(from string, flags uint8, seq, ack uint32) []byte {
			p := Packet{Proto: header.ProtoTCP, Flags: flags, Seq: seq, Ack: ack, Src: "10.1.0.11:5000"}
			if from == "c1" {
				return Bytes(From("c1", web, p))
			}
			p.EthSrc, p.EthDst, p.Src, p.Dst = NextHopMAC, MAC("up"), web, from
			return Bytes(p)
		}
		e := ""
		open := func(cseq, sseq uint32) {
			l.Send("c1", seg("c1", SYN, cseq, 0))
			e = See(t, l.Expect("up")).From()
			l.Send("up", seg(e, SYN|ACK, sseq, cseq+1))
			l.Expect("c1")
			l.Send("c1", seg("c1", ACK, cseq+1, sseq+1))
			l.Expect("up")
		}
		open(1000, 7000)
		l.Send("c1", seg("c1", RST|ACK, 1001, 7001))
		l.Expect("up")
		l.Send("up", seg(e, ACK, 7001, 1001)) // was on its way
		l.Expect("c1")
		open(3_000_000_000, 2_000_000_000)
		l.Send("up", seg(e, RST, 7001, 0)) // of the connection before
		l.Send("up", seg(e, RST, 2_000_000_500, 0))
		if got := l.Got("c1"); len(got) > 0 {
			t.Errorf("a RST with another number passed: %s", Describe(got[0]))
		}
		from, to, f := "c1", "up", seg("c1", RST|ACK, 3_000_000_001, 2_000_000_001)
		if server {
			from, to, f = "up", "c1", seg(e, RST, 2_000_000_001, 0)
		}
		l.Send(from, f)
		if got := l.Got(to); len(got) != 1 {
			t.Errorf("the RST of the second connection from %s did not pass; drops: %s", from, l.Drops())
		}
	}
}
