package conntrack

import "github.com/vswitch/vswitch/dataplane/header"

// FetchFrom is the number of flows from which on they and their index do not lie in
// the cache of a core anyhow.
const FetchFrom = 2048

// Fetch asks for the memory that Lookups of some hashes read, and does not wait for it:
// the index of all of them first, then the flow that each finds most likely. protos are
// of the tuples. It takes no lock. The loops are here so that what they call is inlined.
func (t *Table) Fetch(hashes []uint32, protos []uint8) {
	for _, h := range hashes {
		fetchLine(t.shard(h).index.home(h))
	}
	for i, h := range hashes {
		ref := t.shard(h).index.guess(h)
		if ref == 0 {
			continue
		}
		c := t.At(ref)
		fetchConn(c)
		if protos[i] == header.ProtoTCP {
			fetchWindow(c)
		}
	}
}
