package state

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	bolt "go.etcd.io/bbolt"
)

// networkV1 and endpointV1 are what schema 1 wrote where schema 2 has lists.
type networkV1 struct {
	Subnet   netip.Prefix          `json:"subnet"`
	Gateway  netip.Addr            `json:"gateway"`
	IPRange  netip.Prefix          `json:"ip_range"`
	Reserved map[string]netip.Addr `json:"reserved"`
}

type endpointV1 struct {
	Addr netip.Addr `json:"addr"`
}

// migrate rewrites the records of schema 1, all in one transaction: a crash
// leaves the file as it was. Cursors of one address have kept their form.
func migrate(tx *bolt.Tx) error {
	err := rewrite(tx.Bucket(bucketNetworks), func(v []byte) (any, error) {
		var (
			old networkV1
			n   Network
		)
		if err := errors.Join(json.Unmarshal(v, &old), json.Unmarshal(v, &n)); err != nil {
			return nil, err
		}
		n.Subnets = []Subnet{{Prefix: old.Subnet, Gateway: old.Gateway, IPRange: old.IPRange, Reserved: old.Reserved}}
		return n, nil
	})
	if err != nil {
		return fmt.Errorf("network %w", err)
	}
	err = rewrite(tx.Bucket(bucketContainers), func(v []byte) (any, error) {
		var (
			old struct {
				Endpoints []endpointV1 `json:"endpoints"`
			}
			c Container
		)
		if err := errors.Join(json.Unmarshal(v, &old), json.Unmarshal(v, &c)); err != nil {
			return nil, err
		}
		for i := range c.Endpoints {
			c.Endpoints[i].Addrs = []netip.Addr{old.Endpoints[i].Addr}
		}
		return c, nil
	})
	if err != nil {
		return fmt.Errorf("container %w", err)
	}
	m := tx.Bucket(bucketMeta)
	return m.Put(keySchema, binary.BigEndian.AppendUint64(nil, Schema))
}

// rewrite replaces every record of a bucket.
func rewrite(b *bolt.Bucket, change func([]byte) (any, error)) error {
	if b == nil {
		return errors.New("bucket is missing")
	}
	fresh := make(map[string][]byte) // a bucket must not change while it is walked
	err := b.ForEach(func(k, v []byte) error {
		rec, err := change(v)
		if err == nil {
			fresh[string(k)], err = json.Marshal(rec)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for k, v := range fresh {
		if err := b.Put([]byte(k), v); err != nil {
			return err
		}
	}
	return nil
}
