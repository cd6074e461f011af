package main

import (
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/talk"
)

// flow is a connection of a kind, which is a table and one of its columns.
type flow struct {
	kind, what string
	begin      func() said
	alive      bool // it has outlived what happened before
	said
}

// said is what is heard of a connection.
type said interface {
	Heard() int64
	Ended() bool
	Close()
	// speak has one speak that does not by itself.
	speak()
}

// ticking is one whose ends speak all the time: the kernel carries it, unless it is localhost's.
type ticking struct{ *talk.Ticks }

func (ticking) speak() {}

// young is one that has lived for too short a time for the kernel to carry it.
type young struct {
	near, far, speaker net.Conn
	heard              atomic.Int64
	ended              atomic.Bool
	readers            sync.WaitGroup
}

func (l *eventLab) young(from *netlab.NS, to string, server *netlab.NS, serverSpeaks bool) *young {
	l.t.Helper()
	near, far, err := talk.Pair(from, net.JoinHostPort(to, otherPort), server, otherPort)
	if err != nil {
		l.t.Fatalf("a young connection to %s: %v", to, err)
	}
	y := &young{near: near, far: far, speaker: near}
	if serverSpeaks {
		y.speaker = far
	}
	for _, c := range []net.Conn{near, far} {
		y.readers.Go(func() {
			for b := make([]byte, 1); ; y.heard.Add(1) {
				if _, err := c.Read(b); err != nil {
					y.ended.Store(!errors.Is(err, net.ErrClosed))
					return
				}
			}
		})
	}
	return y
}

func (y *young) Heard() int64 { return y.heard.Load() }
func (y *young) Ended() bool  { return y.ended.Load() }
func (y *young) speak()       { io.WriteString(y.speaker, "x") }
func (y *young) Close()       { y.near.Close(); y.far.Close(); y.readers.Wait() }

// newcomer is one that begins when it is to speak for the first time.
type newcomer struct {
	from   *netlab.NS
	to     string
	words  *sync.WaitGroup // of all
	heard  atomic.Int64
	ended  atomic.Bool
	closed atomic.Bool
	mu     sync.Mutex // for one word after the other
	conn   net.Conn
}

func (n *newcomer) Heard() int64 { return n.heard.Load() }
func (n *newcomer) Ended() bool  { return n.ended.Load() }

func (n *newcomer) speak() {
	n.words.Go(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.say() != nil {
			n.ended.Store(true)
			return
		}
		n.heard.Add(1)
	})
}

func (n *newcomer) say() (err error) {
	if n.closed.Load() {
		return net.ErrClosed
	}
	if n.conn == nil {
		c, err := n.from.Dial("tcp", n.to, 30*time.Second)
		if err != nil {
			return err
		}
		n.conn = c
	}
	n.conn.SetDeadline(time.Now().Add(30 * time.Second))
	b := []byte("x")
	if _, err := n.conn.Write(b); err != nil {
		return err
	}
	_, err = io.ReadFull(n.conn, b)
	return err
}

// Close waits for no answer that never comes.
func (n *newcomer) Close() {
	n.closed.Store(true)
	n.words.Go(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.conn != nil {
			n.conn.Close()
		}
	})
}

// otherPort is where one connection at a time is served. That of container a is published.
const otherPort = "7001"

// eventLab is a daemon with connections of all kinds. Beside the containers of talk.Lab d is on
// a routed network.
type eventLab struct {
	*rig
	*talk.Lab
	t      *testing.T
	client *client.Client
	file   string // the daemon's configuration
	d      *netlab.NS
	flows  []*flow
	words  sync.WaitGroup // of newcomers
}

func newEventLab(t *testing.T) *eventLab {
	t.Helper()
	l := &eventLab{t: t, file: writeConfig(t, "")}
	l.rig = newRig(t, "--ipv6", "--config", l.file)
	l.client = client.New(filepath.Join(l.runDir(), "vswitch.sock"))
	t.Cleanup(l.client.Close)
	// Addresses of IPv6 stay when a link goes down, as those of IPv4 do.
	for key, value := range map[string]string{"keep_addr_on_down": "1", "accept_dad": "0"} {
		if err := l.world.Host.Sysctl("ipv6/conf/eth0/"+key, value); err != nil {
			t.Fatal(err)
		}
	}
	l.Lab = talk.New(t, l.world, l.client)
	dual := true
	n, err := l.client.CreateNetwork(t.Context(), api.NetworkCreate{Name: "routed", IPv6: &dual, Mode: api.GatewayRouted})
	if err != nil {
		t.Fatal(err)
	}
	for i, via := range []string{netlab.HostAddr, netlab.HostAddr6} {
		if err := l.world.Outside.AddRoute(n.Subnets[i].Subnet, via, "eth0"); err != nil {
			t.Fatal(err)
		}
	}
	l.fill()
	t.Cleanup(l.close)
	return l
}

// fill makes all connections.
func (l *eventLab) fill() {
	l.t.Helper()
	if _, err := l.client.Publish(l.t.Context(), "a", []string{otherPort + ":" + otherPort}); err != nil {
		l.t.Fatal(err)
	}
	l.d = l.Attach(l.t, l.client, api.Attach{Name: "d", Publish: []string{"7090:" + talk.Port}, Networks: []api.Connect{{Network: "routed"}}})
	l.flows = nil
	kindOf := map[string]string{
		"bridged": "between containers", "host to container": "with the host", "container to host": "with the host",
		"between networks": "hairpin",
	}
	column := func(what string) string {
		if c := kindOf[what]; c != "" {
			return c
		}
		return what
	}
	add := func(kind, what string, begin func() said) {
		l.flows = append(l.flows, &flow{kind: kind, what: what, begin: begin})
	}
	ticks := func(kind, what string, from *netlab.NS, to string) {
		add(carriedTable+kind, what+" "+to, func() said { return ticking{talk.Begin(l.t, what, from, "tcp", to)} })
	}
	for family := range 2 {
		host, outside := [2]string{netlab.HostAddr, netlab.HostAddr6}[family], [2]string{netlab.OutsideAddr, netlab.OutsideAddr6}[family]
		for _, k := range l.Kinds() {
			ticks(column(k.What), k.What, k.From, k.To[family])
			add(begunTable+column(k.What), k.What+" "+k.To[family], func() said { return &newcomer{from: k.From, to: k.To[family], words: &l.words} })
		}
		ticks("routed", "out of a routed network", l.d, net.JoinHostPort(outside, talk.Port))
		ticks("routed", "into a routed network", l.world.Outside, net.JoinHostPort(l.Addrs(l.d)[family], talk.Port))
		local := net.JoinHostPort([2]string{"127.0.0.1", "::1"}[family], talk.Published)
		ticks("localhost", "localhost", l.world.Host, local)
		add(begunTable+"localhost", "localhost "+local, func() said { return &newcomer{from: l.world.Host, to: local, words: &l.words} })
		for _, k := range []struct {
			what         string
			from, server *netlab.NS
			to           string
		}{
			{"between containers", l.B, l.A, l.Addrs(l.A)[family]},
			{"masqueraded", l.A, l.world.Outside, outside},
			{"published", l.world.Outside, l.A, host},
		} {
			add(carriedTable+k.what, k.what+", the server ticks "+k.to, func() said {
				return ticking{talk.Answered(l.t, k.what, k.from, net.JoinHostPort(k.to, otherPort), k.server, otherPort)}
			})
			for i, speaks := range []string{"", ", the server speaks"} {
				add(youngTable+k.what+speaks, k.to, func() said { return l.young(k.from, k.to, k.server, i == 1) })
			}
		}
	}
}

func (l *eventLab) close() {
	for _, f := range l.flows {
		if f.said != nil {
			f.Close()
		}
	}
	l.words.Wait()
}

// renew makes anew what has ended, and all that is never carried. It waits until the kernel carries
// the rest: one after the other, as two that both come to the switch may share a counter of frames.
func (l *eventLab) renew() {
	l.t.Helper()
	carried := 0
	for _, f := range l.flows {
		switch _, ticks := f.said.(ticking); {
		case f.said == nil:
		case ticks && f.alive && f.kind != ofLocalhost:
			carried++
		default:
			f.Close()
			f.said = nil
		}
	}
	// Those that came to the switch together may have a counter in common for ever.
	for begin := time.Now(); carried > 0 && l.active() < 2*carried; time.Sleep(20 * time.Millisecond) {
		if time.Since(begin) > 2*time.Second {
			carried = 0
			for _, f := range l.flows {
				if f.said != nil {
					f.Close()
					f.said = nil
				}
			}
		}
	}
	var never []*flow
	for _, f := range l.flows {
		switch {
		case !strings.HasPrefix(f.kind, carriedTable) || f.kind == ofLocalhost:
			never = append(never, f)
		case f.said == nil:
			carried++
			const enough = 40 // ticks, more than the kernel waits for
			// One whose counter is another's too is begun again, from another port.
			for again := 0; ; again++ {
				f.said = f.begin()
				if eventually(func() bool { return l.active() >= 2*carried && f.Heard() >= enough }) {
					break
				}
				if again == 2 {
					l.t.Fatalf("%s is not carried: %d rows carry, want %d", f.what, l.active(), 2*carried)
				}
				f.Close()
				f.said = nil
			}
		}
	}
	for _, f := range never {
		f.said = f.begin()
	}
}

// active is how many rows carry.
func (l *eventLab) active() int {
	l.t.Helper()
	st, err := l.client.Stats(l.t.Context(), api.StatsQuery{})
	if err != nil {
		l.t.Fatal(err)
	}
	return st.Flows.Active
}
