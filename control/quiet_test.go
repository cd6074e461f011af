package control

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
)

// quietConn is a connection whose ends speak when they are told to.
type quietConn struct {
	what string
	ends [2]net.Conn // who began, who accepted
}

// say sends something from one end to the other.
func (c *quietConn) say(from int) error {
	out, in := make([]byte, 100), make([]byte, 100)
	rand.Read(out)
	if _, err := c.ends[from].Write(out); err != nil {
		return err
	}
	to := c.ends[1-from]
	to.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.ReadFull(to, in); err != nil {
		return err
	}
	if string(in) != string(out) {
		return fmt.Errorf("heard something else")
	}
	return nil
}

// quietListener takes connections by the number that each tells first.
type quietListener struct {
	mu    sync.Mutex
	conns map[uint32]net.Conn
}

func (q *quietListener) listen(t *testing.T, ns *netlab.NS, port string) {
	l, err := ns.Listen("tcp", ":"+port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				var b [4]byte
				if _, err := io.ReadFull(c, b[:]); err != nil {
					c.Close()
					return
				}
				q.mu.Lock()
				defer q.mu.Unlock()
				q.conns[binary.BigEndian.Uint32(b[:])] = c
			}()
		}
	}()
}

func (q *quietListener) open(t *testing.T, what string, from *netlab.NS, to string) *quietConn {
	t.Helper()
	c, err := from.Dial("tcp", to, 30*time.Second)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	t.Cleanup(func() { c.Close() })
	var b [4]byte
	rand.Read(b[:])
	if _, err := c.Write(b[:]); err != nil {
		t.Fatal(err)
	}
	var other net.Conn
	eventually(t, what+" is accepted", func() bool {
		q.mu.Lock()
		defer q.mu.Unlock()
		other = q.conns[binary.BigEndian.Uint32(b[:])]
		return other != nil
	})
	t.Cleanup(func() { other.Close() })
	for _, c := range []net.Conn{c, other} {
		c.(*net.TCPConn).SetKeepAlive(false) // it is to be quiet
	}
	return &quietConn{what, [2]net.Conn{c, other}}
}

// TestQuietConnections: connections of every kind on which nobody has spoken for a while go on,
// whoever speaks first: while nobody is there, after a kill -9 and a start, and after a stop and one.
// So do routed ones on which hardly anything was said at all.
func TestQuietConnections(t *testing.T) {
	r := newRig(t)
	r.cfg.IPv6 = true
	worldIsUp(t, r)
	r.start()
	if _, err := r.CreateNetwork(t.Context(), api.NetworkCreate{Name: "other", IPv6: yes()}); err != nil {
		t.Fatal(err)
	}
	a, act := r.attach("a", api.Attach{Publish: []string{"7080:7000"}})
	b, bct := r.attach("b", api.Attach{})
	c, _ := r.attach("c", api.Attach{Networks: []api.Connect{{Network: "other"}}})
	const port = "7000"
	q := &quietListener{conns: make(map[uint32]net.Conn)}
	for _, ns := range []*netlab.NS{a, b, r.world.Host, r.world.Outside} {
		q.listen(t, ns, port)
	}
	aAt, bAt, gateways := addrsOf(t, act), addrsOf(t, bct), act.Endpoints[0].Gateways
	host, outside := []string{netlab.HostAddr, netlab.HostAddr6}, []string{netlab.OutsideAddr, netlab.OutsideAddr6}
	times := []struct {
		when  string
		first int // who speaks then
	}{
		{"while nobody is there, the client", 0},
		{"while nobody is there, the server", 1},
		{"after kill -9, the client", 0},
		{"after kill -9, the server", 1},
		{"after a stop, the client", 0},
		{"after a stop, the server", 1},
	}
	all := make([][]*quietConn, len(times))
	few := make([][]*quietConn, len(times)) // of few words
	rows, more := 0, 0
	for family := range 2 {
		for _, kind := range []struct {
			what   string
			from   *netlab.NS
			to     string
			routed bool
		}{
			{"bridged", a, join(bAt[family], port), false},
			{"host to container", r.world.Host, join(aAt[family], port), false},
			{"container to host", a, join(gateways[family], port), false},
			{"masqueraded", a, join(outside[family], port), true},
			{"published", r.world.Outside, join(host[family], "7080"), true},
			{"hairpin", b, join(host[family], "7080"), true},
			{"between networks", c, join(host[family], "7080"), true},
		} {
			for i := range times {
				begin := func(words int) *quietConn {
					conn := q.open(t, fmt.Sprintf("%s, %s, %d words", kind.what, kind.to, words), kind.from, kind.to)
					for n := range words {
						if err := conn.say(n & 1); err != nil {
							t.Fatalf("%s: %v", conn.what, err)
						}
					}
					return conn
				}
				all[i] = append(all[i], begin(60))
				rows += 2
				if kind.routed {
					few[i] = append(few[i], begin(2))
					more += 2
				}
			}
		}
	}
	eventually(t, "the kernel carries all of them", func() bool {
		for _, list := range all {
			for _, conn := range list {
				for from := range 2 {
					if err := conn.say(from); err != nil {
						t.Fatalf("%s: %v", conn.what, err)
					}
				}
			}
		}
		f := r.stats().Flows // those of few words have rows already, or get some
		return f.Active >= rows && f.Rows >= rows+more
	})
	time.Sleep(8 * time.Second) // that they are quiet for is the test
	speak := func(those ...int) {
		t.Helper()
		var wg sync.WaitGroup
		for _, i := range those {
			for _, conn := range slices.Concat(all[i], few[i]) {
				wg.Go(func() {
					for _, from := range []int{times[i].first, 1 - times[i].first} {
						if err := conn.say(from); err != nil {
							t.Errorf("%s, %s speaks first: %v", conn.what, times[i].when, err)
							return
						}
					}
				})
			}
		}
		wg.Wait()
	}
	release := r.holdTAPs()
	defer release()
	r.kill()
	speak(0, 1)
	release()
	r.start()
	speak(2, 3)
	r.stop()
	r.start()
	speak(4, 5)
	if n := r.stats().Flows.Active; n < rows {
		t.Errorf("%d rows carry, of %d", n, rows)
	}
}
