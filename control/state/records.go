package state

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// The buckets of the file. sums is beside what schema 2 had before there were
// checksums: a program without them passes it over.
const (
	inMeta       = "meta"
	inNetworks   = "networks"
	inContainers = "containers"
	inCursors    = "cursors"
	inSums       = "sums"
)

var buckets = []string{inMeta, inNetworks, inContainers, inCursors}

// Keys of the records of meta.
const (
	keySchema   = inMeta + "/schema"
	keyIdentity = inMeta + "/identity"
	keyReserved = inMeta + "/reserved-ports"
	keyNumbers  = inMeta + "/numbers"
	keyLatest   = inMeta + "/latest-numbers"
	keyByHand   = inMeta + "/ports-by-hand"
	// keyLost is there from the start that found records lost until control has looked in
	// the kernel for what they were about.
	keyLost = inMeta + "/lost"
)

// records are all that is stored, by bucket/key.
type records map[string][]byte

func recordKey(bucket, key string) string { return bucket + "/" + key }

// splitKey is its inverse.
func splitKey(k string) (bucket, key string) {
	bucket, key, _ = strings.Cut(k, "/")
	return bucket, key
}

// op is the change of one record; a nil value removes it.
type op struct {
	key   string
	value []byte
}

func (r records) apply(ops []op) {
	for _, o := range ops {
		if o.value == nil {
			delete(r, o.key)
		} else {
			r[o.key] = o.value
		}
	}
}

// all are the changes that make the records from nothing.
func (r records) all() []op {
	var ops []op
	for _, k := range slices.Sorted(maps.Keys(r)) {
		ops = append(ops, op{k, r[k]})
	}
	return ops
}

// changes are those that make r of old.
func (r records) changes(old records) []op {
	var ops []op
	for _, o := range r.all() {
		if v, ok := old[o.key]; !ok || string(v) != string(o.value) {
			ops = append(ops, o)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(old)) {
		if _, ok := r[k]; !ok {
			ops = append(ops, op{key: k})
		}
	}
	return ops
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum is the checksum of a record, which includes its place.
func sum(key string, value []byte) uint32 {
	c := crc32.Checksum([]byte(key), castagnoli)
	return crc32.Update(c, castagnoli, append([]byte{0}, value...))
}

func (r records) schema() uint64 {
	if v := r[keySchema]; len(v) == 8 {
		return binary.BigEndian.Uint64(v)
	}
	return Schema
}

func schemaValue(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// contents reads the records. unreadable names those that nobody can read; the others
// are there all the same.
func (r records) contents() (c Contents, unreadable []string) {
	c.Cursors = make(map[string][]netip.Addr)
	for _, o := range r.all() {
		bucket, key := splitKey(o.key)
		var err error
		switch bucket {
		case inNetworks:
			var n Network
			if err = json.Unmarshal(o.value, &n); err == nil && n.ID != key {
				err = errors.New("it is another's")
			}
			if err == nil {
				c.Networks = append(c.Networks, n)
			}
		case inContainers:
			var ct Container
			if err = json.Unmarshal(o.value, &ct); err == nil && ct.ID != key {
				err = errors.New("it is another's")
			}
			if err == nil {
				c.Containers = append(c.Containers, ct)
			}
		case inCursors:
			// Without one the addresses are handed out from the start of the range.
			if list, err := parseCursor(o.value); err == nil {
				c.Cursors[key] = list
			}
		}
		if err != nil {
			unreadable = append(unreadable, o.key)
		}
	}
	// Numbers that cannot be read are given anew.
	if v := r[keyNumbers]; v == nil || json.Unmarshal(v, &c.Numbers) != nil {
		c.Numbers = Numbers{}
	}
	if v := r[keyLatest]; v == nil || json.Unmarshal(v, &c.Latest) != nil {
		c.Latest = Latest{}
	}
	if v := r[keyReserved]; v == nil || json.Unmarshal(v, &c.Reserved) != nil {
		c.Reserved = nil
	}
	if v := r[keyByHand]; v == nil || json.Unmarshal(v, &c.ByHand) != nil {
		c.ByHand = nil
	}
	return c, unreadable
}

// cursor is the form of addresses in the file: their bytes, the IPv4 address
// first, so that the length tells which there are: 4, 16 or both.
func cursor(list []netip.Addr) (b []byte) {
	for _, a := range list {
		b = append(b, a.AsSlice()...)
	}
	return b
}

func parseCursor(b []byte) (list []netip.Addr, err error) {
	switch len(b) {
	case 4, 16:
	case 20:
		list, b = []netip.Addr{netip.AddrFrom4([4]byte(b))}, b[4:]
	default:
		return nil, fmt.Errorf("%d bytes", len(b))
	}
	a, _ := netip.AddrFromSlice(b) // of a length it takes
	return append(list, a), nil
}
