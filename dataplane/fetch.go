package dataplane

import "github.com/vswitch/vswitch/dataplane/header"

// fetchFrom is the number of flows from which on they and their index do not lie in
// the cache of a core anyhow.
const fetchFrom = 2048

// fetch hashes the tuples of a batch and asks for the memory that the lookups will
// read, the index first and then the flows: among many flows none of it is in a
// cache, and the frames wait for it together instead of one behind the other. It
// takes no lock and decides nothing.
func (t *conntrack) fetch(routes []routed) {
	far := len(routes) > 1 && t.len() >= fetchFrom
	for i := range routes {
		r := &routes[i]
		r.hash = t.keys.tuple(&r.f.Layers.Tuple)
		if far {
			fetchLine(t.shard(r.hash).index.home(r.hash))
		}
	}
	if !far {
		return
	}
	for i := range routes {
		r := &routes[i]
		if ref := t.shard(r.hash).index.guess(r.hash); ref != 0 {
			c := t.at(ref)
			fetchConn(c)
			if r.f.Layers.Tuple.Proto == header.ProtoTCP {
				fetchWindow(c)
			}
		}
	}
}
