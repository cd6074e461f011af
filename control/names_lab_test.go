package control

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// namesRig is a daemon with a network of both families, and containers web and db there.
type namesRig struct {
	*rig
	gateways []string
	web, db  *netlab.NS
}

func newNamesRig(t *testing.T, change ...func(*api.NetworkCreate)) *namesRig {
	r := &namesRig{rig: newRig(t)}
	r.start()
	for _, s := range r.createDual("shop", change...).Subnets {
		r.gateways = append(r.gateways, s.Gateway)
	}
	r.web, _ = r.attach("web", onNetwork("shop"))
	r.db, _ = r.attach("db", onNetwork("shop"))
	return r
}

// ask asks at an address for a name, and returns what was said: addresses or names, or else the
// code; "" when nobody answers.
func (r *namesRig) ask(from *netlab.NS, network, at, name string, qtype uint16) string {
	r.t.Helper()
	c, err := from.Dial(network, net.JoinHostPort(at, "53"), 2*time.Second)
	if err != nil {
		return ""
	}
	defer c.Close()
	return askBy(c, name, qtype, time.Second)
}

func askBy(c net.Conn, name string, qtype uint16, patience time.Duration) string {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), qtype)
	by := &dns.Conn{Conn: c}
	c.SetDeadline(time.Now().Add(patience))
	if by.WriteMsg(q) != nil {
		return ""
	}
	m, err := by.ReadMsg()
	if err != nil || m.Id != q.Id {
		return ""
	}
	if len(m.Answer) == 0 {
		return dns.RcodeToString[m.Rcode]
	}
	var list []string
	for _, rr := range m.Answer {
		list = append(list, strings.Fields(rr.String())[4])
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// soon asks until the answer is the wanted one.
func (r *namesRig) soon(from *netlab.NS, network, at, name, want string) {
	r.t.Helper()
	var got string
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if got = r.ask(from, network, at, name, dns.TypeA); got == want {
			return
		}
		if time.Now().After(end) {
			r.t.Errorf("%s by %s at %s for %s is %q, want %q", name, network, at, from.Name(), got, want)
			return
		}
	}
}

// says answers everything with an address, on the host.
func (r *namesRig) says(at, addr string) (stop func()) {
	r.t.Helper()
	pc, err := r.world.Host.ListenPacket("udp", net.JoinHostPort(at, "53"))
	if err != nil {
		r.t.Fatal(err)
	}
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		rr, _ := dns.NewRR(q.Question[0].Name + " 60 A " + addr)
		m.Answer = []dns.RR{rr}
		w.WriteMsg(m)
	})}
	go s.ActivateAndServe()
	stop = func() { pc.Close() }
	r.t.Cleanup(stop)
	return stop
}

func (r *namesRig) addrs(name string) (v4, v6 string) {
	ct, err := r.Container(r.t.Context(), name)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, s := range ct.Endpoints[0].Addresses {
		if p := netip.MustParsePrefix(s).Addr(); p.Is4() {
			v4 = p.String()
		} else {
			v6 = p.String()
		}
	}
	return v4, v6
}

// Names are answered at the gateways, by both families and protocols, also where containers may
// not reach the host otherwise.
func TestNamesAtTheGateway(t *testing.T) {
	no := false
	r := newNamesRig(t, func(in *api.NetworkCreate) { in.HostAccess = &no })
	db4, db6 := r.addrs("db")
	for _, at := range r.gateways {
		for _, network := range []string{"udp", "tcp"} {
			for _, tc := range []struct {
				name  string
				qtype uint16
				want  string
			}{
				{"db", dns.TypeA, db4}, {"DB.shop", dns.TypeAAAA, db6}, {"db", dns.TypeMX, "NOERROR"}, {reverse(t, db4), dns.TypePTR, "db.shop."}, {reverse(t, db6), dns.TypePTR, "db.shop."},
			} {
				if got := r.ask(r.web, network, at, tc.name, tc.qtype); got != tc.want {
					t.Errorf("%s of type %s by %s at %s is %q, want %q", tc.name, dns.TypeToString[tc.qtype], network, at, got, tc.want)
				}
			}
		}
	}
	if c, err := r.web.Dial("tcp", net.JoinHostPort(r.gateways[0], "22"), time.Second); err == nil {
		c.Close()
		t.Error("another port of the host is reached from a network without access to it")
	}
	// What changes is told at once.
	if err := r.Detach(t.Context(), "db"); err != nil {
		t.Fatal(err)
	}
	r.soon(r.web, "udp", r.gateways[0], "db", "NXDOMAIN")
	off := true
	if _, err := r.UpdateNetwork(t.Context(), "shop", api.NetworkUpdate{DisableDNS: &off}); err != nil {
		t.Fatal(err)
	}
	r.soon(r.web, "udp", r.gateways[0], "web", "")
	off = false
	if _, err := r.UpdateNetwork(t.Context(), "shop", api.NetworkUpdate{DisableDNS: &off}); err != nil {
		t.Fatal(err)
	}
	web4, _ := r.addrs("web")
	r.soon(r.web, "udp", r.gateways[0], "web", web4)
}

func reverse(t *testing.T, a string) string {
	name, err := dns.ReverseAddr(a)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// A name server of the host keeps what it had: the host's own questions, and everything at an address that it has
// bound itself.
func TestNameServersOfTheHostKeepTheirPort(t *testing.T) {
	r := newNamesRig(t)
	db4, _ := r.addrs("db")
	gw := r.gateways[0]
	stop := r.says("0.0.0.0", "192.0.2.53")
	r.soon(r.web, "udp", gw, "db", db4)
	for _, at := range []string{gw, "127.0.0.1", netlab.HostAddr} {
		r.soon(r.world.Host, "udp", at, "db", "192.0.2.53")
	}
	r.soon(r.world.Outside, "udp", netlab.HostAddr, "db", "192.0.2.53")
	r.soon(r.web, "udp", netlab.HostAddr, "db", "192.0.2.53") // no gateway
	stop()
	// Bound to exactly the gateway, it has that.
	release := r.says(gw, "192.0.2.54")
	r.soon(r.web, "udp", gw, "db", "192.0.2.54")
	r.soon(r.web, "tcp", gw, "db", db4)
	if !strings.Contains(r.log.String(), "port 53 of gateway "+gw+" is bound by") {
		t.Error("nobody is told whose the port is")
	}
	release()
	r.soon(r.web, "udp", gw, "db", db4)
	// A name server in a container has the port where it is published, and not at gateways.
	in := onNetwork("shop")
	in.Publish = []string{"53:53/udp"}
	pihole, _ := r.attach("pihole", in)
	pc, err := pihole.ListenPacket("udp", ":53")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	go (&dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetRcode(q, dns.RcodeRefused)
		w.WriteMsg(m)
	})}).ActivateAndServe()
	r.soon(r.world.Outside, "udp", netlab.HostAddr, "db", "REFUSED")
	r.soon(r.world.Host, "udp", "127.0.0.1", "db", "REFUSED")
	r.soon(r.web, "udp", gw, "db", db4)
	r.soon(pihole, "udp", gw, "db", db4)
}

// The resolver goes on while the daemon is away, with who has a flow, and the next daemon has one of its own.
func TestNamesWhileTheDaemonIsAway(t *testing.T) {
	r := newNamesRig(t)
	db4, _ := r.addrs("db")
	c, err := r.web.Dial("udp", net.JoinHostPort(r.gateways[0], "53"), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	eventually(t, "db is answered", func() bool { return askBy(c, "db", dns.TypeA, time.Second) == db4 })
	for range 60 { // so that the kernel carries the flow
		askBy(c, "db", dns.TypeA, time.Second)
	}
	time.Sleep(200 * time.Millisecond)
	r.kill()
	if got := askBy(c, "db", dns.TypeA, time.Second); got != db4 {
		t.Errorf("while no daemon is there db is %q, want %s", got, db4)
	}
	r.start()
	r.soon(r.web, "tcp", r.gateways[0], "db", db4)
	if got := askBy(c, "db", dns.TypeA, time.Second); got != db4 {
		t.Errorf("by the next daemon's resolver db is %q, want %s", got, db4)
	}
}

// A container's name servers are asked for it, or else its network's, and its own names are told to it alone; also by the next daemon.
func TestNamesOfOneContainer(t *testing.T) {
	r := newNamesRig(t)
	gw := r.gateways[0]
	r.says("127.0.0.98", "192.0.2.98")
	r.says("127.0.0.99", "192.0.2.99")
	in := onNetwork("shop")
	in.Hostname, in.Networks[0].Aliases = "front", []string{"store"}
	in.DNS = &api.DNS{Servers: []string{"127.0.0.99"}, Hosts: []string{"up:host-gateway", "far:192.0.2.1"}}
	own, _ := r.attach("own", in)
	if _, err := r.UpdateNetwork(t.Context(), "shop", api.NetworkUpdate{DNSAdd: []string{"127.0.0.98"}}); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		at, _ := r.addrs("own")
		for _, network := range []string{"udp", "tcp"} {
			r.soon(r.db, network, gw, "store", at)
			r.soon(r.db, network, gw, "front.shop", at)
			r.soon(own, network, gw, "up", gw)
			r.soon(own, network, gw, "far", "192.0.2.1")
			r.soon(own, network, gw, "example.org", "192.0.2.99")
			r.soon(r.db, network, gw, "example.org", "192.0.2.98")
			r.soon(r.db, network, gw, "far", "192.0.2.98") // which is nobody's here
		}
	}
	check()
	r.kill()
	r.start()
	check()
	n, err := r.UpdateNetwork(t.Context(), "shop", api.NetworkUpdate{DNSDrop: []string{"127.0.0.98"}})
	if err != nil || len(n.DNSServers) != 0 {
		t.Errorf("%v, %v", n.DNSServers, err)
	}
	if _, err := r.UpdateNetwork(t.Context(), "shop", api.NetworkUpdate{DNSDrop: []string{"127.0.0.98"}}); err == nil {
		t.Error("a name server that the network has not is dropped")
	}
}

// A runtime that attaches network by network names its container in each as it is called there.
func TestNamesNetworkByNetwork(t *testing.T) {
	r := newNamesRig(t)
	if _, err := r.CreateNetwork(t.Context(), api.NetworkCreate{Name: "back", Subnet: "10.77.0.0/24"}); err != nil {
		t.Fatal(err)
	}
	inBack, _ := r.attach("mail", onNetwork("back"))
	own := labtest.New(t, "own")
	for network, alias := range map[string]string{"shop": "store", "back": "vault"} {
		in := api.Attach{Name: "own", Runtime: api.RuntimePodman, RuntimeID: "f00", Netns: own.Path(), Networks: []api.Connect{{Network: network, Aliases: []string{alias}}}}
		if _, err := r.Attach(t.Context(), in); err != nil {
			t.Fatal(err)
		}
	}
	at := map[string]string{}
	ct, err := r.Container(t.Context(), "own")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range ct.Endpoints {
		at[e.Network] = netip.MustParsePrefix(e.Addresses[0]).Addr().String()
	}
	r.soon(r.web, "udp", r.gateways[0], "store", at["shop"])
	r.soon(inBack, "udp", "10.77.0.1", "vault", at["back"])
	r.soon(inBack, "udp", "10.77.0.1", "own", at["back"])
	if got := r.ask(inBack, "udp", "10.77.0.1", "store", dns.TypeA); got == at["back"] {
		t.Errorf("an alias in another network is %s", got)
	}
}
