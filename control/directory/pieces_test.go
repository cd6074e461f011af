package directory

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
)

// piece is one interface of a container of Docker's.
func piece(id string, number int, called string, keys ...string) Container {
	ct := container(id, "c"+id, number)
	ct.Runtime, ct.Called, ct.Keys = api.RuntimeDocker, called, keys
	ct.Created = time.Unix(int64(number), 0)
	ct.Endpoints[0].Ifname = fmt.Sprint("eth", number)
	return ct
}

// What has a sandbox or an ID in common is one container, under each of its names.
func TestPiecesAreOneContainer(t *testing.T) {
	var l Live
	l.PutContainer(piece("aaaaaa", 1, "", "sandbox:s"))
	l.PutContainer(piece("bbbbbb", 2, ""))
	if d := l.Now(); d.ByID("aaaaaa") == d.ByID("bbbbbb") {
		t.Fatal("they have nothing in common")
	}
	l.PutContainer(piece("bbbbbb", 2, "", "sandbox:s"))
	for _, word := range []string{"caaaaaa", "cbbbbbb", "aaaaaa", "bbbbbb", "run-bbbbbb", "docker:cbbbbbb"} {
		if ct, err := l.Now().Container(word); err != nil || ct.ID != "aaaaaa" || len(ct.Endpoints) != 2 {
			t.Errorf("%s is %+v, %v", word, ct, err)
		}
	}
	// Its runtime says what it is called, of one piece after the other.
	l.PutContainer(piece("bbbbbb", 2, "web", "sandbox:s", "id:0123456789abcdef"))
	published := piece("cccccc", 3, "web", "id:0123456789abcdef")
	published.Published = []Published{{Proto: "tcp", Ports: 1}}
	l.PutContainer(published)
	for _, word := range []string{"web", "docker:web", "0123456789ab", "ccccccc", "cbbbbbb", "cccccc"} {
		ct, err := l.Now().Container(word)
		if err != nil || ct.Name != "web" || ct.RuntimeID != "0123456789abcdef" || len(ct.Endpoints) != 3 || ct.Endpoints[0].Ifname != "eth3" {
			t.Errorf("%s is %+v, %v", word, ct, err)
		}
	}
	for number := range 3 {
		if p, _ := l.Now().Port(l.Now().Ports(false)[number]); p.Title() != fmt.Sprintf("web/eth%d (bridge)", number+1) || p.Owner != "aaaaaa" {
			t.Errorf("port %d is %+v", number, p)
		}
		if name, _ := l.Now().Name(addrOf(number + 1)); name != "web" {
			t.Errorf("its address is %q's", name)
		}
	}
	if n := len(slices.Collect(l.Now().Containers())); n != 1 {
		t.Errorf("%d containers, want 1", n)
	}
	// The piece goes that held the others together.
	l.DropContainer("bbbbbb")
	if a, c := l.Now().ByID("aaaaaa"), l.Now().ByID("cccccc"); a == c || a.Name != "caaaaaa" || c.Name != "web" || len(c.Endpoints) != 1 {
		t.Errorf("apart they are %+v and %+v", a, c)
	}
	l.DropContainer("aaaaaa")
	l.DropContainer("cccccc")
	if d := l.Now(); d.pieces.n+d.containers.n+d.names.n+d.keyed.n+d.addrs.n+d.ports.n != 0 {
		t.Errorf("left: %+v", d)
	}
}

// A name that two have is nobody's, and the error says how each is called.
func TestTwoOfOneName(t *testing.T) {
	var l Live
	l.PutContainer(piece("aaaaaa", 1, "web", "id:0123456789abcdef"))
	byHand := container("bbbbbb", "web", 2)
	byHand.RuntimeID = ""
	l.PutContainer(byHand)
	podman := container("dddddd", "cdddddd", 3)
	podman.Runtime, podman.Called = api.RuntimePodman, "web"
	l.PutContainer(podman)
	_, err := l.Now().Container("web")
	if !errors.Is(err, api.ErrInvalid) || !strings.HasSuffix(err.Error(), "say which, bbbbbb (by hand) or docker:web or podman:web") {
		t.Errorf("web: %v", err)
	}
	for word, want := range map[string]string{"docker:web": "aaaaaa", "podman:web": "dddddd", "bbbbbb": "bbbbbb"} {
		if ct, err := l.Now().Container(word); err != nil || ct.ID != want {
			t.Errorf("%s is %+v, %v", word, ct, err)
		}
	}
	if _, err := l.Now().Container("cni:web"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("cni:web: %v", err)
	}
}

// Pieces come, change what they have in common, and go, in any order: the containers are
// those that a slow reading finds.
func TestPiecesInAnyOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var l Live
	have := make(map[string]Container)
	for range 3000 {
		n := 1 + r.IntN(12)
		id := fmt.Sprintf("%06d", n)
		if r.IntN(4) == 0 {
			l.DropContainer(id)
			delete(have, id)
		} else {
			var keys []string
			for _, kind := range []string{"sandbox:", KeyOfRuntime} {
				if k := r.IntN(6); k > 0 {
					keys = append(keys, fmt.Sprint(kind, k))
				}
			}
			have[id] = piece(id, n, "", keys...)
			l.PutContainer(have[id])
		}
		group := make(map[string]string)
		for id := range have {
			group[id] = id
		}
		for range have { // until nothing joins
			for a, x := range have {
				for b, y := range have {
					if slices.ContainsFunc(x.Keys, func(k string) bool { return slices.Contains(y.Keys, k) }) {
						group[a] = min(group[a], group[b])
					}
				}
			}
		}
		d := l.Now()
		for a := range have {
			for b := range have {
				if (d.ByID(a) == d.ByID(b)) != (group[a] == group[b]) {
					t.Fatalf("%v and %v: one container: %v", have[a], have[b], d.ByID(a) == d.ByID(b))
				}
			}
			p, _ := d.Port(have[a].Endpoints[0].Port)
			if p.Owner != d.ByID(a).ID || p.Container != d.ByID(a).Name {
				t.Fatalf("port %+v of %+v", p, d.ByID(a))
			}
		}
		if d.pieces.n != len(have) || d.containers.n != len(have) || d.addrs.n != len(have) || d.ports.n != len(have) {
			t.Fatalf("%d, %d, %d and %d of %d", d.pieces.n, d.containers.n, d.addrs.n, d.ports.n, len(have))
		}
	}
}

// An address is as good as a name, and one that is none is told as such.
func TestContainerByAddress(t *testing.T) {
	var l Live
	l.PutContainer(container("aaaaaa", "web", 1))
	if ct, err := l.Now().Container(addrOf(1).String()); err != nil || ct.Name != "web" {
		t.Errorf("%+v, %v", ct, err)
	}
	for word, want := range map[string]string{
		"10.88.0.9": "address 10.88.0.9 is no container's: see vswitch ps",
		"300.1.1.1": "300.1.1.1 is no address, and no container is called so: see vswitch ps",
	} {
		if _, err := l.Now().Container(word); !errors.Is(err, api.ErrNotFound) || err.Error() != want {
			t.Errorf("%s: %v", word, err)
		}
	}
}
