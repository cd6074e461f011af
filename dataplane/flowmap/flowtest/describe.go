package flowtest

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/bpfmap"
	"github.com/vswitch/vswitch/dataplane/flowmap"
)

// described are the maps in memory that a descriptor leads to, by the number that it has in
// the place of the kernel's descriptor.
var (
	described sync.Map
	number    atomic.Int64
)

var kind = bpfmap.Register(
	func(d bpfmap.FlowDescriptor) (bpfmap.Flows, error) { return open[bpfmap.Flows](d.Keys) },
	func(d bpfmap.PeerDescriptor) (bpfmap.Peers, error) { return open[bpfmap.Peers](d.Claimed) },
)

func open[M any](n int) (m M, err error) {
	got, _ := described.LoadAndDelete(n)
	m, ok := got.(M)
	if !ok {
		return m, fmt.Errorf("nobody has described %d", n)
	}
	return m, nil
}

func describe(m any) int {
	n := int(number.Add(1))
	described.Store(n, m)
	return n
}

// DescribeFlows returns a descriptor of which bpfmap.OpenFlows makes f, once. It is the way of
// a flow table in memory through the door of the data path.
func DescribeFlows(f bpfmap.Flows, entries []flowmap.Entry, ends *flowmap.Ends) bpfmap.FlowDescriptor {
	d := bpfmap.FlowDescriptor{Kind: kind, Entries: entries, Ends: ends, Keys: describe(f)}
	if k, ok := f.(interface{ Identifiers() *flowmap.Identifiers }); ok {
		d.Identifiers = k.Identifiers()
	}
	if k, ok := f.(interface{ StationRows() []flowmap.StationRow }); ok {
		d.Rows = k.StationRows()
	}
	return d
}

// DescribePeers is the same of peers in memory.
func DescribePeers(p bpfmap.Peers) bpfmap.PeerDescriptor {
	return bpfmap.PeerDescriptor{Kind: kind, Claimed: describe(p)}
}
