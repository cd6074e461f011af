package kernel

import (
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/flowmap"
)

// planes are the maps the programs look packets up in.
type planes struct {
	opened, published *ebpf.Map // array: flowmap.ClaimWord -> word, mapped into memory
	addrs             *ebpf.Map // hash: header.Addr -> claim slot
	subnets           *ebpf.Map // longest prefix: subnetKey -> flowmap.Subnet
	peers             *ebpf.Map // hash: peerKey -> flowmap.PeerClaimed or PeerAsked
	strangers         *ebpf.Map // least recently used hash: peerKey -> ns
	fragments         *ebpf.Map // least recently used hash: datagram -> whose
	sockets           *ebpf.Map // least recently used hash: peerKey -> 1
	socketsAt         *ebpf.Map // array of one: ns
	bound             *ebpf.Map // array of one: sockets of each UDP port
}

func roomFor(s *ebpf.CollectionSpec, flows int) {
	if flows > 0 {
		s.Maps[programsMapVswPeers].MaxEntries = uint32(flows)
	}
}

// newPlanes has room for so many flows, 0 is the default.
func newPlanes(s *ebpf.CollectionSpec, flows int, before left) (p *planes, err error) {
	roomFor(s, flows)
	p = &planes{}
	peers := before[programsMapVswPeers]
	for name, m := range p.all() {
		if *m, err = before.open(s, name); err != nil {
			p.close()
			return nil, err
		}
	}
	if peers != nil && p.peers != peers { // there is room for another number of them
		var key flowmap.PeerKey
		var known uint8
		for it := peers.Iterate(); it.Next(&key, &known); {
			_ = p.peers.Put(key, known) // as many as fit
		}
	}
	return p, nil
}

// all are the maps by their names.
func (p *planes) all() map[string]**ebpf.Map {
	return map[string]**ebpf.Map{
		programsMapVswOpened: &p.opened, programsMapVswPublished: &p.published,
		programsMapVswAddrs: &p.addrs, programsMapVswSubnets: &p.subnets, programsMapVswPeers: &p.peers,
		programsMapVswStrangers: &p.strangers, programsMapVswFragments: &p.fragments,
		programsMapVswSockets: &p.sockets, programsMapVswSocketsAt: &p.socketsAt, programsMapVswBoundPorts: &p.bound,
	}
}

func (p *planes) close() {
	for _, m := range p.all() {
		(*m).Close() // a nil map is allowed
	}
}

// mapWords maps an array of 64-bit words into memory.
func mapWords(m *ebpf.Map) ([]byte, []uint64, error) {
	n := int(m.MaxEntries())
	mem, err := unix.Mmap(m.FD(), 0, n*8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("%v: mmap: %w", m, err)
	}
	return mem, unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(mem))), n), nil
}
