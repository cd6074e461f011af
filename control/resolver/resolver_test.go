package resolver

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/names"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestMain(m *testing.M) {
	labtest.Enter()
	if err := loopback(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// loopback sets lo up, of the lab's own namespace.
func loopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}

var (
	web     = netip.MustParseAddr("10.1.0.2")
	db      = netip.MustParseAddr("10.1.0.3")
	gateway = netip.MustParseAddr("10.1.0.1")
)

// zone is a network of web and db, the second with IPv4 alone, and an internal one of lone.
func zone() *names.Zone {
	z := new(names.Zone)
	z.PutNetwork(names.Network{ID: "n", Name: "shop", Gateways: []netip.Addr{gateway}, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}})
	z.PutNetwork(names.Network{ID: "i", Name: "in", Internal: true, Gateways: []netip.Addr{netip.MustParseAddr("10.2.0.1")}})
	z.PutContainer(names.Container{ID: "w", Name: "web", Places: []names.Place{{Network: "n", Addrs: []netip.Addr{web, netip.MustParseAddr("fd01::2")}}}})
	z.PutContainer(names.Container{ID: "d", Name: "db", Places: []names.Place{{Network: "n", Addrs: []netip.Addr{db}}}})
	z.PutContainer(names.Container{ID: "l", Name: "lone", Places: []names.Place{{Network: "i", Addrs: []netip.Addr{netip.MustParseAddr("10.2.0.2")}}}})
	return z
}

// outside is a name server. What it says is from answer, nil: nothing.
type outside struct {
	addr   netip.AddrPort
	asked  atomic.Int32
	names  sync.Map // that it was asked for, as written
	answer func(q *dns.Msg) *dns.Msg
}

func newOutside(t testing.TB, answer func(q *dns.Msg) *dns.Msg) *outside {
	t.Helper()
	o := &outside{answer: answer}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.addr = pc.LocalAddr().(*net.UDPAddr).AddrPort()
	l, err := net.Listen("tcp", pc.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	h := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		o.asked.Add(1)
		o.names.Store(strings.ToLower(q.Question[0].Name), q.Question[0].Name)
		if r := o.answer(q); r != nil {
			if _, udp := w.LocalAddr().(*net.UDPAddr); udp && r.Len() > 512 {
				r.Truncate(512)
			}
			w.WriteMsg(r)
		}
	})
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: h}, {Listener: l, Handler: h}} {
		go s.ActivateAndServe()
		t.Cleanup(func() { s.Shutdown() })
	}
	return o
}

// says answers with an address of a TTL.
func says(addr string, ttl int) func(q *dns.Msg) *dns.Msg {
	return func(q *dns.Msg) *dns.Msg {
		r := new(dns.Msg)
		r.SetReply(q)
		rr, _ := dns.NewRR(fmt.Sprintf("%s %d A %s", q.Question[0].Name, ttl, addr))
		r.Answer = []dns.RR{rr}
		return r
	}
}

func code(rcode int) func(q *dns.Msg) *dns.Msg {
	return func(q *dns.Msg) *dns.Msg {
		r := new(dns.Msg)
		r.SetRcode(q, rcode)
		return r
	}
}

func silent(*dns.Msg) *dns.Msg { return nil }

func resolver(z *names.Zone, servers ...*outside) *Resolver {
	return New(Config{Zone: z, servers: func(time.Time) (list []netip.AddrPort) {
		for _, s := range servers {
			list = append(list, s.addr)
		}
		return list
	}})
}

// ask asks as a container does; change, unless it is nil, makes another question of it.
func ask(t testing.TB, r *Resolver, from netip.Addr, name string, qtype uint16, udp bool, change func(*dns.Msg)) *dns.Msg {
	t.Helper()
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), qtype)
	if change != nil {
		change(q)
	}
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var m *dns.Msg
	r.answer(b, asker{from, gateway}, udp, false, func(b []byte) {
		m = new(dns.Msg)
		if err := m.Unpack(b); err != nil {
			t.Fatal(err)
		}
	})
	if m != nil && m.Id != q.Id {
		t.Errorf("answer %d to question %d", m.Id, q.Id)
	}
	return m
}

func texts(m *dns.Msg) (list []string) {
	for _, rr := range m.Answer {
		list = append(list, strings.Join(strings.Fields(rr.String())[3:], " "))
	}
	return list
}

// Each family is answered: what a name does not have is nothing (NODATA), not no name, which musl and
// glibc take for the end of the other family too.
func TestLocalNames(t *testing.T) {
	labtest.Need(t)
	out := newOutside(t, code(dns.RcodeNameError))
	r := resolver(zone(), out)
	for _, tc := range []struct {
		name  string
		qtype uint16
		rcode int
		want  []string
	}{
		{"web", dns.TypeA, 0, []string{"A 10.1.0.2"}},
		{"WeB", dns.TypeAAAA, 0, []string{"AAAA fd01::2"}},
		{"db", dns.TypeAAAA, 0, nil},
		{"db.shop", dns.TypeA, 0, []string{"A 10.1.0.3"}},
		{"web", dns.TypeANY, 0, []string{"A 10.1.0.2", "AAAA fd01::2"}},
		{"web", dns.TypeMX, 0, nil},
		{"2.0.1.10.in-addr.arpa", dns.TypePTR, 0, []string{"PTR web.shop."}},
		{"2.0.1.10.in-addr.arpa", dns.TypeA, 0, nil},
		{"77.0.1.10.in-addr.arpa", dns.TypePTR, dns.RcodeNameError, nil},
	} {
		m := ask(t, r, web, tc.name, tc.qtype, true, nil)
		if m.Rcode != tc.rcode || !slices.Equal(texts(m), tc.want) || !m.RecursionAvailable || m.Question[0].Name != dns.Fqdn(tc.name) {
			t.Errorf("%s %s:\n%s", tc.name, dns.TypeToString[tc.qtype], m)
		}
	}
	if n := out.asked.Load(); n != 0 {
		t.Errorf("outside was asked %d times", n)
	}
	if m := ask(t, r, netip.MustParseAddr("192.0.2.9"), "web", dns.TypeA, true, nil); m.Rcode != dns.RcodeRefused {
		t.Errorf("who is in no network is answered:\n%s", m)
	}
}

func TestC12InternalNetworksAskNobody(t *testing.T) {
	labtest.Need(t)
	out := newOutside(t, says("192.0.2.7", 60))
	r := resolver(zone(), out)
	for _, name := range []string{"example.org", "web", "secret.attacker.example", "1.2.0.192.in-addr.arpa"} {
		if m := ask(t, r, netip.MustParseAddr("10.2.0.2"), name, dns.TypeA, true, nil); m.Rcode != dns.RcodeNameError {
			t.Errorf("%s:\n%s", name, m)
		}
	}
	if n := out.asked.Load(); n != 0 {
		t.Errorf("outside was asked %d times for a container of an internal network", n)
	}
	if m := ask(t, r, web, "example.org", dns.TypeA, true, nil); len(m.Answer) != 1 {
		t.Errorf("of another network:\n%s", m)
	}
}

func TestC14NamesOfContainersStayInside(t *testing.T) {
	labtest.Need(t)
	out := newOutside(t, says("192.0.2.7", 60))
	z := zone()
	r := resolver(z, out)
	ask(t, r, web, "db", dns.TypeA, true, nil)
	ask(t, r, web, "db", dns.TypeMX, true, nil)
	z.DropContainer("d")
	for _, name := range []string{"db", "db.shop"} {
		if m := ask(t, r, web, name, dns.TypeA, true, nil); m.Rcode != dns.RcodeNameError {
			t.Errorf("%s, which has gone:\n%s", name, m)
		}
	}
	if n := out.asked.Load(); n != 0 {
		t.Errorf("outside was asked %d times for names of containers", n)
	}
	if ask(t, r, web, "printer", dns.TypeA, true, nil); out.asked.Load() != 1 {
		t.Error("a single label that was nobody's is not asked outside")
	}
}

func TestEDNS(t *testing.T) {
	labtest.Need(t)
	z := zone()
	for i := range 80 {
		z.PutContainer(names.Container{ID: fmt.Sprint("m", i), Name: fmt.Sprint("m", i), Services: []string{"many"}, Places: []names.Place{{Network: "n", Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, 1, byte(i)})}}}})
	}
	r := resolver(z)
	edns := func(size uint16) func(*dns.Msg) { return func(m *dns.Msg) { m.SetEdns0(size, true) } }
	for _, tc := range []struct {
		udp    bool
		change func(*dns.Msg)
		most   int
		whole  bool
	}{{true, nil, 512, false}, {true, edns(100), 512, false}, {true, edns(900), 900, false}, {true, edns(65000), ednsSize, false}, {false, nil, 65535, true}} {
		m := ask(t, r, web, "many", dns.TypeA, tc.udp, tc.change)
		m.Compress = true
		if m.Len() > tc.most || m.Truncated == tc.whole || (len(m.Answer) == 80) != tc.whole || (m.IsEdns0() != nil) != (tc.change != nil) {
			t.Errorf("%+v: %d bytes, %d addresses, cut %v", tc, m.Len(), len(m.Answer), m.Truncated)
		}
	}
	if m := ask(t, r, web, "web", dns.TypeA, true, func(m *dns.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(3) }); m.Rcode != dns.RcodeBadVers {
		t.Errorf("EDNS of a version that is none:\n%s", m)
	}
}

// The first server that answers is enough; one that is dead costs a moment, and is told of.
func TestDeadServer(t *testing.T) {
	labtest.Need(t)
	deaf, alive := newOutside(t, silent), newOutside(t, says("192.0.2.7", 60))
	r := resolver(zone(), deaf, alive)
	var told []Server
	var mu sync.Mutex
	r.lookups.up.changed = func(s Server) { mu.Lock(); defer mu.Unlock(); told = append(told, s) }
	if m := ask(t, r, web, "example.org", dns.TypeA, true, nil); len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "192.0.2.7" {
		t.Errorf("with a dead server first:\n%s", m)
	}
	r = resolver(zone(), newOutside(t, code(dns.RcodeServerFailure)), alive)
	if m := ask(t, r, web, "example.net", dns.TypeA, true, nil); len(m.Answer) != 1 {
		t.Errorf("with a failing server first:\n%s", m)
	}
	only := resolver(zone(), deaf)
	only.lookups.up.changed = func(s Server) { mu.Lock(); defer mu.Unlock(); told = append(told, s) }
	for i := range dead {
		if m := ask(t, only, web, fmt.Sprint("gone", i, ".example"), dns.TypeA, true, nil); m.Rcode != dns.RcodeServerFailure {
			t.Errorf("nobody answers:\n%s", m)
		}
	}
	heard := func() bool { mu.Lock(); defer mu.Unlock(); return len(told) > 0 }
	for end := time.Now().Add(10 * time.Second); !heard() && time.Now().Before(end); {
		time.Sleep(time.Millisecond) // the last question is counted when its answer is overdue
	}
	mu.Lock()
	defer mu.Unlock()
	if len(told) != 1 || !told[0].Failing || told[0].Why == "" {
		t.Errorf("told of servers: %+v", told)
	}
	if s := only.Stats(); s.Failed != dead || len(s.Servers) != 1 || !s.Servers[0].Failing {
		t.Errorf("stats: %+v", s)
	}
}

// TestTold: whoever attaches a container may ask for its name at once: it is known as soon as it was told.
func TestTold(t *testing.T) {
	z := zone()
	r := New(Config{Zone: z, Told: func() {
		z.PutContainer(names.Container{ID: "new", Name: "new", Places: []names.Place{{Network: "n", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.9")}}}})
	}})
	m := ask(t, r, web, "new", dns.TypeA, true, nil)
	if len(m.Answer) != 1 || !strings.Contains(m.Answer[0].String(), "10.1.0.9") {
		t.Errorf("a container that has just come:\n%s", m)
	}
}
