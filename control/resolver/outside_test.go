package resolver

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/vswitch/vswitch/control/names"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// A known answer is told again with less of its TTL, and when nobody answers any more as stale.
func TestCacheAndStale(t *testing.T) {
	labtest.Need(t)
	answer := atomic.Pointer[func(*dns.Msg) *dns.Msg]{}
	set := func(f func(*dns.Msg) *dns.Msg) { answer.Store(&f) }
	out := newOutside(t, func(q *dns.Msg) *dns.Msg { return (*answer.Load())(q) })
	set(says("192.0.2.7", 60))
	r := resolver(zone(), out)
	ask(t, r, web, "Example.org", dns.TypeA, true, nil)
	if m := ask(t, r, db, "eXample.org", dns.TypeA, true, nil); out.asked.Load() != 1 || len(m.Answer) != 1 || m.Answer[0].Header().Name != "eXample.org." {
		t.Errorf("asked %d times:\n%s", out.asked.Load(), m)
	}
	age := func(by time.Duration) {
		for _, k := range r.lookups.cache.entries {
			k.at, k.until, k.rest = k.at.Add(-by), k.until.Add(-by), k.rest.Add(-by)
		}
	}
	age(50 * time.Second)
	if m := ask(t, r, web, "example.org", dns.TypeA, true, nil); m.Answer[0].Header().Ttl != 10 || out.asked.Load() != 1 {
		t.Errorf("after 50 of 60 s:\n%s", m)
	}
	age(50 * time.Second)
	set(silent)
	for range 2 { // the second time nobody is asked
		if m := ask(t, r, web, "example.org", dns.TypeA, true, nil); len(m.Answer) != 1 || m.Answer[0].Header().Ttl != staleTTL || out.asked.Load() != 2 {
			t.Errorf("stale, asked %d times:\n%s", out.asked.Load(), m)
		}
	}
	age(restFor)
	set(says("192.0.2.8", 60))
	if m := ask(t, r, web, "example.org", dns.TypeA, true, nil); m.Answer[0].(*dns.A).A.String() != "192.0.2.8" {
		t.Errorf("when it answers again:\n%s", m)
	}
	set(code(dns.RcodeNameError))
	before := out.asked.Load()
	ask(t, r, web, "nosuch.example", dns.TypeA, true, nil)
	ask(t, r, web, "nosuch.example", dns.TypeA, true, nil) // no SOA, so it is not kept
	if n := out.asked.Load() - before; n != 2 {
		t.Errorf("a name that is not there was asked for %d times, want 2", n)
	}
}

// Who has name servers of its own is answered by these, and others are not told what they said.
func TestOwnServers(t *testing.T) {
	labtest.Need(t)
	out := newOutside(t, says("192.0.2.7", 60))
	z := zone()
	z.PutContainer(names.Container{ID: "w", Name: "web", Servers: []netip.Addr{netip.MustParseAddr("127.0.0.53")}, Places: []names.Place{{Network: "n", Addrs: []netip.Addr{web}}}})
	r := resolver(z, out)
	pc, err := net.ListenPacket("udp", "127.0.0.53:53")
	if err != nil {
		t.Fatal(err)
	}
	own := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { w.WriteMsg(says("192.0.2.8", 60)(q)) })}
	go own.ActivateAndServe()
	defer own.Shutdown()
	for asker, want := range map[netip.Addr]string{web: "192.0.2.8", db: "192.0.2.7"} {
		for range 2 { // the second time from the cache
			m := ask(t, r, asker, "example.org", dns.TypeA, true, nil)
			if len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != want {
				t.Errorf("%s is told\n%s\nwant %s", asker, m, want)
			}
		}
	}
	if s := r.Stats().Servers; len(s) != 2 || s[1].Addr != "127.0.0.53" || s[1].Asked != 1 {
		t.Errorf("servers are %+v", s)
	}
}

// A long answer comes by TCP, and who asks by UDP is told to do so, too.
func TestLongAnswer(t *testing.T) {
	labtest.Need(t)
	out := newOutside(t, func(q *dns.Msg) *dns.Msg {
		r := new(dns.Msg)
		r.SetReply(q)
		for i := range 100 {
			rr, _ := dns.NewRR(fmt.Sprintf("%s 60 A 192.0.2.%d", q.Question[0].Name, i))
			r.Answer = append(r.Answer, rr)
		}
		return r
	})
	r := resolver(zone(), out)
	if m := ask(t, r, web, "long.example", dns.TypeA, false, nil); len(m.Answer) != 100 || m.Truncated {
		t.Errorf("by TCP %d addresses", len(m.Answer))
	}
	if m := ask(t, r, web, "long.example", dns.TypeA, true, nil); !m.Truncated {
		t.Errorf("by UDP %d addresses, whole", len(m.Answer))
	}
}

// Our own question that comes back, because the host asks a container that asks us, ends.
func TestLoopEnds(t *testing.T) {
	labtest.Need(t)
	var asked atomic.Pointer[Resolver]
	out := newOutside(t, func(q *dns.Msg) *dns.Msg { // a forwarder in a container
		m := ask(t, asked.Load(), db, q.Question[0].Name, q.Question[0].Qtype, true, nil)
		m.Id = q.Id
		return m
	})
	r := resolver(zone(), out)
	asked.Store(r)
	began := time.Now()
	m := ask(t, r, web, "looping.example", dns.TypeA, true, nil)
	if m.Rcode == dns.RcodeSuccess || r.Stats().Looped == 0 {
		t.Errorf("looped %d times:\n%s", r.Stats().Looped, m)
	}
	if time.Since(began) >= budget {
		t.Error("the loop was not recognised, it ran out")
	}
}

// A container that asks for more than there is room for takes its own places, not its neighbours'.
func TestShares(t *testing.T) {
	labtest.Need(t)
	q := newQueue(64 << 10)
	for i := range 4000 {
		q.put("flood", question{bytes: make([]byte, 40), family: i})
	}
	q.put("neighbour", question{bytes: make([]byte, 40), family: -1})
	for i := 0; ; i++ {
		d := q.next()
		if i > 2 {
			t.Fatal("the neighbour waits behind the flood")
		}
		if d.family == -1 {
			break
		}
	}
	if q.dropped() == 0 {
		t.Error("nothing of the flood is lost")
	}
	c := newCache(100)
	one := new(dns.Msg)
	one.SetQuestion("one.example.", dns.TypeA)
	keep := func(name, tenant string) *query {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeA)
		k := &query{Msg: m}
		c.put(k, says("192.0.2.7", 60)(m), tenant, time.Now())
		return k
	}
	mine := keep("mine.example.", "neighbour")
	for i := range 1000 {
		keep(fmt.Sprintf("x%d.example.", i), "flood")
	}
	if _, ok := c.get(mine, time.Now()); !ok {
		t.Error("a flood of names has evicted a neighbour's")
	}
	if n, _ := c.stats(); n > 100 {
		t.Errorf("%d entries of 100", n)
	}
}

// Who sends slowly, stops in the middle or reads nothing takes no place from others for long.
func TestC13SlowTCP(t *testing.T) {
	labtest.Need(t)
	z := zone()
	z.PutContainer(names.Container{ID: "t", Name: "tcp", Places: []names.Place{{Network: "n", Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}}})
	z.PutContainer(names.Container{ID: "u", Name: "other", Places: []names.Place{{Network: "n", Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.2")}}}})
	r := resolver(z)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go r.serveTCP(l)
	defer l.Close()
	var slow []net.Conn
	for range 2 * mostConns {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte{0})
		slow = append(slow, c)
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	c, err := d.DialContext(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	q := new(dns.Msg)
	q.SetQuestion("web.", dns.TypeA)
	b, _ := q.Pack()
	for range 3 { // several of a connection, and one in two pieces
		c.SetDeadline(time.Now().Add(10 * time.Second))
		c.Write(binary.BigEndian.AppendUint16(nil, uint16(len(b))))
		c.Write(b)
		var size [2]byte
		if _, err := c.Read(size[:]); err != nil {
			t.Fatalf("a neighbour of %d slow connections: %v", len(slow), err)
		}
		if _, err := c.Read(make([]byte, binary.BigEndian.Uint16(size[:]))); err != nil {
			t.Fatal(err)
		}
	}
	ended := 0
	var b1 [1]byte
	for _, c := range slow {
		c.SetReadDeadline(time.Now().Add(2 * questTime))
		if _, err := c.Read(b1[:]); err != nil && !strings.Contains(err.Error(), "timeout") {
			ended++
		}
		c.Close()
	}
	if ended != len(slow) {
		t.Errorf("%d of %d connections on which half a question came have ended", ended, len(slow))
	}
}

func TestNameservers(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "[127.0.0.1:53]",
		"nameserver 127.0.0.53\nsearch x": "[127.0.0.53:53]",
		"# nameserver 192.0.2.1\nnameserver 192.0.2.2 # two\n nameserver\t2001:db8::1\nnameserver nonsense\nnameserver 192.0.2.2": "[192.0.2.2:53 [2001:db8::1]:53]",
		"nameserver fe80::1%eth0": "[[fe80::1%eth0]:53]",
	} {
		if got := fmt.Sprint(nameservers(text)); got != want {
			t.Errorf("%q names %s, want %s", text, got, want)
		}
	}
}

// FuzzAnswer: whatever comes, the answer is one to the question, or none, and no longer than the asker takes.
func FuzzAnswer(f *testing.F) {
	q := new(dns.Msg)
	q.SetQuestion("web.", dns.TypeA)
	b, _ := q.Pack()
	f.Add(b)
	q.SetEdns0(4096, true)
	b, _ = q.Pack()
	f.Add(b)
	f.Add([]byte{})
	f.Add(append([]byte{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, 0xc0, 12, 0, 1, 0, 1))
	f.Add([]byte{0, 1, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	r := New(Config{Zone: zone(), servers: func(time.Time) []netip.AddrPort { return nil }})
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		r.answer(b, asker{web, gateway}, true, false, func(out []byte) {
			n++
			if len(out) > ednsSize || len(out) < headerLen || out[2]&0x80 == 0 || out[0] != b[0] || out[1] != b[1] {
				t.Errorf("%x is answered by %x", b, out)
			}
		})
		if n > 1 || n == 1 && b[2]&0x80 != 0 {
			t.Errorf("%x: %d answers", b, n)
		}
	})
}

// BenchmarkAnswer is a neighbour's name, from datagram to datagram; Bare is the same without anybody who knows it.
func BenchmarkAnswer(b *testing.B) {
	r := New(Config{Zone: zone(), servers: func(time.Time) []netip.AddrPort { return nil }})
	q := new(dns.Msg)
	q.SetQuestion("web.", dns.TypeA)
	bytes, _ := q.Pack()
	b.Run("Resolver", func(b *testing.B) {
		for b.Loop() {
			r.answer(bytes, asker{web, gateway}, true, false, func([]byte) {})
		}
	})
	b.Run("Bare", func(b *testing.B) {
		for b.Loop() {
			m := new(dns.Msg)
			m.Unpack(bytes)
			a := new(dns.Msg)
			a.SetReply(m)
			a.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: localTTL}, A: web.AsSlice()}}
			a.Pack()
		}
	})
}
