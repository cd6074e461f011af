package bpfmap

import (
	"errors"
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/flowmap"
)

// kernelPeers is maps of the kernel.
type kernelPeers struct{ claimed, strangers *ebpf.Map }

func openPeers(d PeerDescriptor) (Peers, error) {
	claimed, err := openMap(d.Claimed)
	if err != nil {
		return nil, err
	}
	strangers, err := openMap(d.Strangers)
	if err != nil {
		return nil, errors.Join(err, claimed.Close())
	}
	return &kernelPeers{claimed, strangers}, nil
}

// Claim implements Peers.
func (m *kernelPeers) Claim(p flowmap.Peer) error {
	key := p.Key()
	if err := m.claimed.Put(bytesOf(&key), uint8(1)); err != nil {
		return fmt.Errorf("claim peer %s protocol %d: %w", p.Addr, p.Proto, err)
	}
	return nil
}

// Drop implements Peers. A peer that the kernel will not take out, as when a program of
// tracing holds the bucket (EBUSY), stays claimed until the next flow to it ends: the host
// misses its packets, which harms less than a switch that ends.
func (m *kernelPeers) Drop(p flowmap.Peer) {
	key := p.Key()
	_ = m.claimed.Delete(bytesOf(&key))
}

// Claimed implements Peers.
func (m *kernelPeers) Claimed() (all []flowmap.Peer, err error) {
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
func (m *kernelPeers) Close() error { return errors.Join(m.claimed.Close(), m.strangers.Close()) }
