package names

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// lab is two networks: web and db are in shop, db and mail in back, which is internal. cache is a
// service of two, and c.back is called as a name of network back could be.
func lab() *Zone {
	z := new(Zone)
	z.PutContainer(Container{ID: "w", Name: "Web", Names: []string{"0123456789ab"}, Places: []Place{{Network: "shop-id", Addrs: []netip.Addr{addr("10.1.0.2"), addr("fd01::2")}}}})
	z.PutNetwork(Network{ID: "shop-id", Name: "shop", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd01::/64")}, Gateways: []netip.Addr{addr("10.1.0.1"), addr("fd01::1")}})
	z.PutNetwork(Network{ID: "back-id", Name: "back", Internal: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")}, Gateways: []netip.Addr{addr("10.2.0.1")}})
	z.PutContainer(Container{ID: "d", Name: "db", Services: []string{"cache"}, Places: []Place{{Network: "shop-id", Addrs: []netip.Addr{addr("10.1.0.3"), addr("fd01::3")}}, {Network: "back-id", Addrs: []netip.Addr{addr("10.2.0.3")}}}})
	z.PutContainer(Container{ID: "m", Name: "mail", Services: []string{"web"}, Places: []Place{{Network: "back-id", Addrs: []netip.Addr{addr("10.2.0.4")}}}})
	z.PutContainer(Container{ID: "e", Name: "cache2", Services: []string{"cache", "web"}, Places: []Place{{Network: "shop-id", Addrs: []netip.Addr{addr("10.1.0.5")}}}})
	z.PutContainer(Container{ID: "c", Name: "mail.back", Places: []Place{{Network: "shop-id", Addrs: []netip.Addr{addr("10.1.0.6")}}}})
	return z
}

func TestWhoIsToldWhat(t *testing.T) {
	z := lab()
	z.DropContainer("none")
	for _, tc := range []struct {
		asker, gateway, name string
		kind                 Kind
		want                 string // addresses, or the name
	}{
		{"10.1.0.2", "10.1.0.1", "db", Here, "10.1.0.3 fd01::3"}, // of the network that both are in
		{"10.1.0.2", "10.2.0.1", "db", Here, "10.1.0.3 fd01::3"}, // whichever gateway it asks
		{"fd01::2", "fd01::1", "DB", Here, "10.1.0.3 fd01::3"},
		{"10.2.0.4", "10.2.0.1", "db", Here, "10.2.0.3"},
		{"10.1.0.3", "10.1.0.1", "db", Here, "10.1.0.3 fd01::3 10.2.0.3"},
		{"10.1.0.3", "10.2.0.1", "db", Here, "10.2.0.3 10.1.0.3 fd01::3"}, // where it asks first
		{"10.1.0.2", "10.1.0.1", "mail", Outside, ""},                     // in no network of the asker's
		{"10.2.0.4", "10.2.0.1", "cache2", Nowhere, ""},                   // nor asked outside from an internal one
		{"10.1.0.2", "10.1.0.1", "web", Here, "10.1.0.2 fd01::2"},         // a container shadows the service
		{"10.2.0.4", "10.2.0.1", "web", Here, "10.2.0.4"},                 // which is one where there is no such container
		{"10.1.0.2", "10.1.0.1", "0123456789ab", Here, "10.1.0.2 fd01::2"},
		{"10.1.0.2", "10.1.0.1", "db.shop", Here, "10.1.0.3 fd01::3"},
		{"10.1.0.3", "10.1.0.1", "db.back", Here, "10.2.0.3"},
		{"10.1.0.2", "10.1.0.1", "db.back", Outside, ""},
		{"10.1.0.3", "10.1.0.1", "mail.back", Here, "10.1.0.6"}, // the exact name goes first
		{"10.2.0.4", "10.2.0.1", "mail.back", Here, "10.2.0.4"},
		{"10.1.0.2", "10.1.0.1", "3.0.1.10.in-addr.arpa", Here, "db.shop"},
		{"10.1.0.2", "10.1.0.1", "3.0.2.10.in-addr.arpa", Nowhere, ""}, // of a network it is not in, and no resolver's affair
		{"10.1.0.2", "10.1.0.1", "8.8.8.8.in-addr.arpa", Outside, ""},
		{"10.2.0.4", "10.2.0.1", "8.8.8.8.in-addr.arpa", Nowhere, ""},
		{"10.1.0.2", "10.1.0.1", "3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.d.f.ip6.arpa", Here, "db.shop"},
		{"10.1.0.2", "10.1.0.1", "host.docker.internal", Here, "10.1.0.1 fd01::1"},
		{"10.2.0.4", "10.2.0.1", "host.containers.internal", Here, "10.2.0.1"},
		{"10.1.0.99", "10.1.0.1", "db", Here, "10.1.0.3 fd01::3"}, // behind a port without guard
		{"10.9.0.9", "10.1.0.1", "db", Refused, ""},
		{"10.1.0.2", "10.1.0.1", "example.org", Outside, ""},
		{"10.1.0.2", "10.1.0.1", "", Outside, ""},
	} {
		a := z.Answer(Question{addr(tc.asker), addr(tc.gateway), tc.name})
		got := a.Name
		if got == "" {
			got = strings.Trim(fmt.Sprint(a.Addrs), "[]")
		}
		if a.Kind != tc.kind || got != tc.want {
			t.Errorf("%s asks %s for %q: %d %q, want %d %q", tc.asker, tc.gateway, tc.name, a.Kind, got, tc.kind, tc.want)
		}
	}
}

// What several have is told in another order each time, and of the network asked first.
func TestServiceIsShuffled(t *testing.T) {
	z := lab()
	first := make(map[netip.Addr]bool)
	for range 200 {
		a := z.Answer(Question{addr("10.1.0.2"), addr("10.1.0.1"), "cache"})
		if len(a.Addrs) != 3 || slices.Contains(a.Addrs, addr("10.2.0.3")) {
			t.Fatalf("cache has %v", a.Addrs)
		}
		first[a.Addrs[0]] = true
	}
	if len(first) != 3 {
		t.Errorf("first of 200 answers are %v, want each of the three", first)
	}
}

// A name stays inside when its container has gone, in the network that it was in.
func TestGoneNamesStayInside(t *testing.T) {
	z := lab()
	z.DropContainer("d")
	for _, name := range []string{"db", "db.shop", "cache.back"} {
		if a := z.Answer(Question{addr("10.1.0.2"), addr("10.1.0.1"), name}); name == "cache.back" != (a.Kind == Outside) || a.Kind == Here {
			t.Errorf("%s, gone, is %d", name, a.Kind)
		}
	}
	for i := range 3 * mostGone {
		z.PutContainer(Container{ID: "x", Name: fmt.Sprint("x", i), Places: []Place{{Network: "shop-id"}}})
	}
	if n := z.networks["shop-id"]; len(n.gone) > mostGone || len(n.order) > mostGone {
		t.Errorf("%d names are remembered, want at most %d", len(n.gone), mostGone)
	}
}

func TestNamesOff(t *testing.T) {
	z := lab()
	n := z.networks["shop-id"].Network
	n.Off = true
	z.PutNetwork(n)
	if a := z.Answer(Question{addr("10.1.0.2"), addr("10.1.0.1"), "db"}); a.Kind != Refused {
		t.Errorf("a network without names answers: %+v", a)
	}
	if a := z.Answer(Question{addr("10.1.0.3"), addr("10.2.0.1"), "web"}); a.Kind != Here || !slices.Equal(a.Addrs, []netip.Addr{addr("10.2.0.4")}) {
		t.Errorf("web is %+v, want that of the other network", a)
	}
}

// The zone answers what one made of nothing but what is there answers, whatever the order in which
// it was told. The reference looks at every container.
func TestZoneAgainstReference(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	z := new(Zone)
	nets := make(map[string]Network)
	cts := make(map[string]Container)
	name := func() string { return fmt.Sprint("n", r.IntN(6)) }
	for step := range 4000 {
		id := fmt.Sprint(r.IntN(6))
		switch r.IntN(5) {
		case 0:
			n := Network{ID: id, Name: "net" + id, Internal: r.IntN(3) == 0, Off: r.IntN(6) == 0, Gateways: []netip.Addr{netip.AddrFrom4([4]byte{10, id[0], 0, 1})}}
			nets[id] = n
			z.PutNetwork(n)
		case 1:
			z.DropContainer(id)
			delete(cts, id)
		case 2:
			if r.IntN(8) == 0 {
				z.DropNetwork(id)
				delete(nets, id)
			}
		default:
			ct := Container{ID: id, Name: name() + id, Services: []string{name(), name()}}
			for k := range 6 {
				if r.IntN(3) == 0 {
					ct.Places = append(ct.Places, Place{Network: fmt.Sprint(k), Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte('0' + k), 0, 10 + id[0] - '0'})}})
				}
			}
			cts[id] = ct
			z.PutContainer(ct)
		}
		for _, asker := range cts {
			for _, p := range asker.Places {
				ask := name()
				if r.IntN(2) == 0 {
					ask += fmt.Sprint(r.IntN(6))
				}
				got := z.Answer(Question{p.Addrs[0], netip.Addr{}, ask})
				want, here := reference(asker, ask, nets, cts)
				slices.SortFunc(got.Addrs, netip.Addr.Compare)
				if here != (got.Kind == Here) || !slices.Equal(got.Addrs, want) {
					t.Fatalf("step %d: %s is told of %s: %d %v, want %v", step, asker.Name, ask, got.Kind, got.Addrs, want)
				}
			}
		}
	}
}

func reference(asker Container, name string, nets map[string]Network, cts map[string]Container) (list []netip.Addr, here bool) {
	for _, called := range []func(c Container) bool{
		func(c Container) bool { return c.Name == name },
		func(c Container) bool { return c.Name != name && slices.Contains(c.Services, name) },
	} {
		for _, p := range asker.Places {
			n, ok := nets[p.Network]
			if !ok || n.Off {
				continue
			}
			for _, c := range cts {
				for _, q := range c.Places {
					if called(c) && q.Network == p.Network {
						list, here = append(list, q.Addrs...), true
					}
				}
			}
		}
		if here {
			break
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return list, here
}

// Whatever is asked, addresses of networks that the asker is not in are never told.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{"db", "db.back", "..", "3.0.2.10.in-addr.arpa", strings.Repeat("0.", 32) + "ip6.arpa", "\x00", "host.docker.internal", "a.b.c.shop"} {
		f.Add(s)
	}
	z := lab()
	f.Fuzz(func(t *testing.T, name string) {
		a := z.Answer(Question{addr("10.1.0.2"), addr("10.2.0.1"), name})
		for _, told := range a.Addrs {
			if !netip.MustParsePrefix("10.1.0.0/24").Contains(told) && !netip.MustParsePrefix("fd01::/64").Contains(told) {
				t.Errorf("%q is %v", name, a.Addrs)
			}
		}
		if strings.HasSuffix(a.Name, ".back") && a.Name != "mail.back" {
			t.Errorf("%q has the name %s", name, a.Name)
		}
	})
}

func BenchmarkAnswer(b *testing.B) {
	z := new(Zone)
	z.PutNetwork(Network{ID: "n", Name: "net", Gateways: []netip.Addr{addr("10.0.0.1")}})
	for i := range 2000 {
		z.PutContainer(Container{ID: fmt.Sprint(i), Name: fmt.Sprint("c", i), Places: []Place{{Network: "n", Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}}}})
	}
	q := Question{addr("10.0.1.1"), addr("10.0.0.1"), "c1234"}
	for b.Loop() {
		if a := z.Answer(q); len(a.Addrs) != 1 {
			b.Fatal(a)
		}
	}
}

// Names that a container alone knows go before all others, an alias is one in its network, and who is asked outside is the
// container's, or else the network's.
func TestOwnNames(t *testing.T) {
	z := lab()
	n := z.networks["back-id"].Network
	n.Internal, n.Servers = false, []netip.Addr{addr("192.0.2.2")}
	z.PutNetwork(n)
	z.PutContainer(Container{
		ID: "o", Name: "own", Servers: []netip.Addr{addr("192.0.2.3")}, Hosts: []Host{{"Db", addr("192.0.2.9")}, {"db", addr("2001:db8::9")}, {"up", netip.Addr{}}},
		Places: []Place{{Network: "shop-id", Addrs: []netip.Addr{addr("10.1.0.7")}, Aliases: []string{"Store"}}, {Network: "back-id", Addrs: []netip.Addr{addr("10.2.0.7")}, Aliases: []string{"vault", "own"}}},
	})
	for _, tc := range []struct{ asker, gateway, name, want string }{
		{"10.1.0.7", "10.1.0.1", "DB", "[192.0.2.9 2001:db8::9] []"},
		{"10.1.0.7", "10.2.0.1", "up", "[10.2.0.1] []"},
		{"10.1.0.2", "10.1.0.1", "up", "[] []"},
		{"10.1.0.2", "10.1.0.1", "store", "[10.1.0.7] []"},
		{"10.1.0.2", "10.1.0.1", "vault", "[] []"},
		{"10.2.0.4", "10.2.0.1", "vault", "[10.2.0.7] []"},
		{"10.2.0.4", "10.2.0.1", "own", "[10.2.0.7] []"},
		{"10.1.0.7", "10.2.0.1", "example.org", "[] [192.0.2.3]"},
		{"10.2.0.4", "10.2.0.1", "example.org", "[] [192.0.2.2]"},
		{"10.1.0.3", "10.1.0.1", "example.org", "[] [192.0.2.2]"}, // the one of its networks that has some
		{"10.1.0.2", "10.1.0.1", "example.org", "[] []"},
	} {
		a := z.Answer(Question{addr(tc.asker), addr(tc.gateway), tc.name})
		if got := fmt.Sprint(a.Addrs, " ", a.Servers); got != tc.want {
			t.Errorf("%s asks %s for %s: %s, want %s", tc.asker, tc.gateway, tc.name, got, tc.want)
		}
	}
	z.DropContainer("o")
	for name, want := range map[string]Kind{"store": Nowhere, "vault": Outside} {
		if a := z.Answer(Question{addr("10.1.0.2"), addr("10.1.0.1"), name}); a.Kind != want {
			t.Errorf("%s, gone, is %d, want %d", name, a.Kind, want)
		}
	}
}
