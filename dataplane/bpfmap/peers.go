package bpfmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/flowmap"
)

// kernelPeers is maps of the kernel.
type kernelPeers struct {
	claimed, strangers *ebpf.Map

	mu      sync.Mutex
	entry   peerEntry
	dropped []flowmap.PeerKey // that claimed has still, dropRoom at most
	marks   [dropMarks / 64]uint64
}

// peerEntry is an order to enter a peer, union bpf_attr with what it points to. It does not move
// in memory.
type peerEntry struct {
	attr struct {
		fd         uint32
		_          uint32
		key, value uint64
		flags      uint64 // BPF_ANY
	}
	key   flowmap.PeerKey
	value uint8
}

func (e *peerEntry) init(fd int) {
	e.attr.fd, e.value = uint32(fd), flowmap.PeerClaimed
	e.attr.key, e.attr.value = uint64(uintptr(unsafe.Pointer(&e.key))), uint64(uintptr(unsafe.Pointer(&e.value)))
}

// put enters a peer. It blocks nobody, so the scheduler need not hear of it, and each flow pays
// for it: by way of the library it takes half as long again.
func (e *peerEntry) put(key flowmap.PeerKey) error {
	e.key = key
	for {
		_, _, errno := unix.RawSyscall(unix.SYS_BPF, unix.BPF_MAP_UPDATE_ELEM, uintptr(unsafe.Pointer(&e.attr)), unsafe.Sizeof(e.attr))
		switch errno {
		case 0:
			return nil
		case unix.EINTR, unix.EAGAIN:
			continue
		}
		return errno
	}
}

const (
	// dropRoom is how many peers are taken out at once. Each is a system call by itself, and in
	// company a twentieth of one.
	dropRoom = 64
	// dropMarks is how many bits tell them apart.
	dropMarks = 4096
)

// mark is the bit of a peer.
func (m *kernelPeers) mark(p *flowmap.Peer) (word *uint64, bit uint64) {
	n := uint32(p.Port) ^ uint32(p.PeerPort)<<3 ^ binary.LittleEndian.Uint32(p.Addr[12:])*0x9e3779b1>>20
	return &m.marks[n%dropMarks/64], 1 << (n % 64)
}

func openPeers(d PeerDescriptor) (Peers, error) {
	claimed, err := openMap(d.Claimed)
	if err != nil {
		return nil, err
	}
	strangers, err := openMap(d.Strangers)
	if err != nil {
		return nil, errors.Join(err, claimed.Close())
	}
	m := &kernelPeers{claimed: claimed, strangers: strangers, dropped: make([]flowmap.PeerKey, 0, dropRoom)}
	m.entry.init(claimed.FD())
	return m, nil
}

// Claim implements Peers. A peer that was dropped is taken out before it is claimed again.
func (m *kernelPeers) Claim(p flowmap.Peer) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if word, bit := m.mark(&p); *word&bit != 0 {
		m.settleLocked()
	}
	err := m.entry.put(p.Key())
	if errors.Is(err, unix.E2BIG) { // those that were dropped may have the room
		m.settleLocked()
		err = m.entry.put(p.Key())
	}
	if err != nil {
		return fmt.Errorf("claim peer %s protocol %d: %w", p.Addr, p.Proto, err)
	}
	return nil
}

// Drop implements Peers. A peer that the kernel will not take out, as when a program of
// tracing holds the bucket (EBUSY), stays claimed until the next flow to it ends: the host
// misses its packets, which harms less than a switch that ends.
func (m *kernelPeers) Drop(p flowmap.Peer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	word, bit := m.mark(&p)
	*word |= bit
	if m.dropped = append(m.dropped, p.Key()); len(m.dropped) == dropRoom {
		m.settleLocked()
	}
}

// Settle implements Peers.
func (m *kernelPeers) Settle() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settleLocked()
}

func (m *kernelPeers) settleLocked() {
	if len(m.dropped) == 0 {
		return
	}
	_ = DeleteAll(m.claimed, m.dropped)
	m.dropped, m.marks = m.dropped[:0], [dropMarks / 64]uint64{}
}

// Claimed implements Peers.
func (m *kernelPeers) Claimed() (all []flowmap.Peer, err error) {
	m.Settle()
	err = each(m.claimed, func(k flowmap.PeerKey, _ uint8) { all = append(all, k.Peer()) })
	return all, err
}

// Strange implements Peers.
func (m *kernelPeers) Strange(p flowmap.Peer) (ago time.Duration, ok bool) {
	key, last := p.Key(), uint64(0)
	if err := m.strangers.Lookup(bytesOf(&key), &last); err != nil {
		return 0, false
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0, false
	}
	return time.Duration(now.Nano() - int64(last)), true
}

// Close implements Peers.
func (m *kernelPeers) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settleLocked()
	m.entry.attr.fd = math.MaxUint32 // its number may be another file's
	return errors.Join(m.claimed.Close(), m.strangers.Close())
}
