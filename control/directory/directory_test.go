package directory

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane/frame"
)

func addrOf(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 88, byte(n >> 8), byte(n)}) }

// container has as many endpoints as it has numbers, each of them its port and address.
func container(id, name string, numbers ...int) Container {
	ct := Container{ID: id, Name: name, RuntimeID: "run-" + id, Ready: true}
	for i, n := range numbers {
		ct.Endpoints = append(ct.Endpoints, Endpoint{
			Network: "bridge", Ifname: fmt.Sprint("eth", i), Veth: fmt.Sprint("veth", n), Addrs: []netip.Addr{addrOf(n)}, Port: frame.PortID(n), Plugged: true,
		})
	}
	return ct
}

// Whatever the order of changes, the directory says what is so, and one that was read
// before goes on saying what was so.
func TestDirectorySaysWhatIsSo(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var l Live
	seen := make(map[frame.PortID]Port) // as a follower has it
	defer l.Follow(func(d *Directory, changed []frame.PortID) {
		for _, id := range changed {
			if p, ok := d.Port(id); ok {
				seen[id] = p
			} else {
				delete(seen, id)
			}
		}
	})()
	have := make(map[string]Container)
	check := func(d *Directory, have map[string]Container) {
		t.Helper()
		ports, addrs := 0, 0
		for id, ct := range have {
			if got, err := d.Container(ct.Name); err != nil || got.ID != id {
				t.Fatalf("container %s is %v, %v", ct.Name, got, err)
			}
			if got, err := d.Container(ct.RuntimeID); err != nil || got.ID != id {
				t.Fatalf("container %s is %v, %v", ct.RuntimeID, got, err)
			}
			for _, e := range ct.Endpoints {
				ports, addrs = ports+1, addrs+1
				if p, ok := d.Port(e.Port); !ok || p.Container != ct.Name || p.Owner != id || p.Name != e.Veth {
					t.Fatalf("port %d is %+v, want that of %s", e.Port, p, ct.Name)
				}
				if name, _ := d.Name(e.Addrs[0]); name != ct.Name {
					t.Fatalf("address %s is that of %q, want %s", e.Addrs[0], name, ct.Name)
				}
			}
		}
		if got := len(d.Ports(false)); got != ports {
			t.Fatalf("%d ports, want %d", got, ports)
		}
		for range d.Addrs() {
			addrs--
		}
		if addrs != 0 || d.containers.n != len(have) || d.names.n != len(have) {
			t.Fatalf("%d addresses too few, %d containers and %d names, want %d", addrs, d.containers.n, d.names.n, len(have))
		}
	}
	free := r.Perm(3000)
	next := 0
	number := func() int { n := free[next%len(free)] + 1; next++; return n }
	for step := range 2000 {
		id := fmt.Sprintf("%06d", r.IntN(200))
		old, at := l.Now(), make(map[string]Container)
		for k, v := range have {
			at[k] = v
		}
		ct, ok := have[id]
		switch {
		case !ok:
			ct = container(id, "c"+id, number())
		case r.IntN(3) == 0:
			l.DropContainer(id)
			delete(have, id)
			ct.ID = ""
		case r.IntN(2) == 0:
			ct.Name = fmt.Sprint("c", id, "-", step)
		default:
			n := number()
			ct.Endpoints = append(slices.Clone(ct.Endpoints[len(ct.Endpoints)/2:]), container(id, "", n).Endpoints...)
		}
		if ct.ID != "" {
			l.PutContainer(ct)
			have[id] = ct
		}
		if step%50 == 0 {
			check(old, at)
			check(l.Now(), have)
		}
	}
	check(l.Now(), have)
	for _, id := range l.Now().Ports(false) {
		if p, _ := l.Now().Port(id); seen[id] != p {
			t.Errorf("the follower has %+v at port %d, want %+v", seen[id], id, p)
		}
	}
	if len(seen) != len(l.Now().Ports(false)) {
		t.Errorf("the follower has %d ports, want %d", len(seen), len(l.Now().Ports(false)))
	}
}

func TestDirectoryFinds(t *testing.T) {
	var l Live
	l.PutContainer(container("abcdef12", "web", 1))
	l.PutContainer(container("abcdef34", "db", 2))
	coming := container("ffffff00", "coming", 3)
	coming.Ready = false
	l.PutContainer(coming)
	l.PutNetwork(Network{ID: "0123456789", Name: "bridge", TAP: "vs-0", Number: 7, Ready: true, Port: 9, Plugged: true, Subnets: []Subnet{{Gateway: addrOf(255)}}})
	l.SetHost(map[netip.Addr]bool{addrOf(500): true})
	l.PutUplink(10, "eth0")
	l.SetRevision(5)
	d := l.Now()
	for _, tc := range []struct {
		name, want string
		kind       error
	}{
		{"web", "web", nil}, {"abcdef12", "web", nil}, {"abcdef3", "db", nil}, {"run-abcdef34", "db", nil},
		{"abcdef", "", api.ErrInvalid}, {"abcd", "", api.ErrNotFound}, {"coming", "", api.ErrNotFound}, {"ffffff", "", api.ErrNotFound},
	} {
		ct, err := d.Container(tc.name)
		if !errors.Is(err, tc.kind) || err == nil && ct.Name != tc.want {
			t.Errorf("%s: %v, %v, want %q, %v", tc.name, ct, err, tc.want, tc.kind)
		}
	}
	if n, err := d.Network("012345"); err != nil || n.Name != "bridge" || d.NetworkName(7) != "bridge" {
		t.Errorf("network %v, %v, %q", n, err, d.NetworkName(7))
	}
	for a, want := range map[netip.Addr]string{addrOf(1): "web", addrOf(3): "coming", addrOf(255): "host", addrOf(500): "host", addrOf(4): ""} {
		if got, _ := d.Name(a); got != want {
			t.Errorf("%s is %q, want %q", a, got, want)
		}
	}
	for id, want := range map[frame.PortID]string{1: "web/eth0 (bridge)", 9: "host/vs-0 (bridge)", 10: "uplink/eth0"} {
		if p, _ := d.Port(id); p.Title() != want {
			t.Errorf("port %d is %q, want %q", id, p.Title(), want)
		}
	}
	l.DropNetwork("0123456789")
	l.DropUplink(10)
	now := l.Now()
	if now.NetworkName(7) != "" || now.NetworkNamed("bridge") != nil || now.netNames.n+now.netNumbers.n+now.gateways.n+now.networks.n != 0 {
		t.Error("something of the network is left")
	}
	if p, ok := now.LastPort(10); !ok || p.Name != "eth0" || now.Revision != 5 {
		t.Errorf("port 10 was %+v of revision %d", p, now.Revision)
	}
	if _, ok := now.Port(10); ok {
		t.Error("port 10 is there still")
	}
}

// Readers take no lock: they may read while others change. The race detector looks on.
func TestReadersAndWriters(t *testing.T) {
	var l Live
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 200 {
				n := 1 + w*1000 + i%50
				l.PutContainer(container(fmt.Sprint("id", n), fmt.Sprint("c", n), n))
				if i%3 == 0 {
					l.DropContainer(fmt.Sprint("id", n))
				}
			}
		})
		wg.Go(func() {
			for range 200 {
				d := l.Now()
				for _, id := range d.Ports(false) {
					if p, ok := d.Port(id); !ok || p.Container == "" {
						t.Errorf("port %d of a directory is %+v", id, p)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

func fourThousand() *Live {
	l := new(Live)
	for n := 1; n <= 4000; n++ {
		l.PutContainer(container(fmt.Sprintf("%064d", n), fmt.Sprint("c", n), n))
	}
	return l
}

// A change copies a part of the directory that is small, however large that is.
func TestChangeCopiesLittle(t *testing.T) {
	l := fourThousand()
	got := testing.Benchmark(func(b *testing.B) {
		for n := range b.N {
			n = 1 + n%4000
			l.PutContainer(container(fmt.Sprintf("%064d", n), fmt.Sprint("d", b.N, n), n))
		}
	})
	if size := got.AllocedBytesPerOp(); size > 100<<10 {
		t.Errorf("a rename among 4,000 names allocates %d bytes, want at most 100 KiB", size)
	}
}

// BenchmarkChange is a container that comes and goes among 4,000.
func BenchmarkChange(b *testing.B) {
	l := fourThousand()
	for b.Loop() {
		l.PutContainer(container("new", "new", 4001))
		l.DropContainer("new")
	}
}

// BenchmarkName is what a reader pays for the name of an address.
func BenchmarkName(b *testing.B) {
	d := fourThousand().Now()
	a := addrOf(1234)
	for b.Loop() {
		d.Name(a)
	}
}
