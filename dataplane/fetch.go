package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// fetch hashes the tuples of a batch and asks for the memory that the lookups will
// read, the index first and then the flows: among many flows none of it is in a
// cache, and the frames wait for it together instead of one behind the other. It
// takes no lock and decides nothing.
func fetch(t *conntrack.Table, routes []routed) {
	if len(routes) <= 1 || len(routes) > frame.BatchSize || t.Len() < conntrack.FetchFrom {
		for i := range routes {
			routes[i].hash = t.Hash(&routes[i].f.Layers.Tuple)
		}
		return
	}
	var hashes [frame.BatchSize]uint32
	var protos [frame.BatchSize]uint8
	for i := range routes {
		k := &routes[i].f.Layers.Tuple
		routes[i].hash = t.Hash(k)
		hashes[i], protos[i] = routes[i].hash, k.Proto
	}
	t.Fetch(hashes[:len(routes)], protos[:len(routes)])
}
