package state

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"
)

// Records as schema 1 wrote them.
const (
	networkOfV1 = `{"id":"n1","name":"bridge","subnet":"10.88.0.0/24","gateway":"10.88.0.1","ip_range":"10.88.0.128/25",` +
		`"reserved":{"printer":"10.88.0.9"},"mtu":1400,"internal":true,"labels":{"a":"b"},"created":"2026-01-02T03:04:05Z","tap":"vs-1"}`
	sixOfV1 = `{"id":"n6","name":"six","subnet":"fd00:7::/64","gateway":"fd00:7::1","ip_range":"",` +
		`"mtu":1500,"created":"2026-01-02T03:04:05Z","tap":"vs-6"}`
	containerOfV1 = `{"id":"c1","name":"web","mode":"bridge","netns":"/x","netns_dev":4,"netns_ino":7,"boot_id":"b",` +
		`"created":"2026-01-02T03:04:05Z","digest":"d","endpoints":[` +
		`{"network":"n1","ifname":"eth0","veth":"veth1","ifindex":7,"alias":"x","addr":"10.88.0.130","mac":"02:00:00:00:00:01"},` +
		`{"network":"n6","ifname":"eth1","veth":"veth2","ifindex":8,"alias":"y","addr":"fd00:7::2","mac":"02:00:00:00:00:02"}],` +
		`"ports":[{"proto":6,"host_ip":"","host_first":8080,"host_last":8080,"first":80}]}`
)

// oldFile makes a state file of schema 1, as a program without checksums did.
func oldFile(t *testing.T, dir string, records map[string]map[string][]byte) {
	t.Helper()
	plainFile(t, dir, func(tx *bolt.Tx) error {
		for bucket, rows := range records {
			for k, v := range rows {
				if err := tx.Bucket([]byte(bucket)).Put([]byte(k), v); err != nil {
					return err
				}
			}
		}
		return tx.Bucket([]byte(inMeta)).Put([]byte("schema"), schemaValue(1))
	})
}

// plainFile changes the state file as a program without checksums does, or makes one.
func plainFile(t *testing.T, dir string, change func(*bolt.Tx) error) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, FileName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, b := range buckets {
			if _, err := tx.CreateBucketIfNotExists([]byte(b)); err != nil {
				return err
			}
		}
		m := tx.Bucket([]byte(inMeta))
		if m.Get([]byte("identity")) == nil {
			if err := errors.Join(m.Put([]byte("schema"), schemaValue(2)), m.Put([]byte("identity"), []byte(newUUID()))); err != nil {
				return err
			}
		}
		return change(tx)
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestFileOfSchema1IsTakenOver(t *testing.T) {
	dir := t.TempDir()
	oldFile(t, dir, map[string]map[string][]byte{
		"networks":   {"n1": []byte(networkOfV1), "n6": []byte(sixOfV1)},
		"containers": {"c1": []byte(containerOfV1)},
		"cursors":    {"n1": {10, 88, 0, 130}, "n6": netip.MustParseAddr("fd00:7::2").AsSlice()},
	})
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	addr, pfx := netip.MustParseAddr, netip.MustParsePrefix
	want := Contents{
		Networks: []Network{{
			ID: "n1", Name: "bridge", MTU: 1400, Internal: true, Labels: map[string]string{"a": "b"}, Created: created, TAP: "vs-1",
			Subnets: []Subnet{{
				Prefix: pfx("10.88.0.0/24"), Gateway: addr("10.88.0.1"), IPRange: pfx("10.88.0.128/25"),
				Reserved: map[string]netip.Addr{"printer": addr("10.88.0.9")},
			}},
		}, {
			ID: "n6", Name: "six", MTU: 1500, Created: created, TAP: "vs-6",
			Subnets: []Subnet{{Prefix: pfx("fd00:7::/64"), Gateway: addr("fd00:7::1")}},
		}},
		Containers: []Container{{
			ID: "c1", Name: "web", Mode: "bridge", Netns: "/x", NetnsDev: 4, NetnsIno: 7, BootID: "b", Created: created, Digest: "d",
			Endpoints: []Endpoint{
				{Network: "n1", Ifname: "eth0", Veth: "veth1", Ifindex: 7, Alias: "x", Addrs: []netip.Addr{addr("10.88.0.130")}, MAC: "02:00:00:00:00:01"},
				{Network: "n6", Ifname: "eth1", Veth: "veth2", Ifindex: 8, Alias: "y", Addrs: []netip.Addr{addr("fd00:7::2")}, MAC: "02:00:00:00:00:02"},
			},
			Ports: []Port{{Proto: 6, HostFirst: 8080, HostLast: 8080, ContainerFirst: 80}},
		}},
		Cursors: map[string][]netip.Addr{"n1": {addr("10.88.0.130")}, "n6": {addr("fd00:7::2")}},
	}
	for _, when := range []string{"at first", "then"} {
		s, got, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		want.Identity = s.Identity()
		if d := cmp.Diff(want, got, ip, prefix); d != "" {
			t.Errorf("%s (-want +got):\n%s", when, d)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// One record that cannot be read stops no other, and the file that has it is kept.
func TestBrokenRecordOfSchema1(t *testing.T) {
	for name, records := range map[string]map[string]map[string][]byte{
		"network n2":   {"networks": {"n1": []byte(networkOfV1), "n2": []byte(`{"subnet":7}`)}, "containers": {"c1": []byte(containerOfV1)}},
		"container c2": {"networks": {"n1": []byte(networkOfV1)}, "containers": {"c1": []byte(containerOfV1), "c2": []byte(`{"endpoints":[{"addr":"x"}]}`)}},
	} {
		dir := t.TempDir()
		oldFile(t, dir, records)
		s, c, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Networks) != 1 || len(c.Containers) != 1 || c.Damage == nil || !slices.Equal(c.Damage.Lost, []string{name}) || !c.Damage.Incomplete {
			t.Errorf("%s: %+v, damage %+v", name, c, c.Damage)
		}
		if err := errors.Join(s.Searched(), s.Close()); err != nil {
			t.Error(err)
		}
		if b, err := os.ReadFile(filepath.Join(dir, DamagedName)); err != nil || !strings.Contains(string(b), "n1") {
			t.Errorf("%s: the damaged file was not kept: %v", name, err)
		}
		s, c, err = Open(dir)
		if err != nil || c.Damage != nil {
			t.Errorf("%s: then %v, damage %+v", name, err, c.Damage)
		}
		s.Close()
	}
}
