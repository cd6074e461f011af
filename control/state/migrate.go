package state

import (
	"encoding/json"
	"errors"
	"net/netip"
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

// migrate rewrites the records of schema 1, and returns those that cannot be read. Cursors
// of one address have kept their form.
func (r records) migrate() (unreadable []string) {
	if r.schema() >= Schema {
		return nil
	}
	for _, o := range r.all() {
		var v any
		var err error
		switch bucket, _ := splitKey(o.key); bucket {
		case inNetworks:
			v, err = networkOf(o.value)
		case inContainers:
			v, err = containerOf(o.value)
		default:
			continue
		}
		if err == nil {
			r[o.key], err = json.Marshal(v)
		}
		if err != nil {
			unreadable = append(unreadable, o.key)
			delete(r, o.key)
		}
	}
	r[keySchema] = schemaValue(Schema)
	return unreadable
}

func networkOf(v []byte) (n Network, err error) {
	var old networkV1
	if err := errors.Join(json.Unmarshal(v, &old), json.Unmarshal(v, &n)); err != nil {
		return n, err
	}
	n.Subnets = []Subnet{{Prefix: old.Subnet, Gateway: old.Gateway, IPRange: old.IPRange, Reserved: old.Reserved}}
	return n, nil
}

func containerOf(v []byte) (c Container, err error) {
	var old struct {
		Endpoints []endpointV1 `json:"endpoints"`
	}
	if err := errors.Join(json.Unmarshal(v, &old), json.Unmarshal(v, &c)); err != nil {
		return c, err
	}
	for i := range c.Endpoints {
		c.Endpoints[i].Addrs = []netip.Addr{old.Endpoints[i].Addr}
	}
	return c, nil
}
