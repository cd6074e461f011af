package dataplane_test

import (
	"fmt"
	"math/rand"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// tcpFlow is a flow between a container and the world's web server, or with
// published set between the world and the container. Client and server begin
// with numbers 1000 and 2000.
type tcpFlow struct {
	*Lab
	port      uint16 // the container's, or the client's
	published bool
	e         string // the host's end as the world sees it
}

func newFlow(t *testing.T, published bool) *tcpFlow {
	f := &tcpFlow{Lab: New(t), port: 5000, published: published}
	if published {
		f.Publish(8080, "c1", 80)
		f.e = HostAddr + ":8080"
	}
	return f
}

// inject sends a segment of the client or the server and returns what arrived at
// the other one.
func (f *tcpFlow) inject(client bool, flags uint8, seq, ack uint32, payload string, opt ...layers.TCPOption) [][]byte {
	p := Packet{Proto: header.ProtoTCP, Flags: flags, Seq: seq, Ack: ack, Payload: []byte(payload), Options: opt}
	if client != f.published { // the container speaks
		p.Src = fmt.Sprintf("10.1.0.11:%d", f.port)
		dst := web
		if f.published {
			p.Src, dst = "10.1.0.11:80", fmt.Sprintf("%s:%d", World, f.port)
		}
		f.Send("c1", Bytes(From("c1", dst, p)))
		return f.Got("up")
	}
	p.EthSrc, p.EthDst, p.Src, p.Dst = NextHopMAC, MAC("up"), web, f.e
	if f.published {
		p.Src = fmt.Sprintf("%s:%d", World, f.port)
	}
	f.Send("up", Bytes(p))
	return f.Got("c1")
}

// pass is inject of a segment that has to arrive.
func (f *tcpFlow) pass(client bool, flags uint8, seq, ack uint32, payload string, opt ...layers.TCPOption) Seen {
	f.T.Helper()
	got := f.inject(client, flags, seq, ack, payload, opt...)
	if len(got) != 1 {
		f.T.Fatalf("client %v, flags %#x, seq %d: %d frames arrived, want 1; drops: %s", client, flags, seq, len(got), f.Drops())
	}
	CheckSums(f.T, got[0])
	s := See(f.T, got[0])
	if client && !f.published {
		f.e = s.From()
	}
	return s
}

// stopped is inject of a segment that must not arrive.
func (f *tcpFlow) stopped(client bool, flags uint8, seq, ack uint32) {
	f.T.Helper()
	if got := f.inject(client, flags, seq, ack, ""); len(got) != 0 {
		f.T.Errorf("client %v, flags %#x, seq %d: arrived: %s", client, flags, seq, Describe(got[0]))
	}
	f.ExpectNothing()
}

// open is the handshake and data up to client 1001 and server 3001.
func (f *tcpFlow) open() {
	f.T.Helper()
	f.pass(true, SYN, 1000, 0, "")
	f.pass(false, SYN|ACK, 2000, 1001, "")
	f.pass(true, ACK, 1001, 2001, "")
	f.pass(false, ACK, 2001, 1001, string(make([]byte, 1000)))
	f.pass(true, ACK, 1001, 3001, "")
}

func (f *tcpFlow) wantState(want string) {
	f.T.Helper()
	c := f.Switch.Conns()
	got := "none"
	if len(c) == 1 {
		got = c[0].State
	}
	if got != want {
		f.T.Errorf("state %s (%d flows), want %s", got, len(c), want)
	}
}

// lives checks that the flow lives for d more without a packet, and no longer.
func (f *tcpFlow) lives(d time.Duration) {
	f.T.Helper()
	f.Advance(d - time.Second)
	if n := len(f.Switch.Conns()); n != 1 {
		f.T.Errorf("%d flows %s later, want 1", n, d-time.Second)
	}
	f.Advance(2 * time.Second)
	if n := len(f.Switch.Conns()); n != 0 {
		f.T.Errorf("%d flows %s later, want none", n, d+time.Second)
	}
}

func bothWays(t *testing.T, test func(t *testing.T, f *tcpFlow)) {
	for _, published := range []bool{false, true} {
		t.Run(fmt.Sprintf("published=%v", published), func(t *testing.T) { test(t, newFlow(t, published)) })
	}
}

// RFC 7857 figure 1: each edge, from inside and, mirrored, from outside.
func TestN60EveryEdgeOfTheStateMachine(t *testing.T) {
	for _, tc := range []struct {
		name  string
		do    func(f *tcpFlow)
		state string
		lives time.Duration
	}{
		{"CLOSED to INIT", func(f *tcpFlow) { f.pass(true, SYN, 1000, 0, "") }, "init", 240 * time.Second},
		{"open_retransmit1: SYN again", func(f *tcpFlow) {
			f.pass(true, SYN, 1000, 0, "")
			f.Advance(100 * time.Second)
			f.pass(true, SYN, 1000, 0, "")
		}, "init", 240 * time.Second},
		{"open_retransmit2: SYN/ACK again", func(f *tcpFlow) {
			f.pass(true, SYN, 1000, 0, "")
			f.pass(false, SYN|ACK, 2000, 1001, "")
			f.pass(false, SYN|ACK, 2000, 1001, "")
		}, "established", 240 * time.Second},
		{"INIT: a SYN/ACK that answers another SYN opens nothing", func(f *tcpFlow) {
			f.pass(true, SYN, 1000, 0, "")
			f.pass(false, SYN|ACK, 2000, 5001, "")
		}, "init", 240 * time.Second},
		{"INIT: nor does it keep the true one out", func(f *tcpFlow) {
			f.pass(true, SYN, 1000, 0, "")
			f.pass(false, SYN|ACK, 2000, 5001, "")
			f.pass(false, SYN|ACK, 3000, 1001, "")
			f.pass(true, ACK, 1001, 3001, "")
		}, "established", 24 * time.Hour},
		{"INIT to ESTABLISHED", func(f *tcpFlow) { f.open() }, "established", 24 * time.Hour},
		{"client FIN", func(f *tcpFlow) { f.open(); f.pass(true, FIN|ACK, 1001, 3001, "") }, "client-fin", 7440 * time.Second},
		{"server FIN", func(f *tcpFlow) { f.open(); f.pass(false, FIN|ACK, 3001, 1001, "") }, "server-fin", 7440 * time.Second},
		{"session_close_out", func(f *tcpFlow) { f.open(); f.close(true) }, "closing", 240 * time.Second},
		{"session_close_in", func(f *tcpFlow) { f.open(); f.close(false) }, "closing", 240 * time.Second},
		{"session_close_simultaneous", func(f *tcpFlow) {
			f.open()
			f.pass(true, FIN|ACK, 1001, 3001, "")
			f.pass(false, FIN|ACK, 3001, 1001, "")
		}, "closing", 240 * time.Second},
		{"tcp_close: the last ACK does not refresh", func(f *tcpFlow) {
			f.open()
			f.close(true)
			f.Advance(100 * time.Second)
			f.pass(true, ACK, 1002, 3002, "")
		}, "closing", 140 * time.Second},
		{"rst_timeout", func(f *tcpFlow) { f.open(); f.pass(false, RST, 3001, 0, "") }, "transitory", 240 * time.Second},
		{"rst_timeout after a FIN", func(f *tcpFlow) {
			f.open()
			f.pass(true, FIN|ACK, 1001, 3001, "")
			f.pass(false, RST, 3001, 0, "")
		}, "transitory", 240 * time.Second},
		{"rst_established_timeout: data after an RST", func(f *tcpFlow) {
			f.open()
			f.pass(false, RST, 3001, 0, "")
			f.Advance(10 * time.Second)
			f.pass(true, ACK, 1001, 3001, "the RST was lost")
		}, "established", 24 * time.Hour},
		{"RST in INIT", func(f *tcpFlow) {
			f.pass(true, SYN, 1000, 0, "")
			f.pass(false, RST|ACK, 0, 1001, "")
		}, "init", 240 * time.Second},
		{"session_reopen", func(f *tcpFlow) {
			f.open()
			f.close(true)
			f.pass(true, SYN, 500000, 0, "")
			f.pass(false, SYN|ACK, 900000, 500001, "")
			f.pass(true, ACK, 500001, 900001, "")
		}, "established", 24 * time.Hour},
		{"session_reopen without the last ACK", func(f *tcpFlow) {
			f.open()
			f.close(true)
			f.pass(true, SYN, 500000, 0, "")
			f.pass(false, SYN|ACK, 900000, 500001, "")
		}, "established", 240 * time.Second},
		{"session_reopen from the other side", func(f *tcpFlow) {
			f.open()
			f.close(true)
			f.pass(false, SYN, 900000, 0, "")
			f.pass(true, SYN|ACK, 500000, 900001, "")
			f.pass(false, ACK, 900001, 500001, "")
			f.pass(true, ACK, 500001, 900001, "")
		}, "established", 24 * time.Hour},
		{"half_reopen_inside", func(f *tcpFlow) {
			f.open()
			f.close(true)
			f.Advance(100 * time.Second)
			f.pass(true, SYN, 500000, 0, "")
			f.pass(true, ACK, 500001, 0, "")
		}, "client-reopen", 140 * time.Second},
		{"half_reopen_outside", func(f *tcpFlow) {
			f.open()
			f.close(true)
			f.Advance(100 * time.Second)
			f.pass(false, SYN, 900000, 0, "")
			f.pass(false, ACK, 900001, 0, "")
		}, "server-reopen", 140 * time.Second},
		{"a SYN after an RST", func(f *tcpFlow) {
			f.open()
			f.pass(false, RST, 3001, 0, "")
			f.pass(true, SYN, 500000, 0, "")
			f.pass(false, SYN|ACK, 900000, 500001, "")
			f.pass(true, ACK, 500001, 900001, "")
		}, "established", 24 * time.Hour},
		{"picked up in the middle: an ACK that is answered", func(f *tcpFlow) {
			f.pass(true, ACK, 1001, 3001, "")
			f.pass(false, ACK, 3001, 1001, "")
		}, "established", 24 * time.Hour},
		{"picked up in the middle: the answer is of other numbers", func(f *tcpFlow) {
			f.pass(true, ACK, 1001, 3001, "")
			f.pass(false, ACK, 900000, 1001, "")
		}, "established", 240 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, f *tcpFlow) {
				tc.do(f)
				f.wantState(tc.state)
				f.lives(tc.lives)
			})
		})
	}
}

// close is FIN from one side, answered by FIN from the other.
func (f *tcpFlow) close(client bool) {
	f.T.Helper()
	if client {
		f.pass(true, FIN|ACK, 1001, 3001, "")
		f.pass(false, FIN|ACK, 3001, 1002, "")
		f.pass(true, ACK, 1002, 3002, "")
		return
	}
	f.pass(false, FIN|ACK, 3001, 1001, "")
	f.pass(true, FIN|ACK, 1001, 3002, "")
	f.pass(false, ACK, 3002, 1002, "")
}

// RFC 5961 section 3: an RST counts with the exact next number only, and no
// other passes.
func TestN30N62OnlyAnExactRSTCounts(t *testing.T) {
	bothWays(t, func(t *testing.T, f *tcpFlow) {
		f.open() // the client expects 3001
		for _, seq := range []uint32{0, 1000000, 42} {
			f.stopped(false, RST, seq, 0)
		}
		f.stopped(false, RST|ACK, 3000, 1001)
		f.wantState("established")
		from := "up"
		if f.published {
			from = "c1"
		}
		if n := f.Dropped(from, dataplane.DropBadReset); n != 4 {
			t.Errorf("%d drops, want 4; %s", n, f.Drops())
		}
		f.pass(false, RST, 3001, 0, "")
		f.wantState("transitory")
		f.Advance(200 * time.Second)
		f.pass(true, ACK, 1001, 3001, "alive after all")
		f.wantState("established")
	})
}

// ReDAN: 100,000 RSTs with numbers at random end no flow, and none arrives.
func TestN30BlindRSTs(t *testing.T) {
	f := newFlow(t, false)
	f.open()
	rng := rand.New(rand.NewSource(30))
	arrived := 0
	for range scaled(100_000) {
		seq := rng.Uint32()
		if seq != 3001 {
			arrived += len(f.inject(false, []uint8{RST, RST | ACK}[rng.Intn(2)], seq, rng.Uint32(), ""))
		}
	}
	if arrived != 0 {
		t.Errorf("%d RSTs arrived", arrived)
	}
	f.wantState("established")
	// A segment far out of the window opens no way for one.
	f.pass(false, ACK, 1<<30, 77, "")
	f.stopped(false, RST, 1<<30, 0)
	f.wantState("established")
}

// RFC 5961: the challenge ACK passes, and the RST that answers it, and the
// switch sends no RST itself.
func TestN34ChallengeACK(t *testing.T) {
	bothWays(t, func(t *testing.T, f *tcpFlow) {
		// The client restarted, the server still holds the flow of before.
		f.pass(true, SYN, 1000, 0, "")
		f.pass(false, ACK, 777000, 888000, "")
		f.wantState("init")
		f.pass(true, RST, 888000, 0, "")
		f.pass(true, SYN, 1000, 0, "")
		f.pass(false, SYN|ACK, 2000, 1001, "")
		f.wantState("established")
	})
	bothWays(t, func(t *testing.T, f *tcpFlow) {
		f.open()
		f.pass(true, SYN, 500000, 0, "") // within a living flow
		f.wantState("established")
		f.pass(false, ACK, 3001, 1001, "")
		f.pass(true, RST, 1001, 0, "")
		f.wantState("transitory")
	})
}

// RFC 5382 REQ-2: simultaneous open.
func TestN21SimultaneousOpen(t *testing.T) {
	bothWays(t, func(t *testing.T, f *tcpFlow) {
		f.pass(true, SYN, 1000, 0, "")
		f.wantState("init")
		f.pass(false, SYN, 2000, 0, "")
		f.wantState("established") // RFC 7857 figure 1: a SYN of each side
		f.pass(true, SYN|ACK, 1000, 2001, "")
		f.pass(false, SYN|ACK, 2000, 1001, "")
		f.wantState("established")
		f.pass(true, ACK, 1001, 2001, "data")
		f.pass(false, RST, 2001, 0, "")
		f.wantState("transitory")
	})
}

// RFC 5382 REQ-2: a half-closed flow carries data an hour later.
func TestN21HalfCloseLives(t *testing.T) {
	bothWays(t, func(t *testing.T, f *tcpFlow) {
		f.open()
		f.pass(true, FIN|ACK, 1001, 3001, "")
		for i := range uint32(5) {
			f.Advance(time.Hour)
			f.pass(false, ACK, 3001+4*i, 1002, "data")
			f.pass(true, ACK, 1002, 3005+4*i, "")
		}
		f.wantState("client-fin")
	})
}

// RFC 5382 REQ-5, RFC 7857 2.1: opening and closing have timers of their own.
func TestN24N61TimersAreConfigured(t *testing.T) {
	f := newFlow(t, false)
	f.Config.Timeouts = conntrack.Timeouts{TCPOpening: 11 * time.Second, TCPClosing: 13 * time.Second, TCPEstablished: 7440 * time.Second, TCPReset: 17 * time.Second}
	f.Install()
	f.pass(true, SYN, 1000, 0, "")
	f.lives(11 * time.Second)
	f.open()
	f.lives(7440 * time.Second)
	f.open()
	f.close(true)
	f.lives(13 * time.Second)
	f.open()
	f.pass(false, RST, 3001, 0, "")
	f.lives(17 * time.Second)
}

// TestScaleNobodyHasTold: of a connection that is picked up in the middle no window counts as
// more than 16 MiB, however large its number may be meant. A stranger's segment further ahead
// moves nothing.
func TestScaleNobodyHasTold(t *testing.T) {
	f := newFlow(t, true)
	f.pass(true, ACK, 1001, 3001, "")
	f.pass(false, ACK, 3001, 1001, "")
	f.pass(true, ACK, 1001, 3001, "")
	f.wantState("established")
	const window = 16 << 20
	f.pass(true, FIN|ACK, 1002+window, 3001, "")
	f.wantState("established")
	f.stopped(true, RST, 1003+window, 0)
	f.pass(true, ACK, 1001+window, 3001, "far")
	f.pass(true, RST, 1004+window, 0, "")
	f.wantState("transitory")
}
