package state

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
)

var ip = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
var prefix = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })

func sample() (Network, Container) {
	return Network{
			ID: "n1", Name: "blue", MTU: 1500, Internal: true,
			Subnets: []Subnet{{
				Prefix: netip.MustParsePrefix("10.1.0.0/24"), Gateway: netip.MustParseAddr("10.1.0.1"),
				Reserved: map[string]netip.Addr{"printer": netip.MustParseAddr("10.1.0.9")},
			}, {
				Prefix: netip.MustParsePrefix("fd00:1::/64"), Gateway: netip.MustParseAddr("fd00:1::1"), Mode: "isolated",
			}},
			Labels: map[string]string{"a": "b"}, Created: time.Unix(1700000000, 0).UTC(), TAP: "vs-1", Number: 3, PortNumber: 4,
		}, Container{
			ID: "c1", Name: "web", Mode: "bridge", NetnsDev: 4, NetnsIno: 4026532000, Created: time.Unix(1700000001, 0).UTC(),
			Endpoints: []Endpoint{{Network: "n1", Ifname: "eth0", Veth: "veth1", Ifindex: 7, PortNumber: 5, Alias: "x", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00:1::2")}, MAC: "02:00:00:00:00:01"}},
			Ports:     []Port{{Proto: 6, HostFirst: 10000, HostLast: 60000, ContainerFirst: 10000}},
		}
}

func TestEverythingSurvivesReopening(t *testing.T) {
	dir := t.TempDir()
	s, c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Networks)+len(c.Containers) != 0 {
		t.Fatalf("a new file holds %+v", c)
	}
	id := s.Identity()
	n, ct := sample()
	cursors := map[string][]netip.Addr{
		"n1": {netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00:1::2")},
		"n3": {netip.MustParseAddr("10.3.0.2")}, "n4": {netip.MustParseAddr("fd00:4::2")},
	}
	numbers := Numbers{
		Uplinks: []UplinkNumber{{"eth1", 9}, {"eth0", 1}},
		Slots:   []SlotNumber{{netip.MustParseAddr("198.51.100.1"), 2}, {netip.MustParseAddr("2001:db8::1"), 1}},
	}
	for _, err := range []error{
		s.PutNetwork(n, &Latest{Network: 2, Port: 3}), s.PutContainer(ct, cursors, &Latest{Network: 3, Port: 7}), s.PutReserved([]PortRange{{10000, 60000}}),
		s.PutNetwork(Network{ID: "n2"}, nil), s.DeleteNetwork("n2"), s.DeleteNetwork("n2"), s.PutNumbers(numbers),
		s.PutContainer(Container{ID: "c2"}, nil, nil), s.DeleteContainer("c2"), s.DeleteContainer("nosuch"),
		s.Close(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s, c, err = Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want := Contents{Networks: []Network{n}, Containers: []Container{ct}, Cursors: cursors, Reserved: []PortRange{{10000, 60000}},
		Numbers: numbers, Latest: Latest{Network: 3, Port: 7}, Identity: id}
	if d := cmp.Diff(want, c, ip, prefix); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if s.Identity() != id || len(id) != 36 {
		t.Errorf("identity %q, then %q", id, s.Identity())
	}
}

// Numbers that cannot be read stop nobody: they are given anew.
func TestUnreadableNumbers(t *testing.T) {
	dir := t.TempDir()
	plainFile(t, dir, func(tx *bolt.Tx) error {
		m := tx.Bucket([]byte(inMeta))
		return errors.Join(tx.Bucket([]byte(inNetworks)).Put([]byte("n1"), []byte(`{"id":"n1"}`)),
			m.Put([]byte("numbers"), []byte(`{"uplinks":[{"name":"eth0","port_number":1},{"name":7}]}`)), m.Put([]byte("latest-numbers"), []byte("{")))
	})
	s, c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if len(c.Networks) != 1 || len(c.Numbers.Uplinks) != 0 || c.Latest != (Latest{}) {
		t.Errorf("%d networks, %+v, %+v, want the network and no numbers", len(c.Networks), c.Numbers, c.Latest)
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	dir := t.TempDir()
	plainFile(t, dir, func(tx *bolt.Tx) error {
		return tx.Bucket([]byte(inMeta)).Put([]byte("schema"), schemaValue(Schema+1))
	})
	if _, _, err := Open(dir); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want ErrNewer that names the file", err)
	}
}

func TestParallelCommits(t *testing.T) {
	dir := t.TempDir()
	s, _, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			if err := s.PutContainer(Container{ID: fmt.Sprint(i)}, nil, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := Peek(dir)
	if err != nil || len(c.Containers) != 64 {
		t.Errorf("%d containers, %v, want 64", len(c.Containers), err)
	}
}

// BenchmarkLoad reads and checks both files of a thousand containers.
func BenchmarkLoad(b *testing.B) {
	s := newSite(b, 1000)
	for b.Loop() {
		if l := load(s.file, s.copy); len(l.records) < 1000 {
			b.Fatal(len(l.records))
		}
	}
}
