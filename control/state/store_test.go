package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
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
			Labels: map[string]string{"a": "b"}, Created: time.Unix(1700000000, 0).UTC(), TAP: "vs-1",
		}, Container{
			ID: "c1", Name: "web", Mode: "bridge", NetnsDev: 4, NetnsIno: 4026532000, Created: time.Unix(1700000001, 0).UTC(),
			Endpoints: []Endpoint{{Network: "n1", Ifname: "eth0", Veth: "veth1", Ifindex: 7, Alias: "x", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00:1::2")}, MAC: "02:00:00:00:00:01"}},
			Ports:     []Port{{Proto: 6, HostFirst: 10000, HostLast: 60000, First: 10000}},
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
	for _, err := range []error{
		s.PutNetwork(n), s.PutContainer(ct, cursors), s.PutReserved([]PortRange{{10000, 60000}}),
		s.PutNetwork(Network{ID: "n2"}), s.DeleteNetwork("n2"), s.DeleteNetwork("n2"),
		s.PutContainer(Container{ID: "c2"}, nil), s.DeleteContainer("c2"), s.DeleteContainer("nosuch"),
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
	want := Contents{Networks: []Network{n}, Containers: []Container{ct}, Cursors: cursors, Reserved: []PortRange{{10000, 60000}}}
	if d := cmp.Diff(want, c, ip, prefix); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if s.Identity() != id || len(id) != 36 {
		t.Errorf("identity %q, then %q", id, s.Identity())
	}
}

func TestNewerSchemaIsRefused(t *testing.T) {
	dir := t.TempDir()
	s, _, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	err = s.db.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(bucketMeta).Put(keySchema, binary.BigEndian.AppendUint64(nil, Schema+1))
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Open(dir); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want ErrNewer that names the file", err)
	}
}

// TestDamagedFile cuts the file short and flips bits in it: Open must say what
// is wrong or return what was stored, and never panic.
func TestDamagedFile(t *testing.T) {
	dir := t.TempDir()
	s, _, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	n, ct := sample()
	for i := range 20 {
		ct.ID = fmt.Sprint("c", i)
		if err := s.PutContainer(ct, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(s.PutNetwork(n), s.Close()); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	open := func(what string, b []byte) {
		t.Helper()
		dir := t.TempDir()
		path := filepath.Join(dir, FileName)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, _, err := Open(dir)
		if err == nil {
			s.Close()
			return
		}
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want ErrCorrupt on one line that names the file", what, err)
		}
	}
	for size := 0; size < len(good); size += 509 {
		open(fmt.Sprintf("cut at %d", size), good[:size])
	}
	open("zeros", make([]byte, len(good)))
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		b := append([]byte(nil), good...)
		at := r.IntN(len(b))
		b[at] ^= 1 << r.IntN(8)
		open(fmt.Sprintf("bit flipped at %d", at), b)
	}
}

func TestParallelCommits(t *testing.T) {
	s, _, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			if err := s.PutContainer(Container{ID: fmt.Sprint(i)}, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	c, err := s.read()
	if err != nil || len(c.Containers) != 64 {
		t.Errorf("%d containers, %v, want 64", len(c.Containers), err)
	}
	s.Close()
}
