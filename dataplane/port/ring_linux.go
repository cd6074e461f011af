package port

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

const (
	slotSize  = 2048
	blockSize = 1 << 16
	minSlots  = blockSize / slotSize

	// ringReserve is the room between the kernel's slot header and the virtio
	// header: a VLAN tag, and two bytes that align the IP header.
	ringReserve = vlanRoom + 2
)

// ring is a TPACKET_V2 receive ring: the kernel fills slots in order, marks each
// TP_STATUS_USER, and owns it again when it is marked TP_STATUS_KERNEL. See
// Documentation/networking/packet_mmap.rst.
type ring struct {
	mem   []byte
	mask  uint32
	tail  uint32 // first slot handed out, modulo 2^32
	head  uint32 // next slot to look at
	taken uint64 // slots given back
}

func (r *ring) open(fd, slots int) error {
	slots = max(minSlots, 1<<bits.Len(uint(slots-1)))
	size := slots * slotSize
	req := unix.TpacketReq{
		Block_size: blockSize, Block_nr: uint32(size / blockSize),
		Frame_size: slotSize, Frame_nr: uint32(slots),
	}
	if err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return fmt.Errorf("receive ring of %d slots: %w", slots, err)
	}
	mem, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map receive ring: %w", err)
	}
	r.mem, r.mask = mem, uint32(slots-1)
	return nil
}

func (r *ring) close() error {
	if r.mem == nil {
		return nil
	}
	mem := r.mem
	r.mem = nil
	return unix.Munmap(mem)
}

func (r *ring) slot(i uint32) []byte {
	at := int(i&r.mask) * slotSize
	return r.mem[at : at+slotSize : at+slotSize]
}

func (r *ring) header(i uint32) *unix.Tpacket2Hdr {
	return (*unix.Tpacket2Hdr)(unsafe.Pointer(unsafe.SliceData(r.slot(i))))
}

// scan counts the slots that are ready, at most n of which at most maxLarge have
// their frame on the receive queue. The load of a status orders all later reads
// of the slot behind the kernel's writes.
func (r *ring) scan(n, maxLarge int) (ready, large int) {
	n = min(n, int(r.mask)+1-int(r.head-r.tail))
	for ready < n {
		status := atomic.LoadUint32(&r.header(r.head + uint32(ready)).Status)
		if status&unix.TP_STATUS_USER == 0 {
			break
		}
		if status&unix.TP_STATUS_COPY != 0 {
			if large == maxLarge {
				break
			}
			large++
		}
		ready++
	}
	return ready, large
}

// Receive implements Port. Small frames stay where the kernel put them; large
// ones, of which a slot holds the head only, wait on the socket's receive queue
// in the order of their slots and are copied to a.
func (p *Packet) Receive(b *frame.Batch, a *Arena) error {
	r := &p.ring
	ready, large := r.scan(frame.BatchSize-b.N, a.free())
	if ready == 0 {
		return nil
	}
	var queue [][]byte
	if large > 0 {
		queue = a.fetch(p.fd, large)
	}
	for range ready {
		slot, h := r.slot(r.head), r.header(r.head)
		r.head++
		at, n := int(h.Mac)-frame.Headroom, int(h.Len)
		switch {
		case h.Status&unix.TP_STATUS_COPY != 0:
			if len(queue) == 0 {
				p.truncated.Add(1)
				continue
			}
			slot, at = queue[0], vlanRoom
			queue = queue[1:]
			if len(slot) != vlanRoom+frame.Headroom+n {
				p.invalid.Add(1)
				continue
			}
		case h.Snaplen < h.Len:
			p.truncated.Add(1)
			continue
		}
		if at < vlanRoom || n < header.EthernetLen || at+frame.Headroom+n > len(slot) {
			p.invalid.Add(1)
			continue
		}
		off, ok := frame.DecodeVnetHdr(slot[at:], n)
		if !ok {
			p.invalid.Add(1)
			continue
		}
		end := at + frame.Headroom + n
		if h.Status&unix.TP_STATUS_VLAN_VALID != 0 {
			at -= vlanRoom
			restoreVLAN(slot[at+frame.Headroom:], h, &off)
		}
		f := b.Next()
		f.Buf, f.Offload = slot[at:end:end], off
	}
	return nil
}

// restoreVLAN puts the tag back that the kernel keeps beside a frame. data
// begins with room for it.
func restoreVLAN(data []byte, h *unix.Tpacket2Hdr, off *frame.Offload) {
	copy(data, data[vlanRoom:vlanRoom+12])
	tpid := header.TypeVLAN
	if h.Status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
		tpid = h.Vlan_tpid
	}
	binary.BigEndian.PutUint16(data[12:], tpid)
	binary.BigEndian.PutUint16(data[14:], h.Vlan_tci)
	if off.Csum == frame.CsumPartial {
		off.CsumStart += vlanRoom
	}
	if off.HdrLen != 0 {
		off.HdrLen += vlanRoom
	}
}

// fetch takes n messages from a socket's receive queue. A slice holds vlanRoom
// bytes, the virtio header and the frame; they are borrowed until Reset.
func (a *Arena) fetch(fd, n int) [][]byte {
	rx := &a.rx
	for i := range n {
		rx.bufs[i] = a.next()
		rx.set(i, rx.bufs[i][vlanRoom:])
	}
	got, failed := 0, false
	for got < n {
		k, errno := rx.call(unix.SYS_RECVMMSG, fd, got, n)
		if errno != 0 {
			// A pending ENETDOWN is reported once in place of a message; the
			// messages are there all the same.
			if failed || errno == unix.EAGAIN {
				break
			}
			failed = true
			continue
		}
		got += k
	}
	for i := range got {
		// Longer than the arena's place (BIG TCP): no length fits such a frame.
		if rx.msgs[i].hdr.Flags&unix.MSG_TRUNC != 0 {
			rx.msgs[i].len = 0
		}
		rx.bufs[i] = rx.bufs[i][:vlanRoom+int(rx.msgs[i].len)]
	}
	return rx.bufs[:got]
}

// Release implements Port.
func (p *Packet) Release() {
	r := &p.ring
	if n := r.head - r.tail; n > 0 && p.account != nil {
		r.taken += uint64(n)
		atomic.StoreUint64(&p.account.Taken, r.taken)
	}
	for ; r.tail != r.head; r.tail++ {
		atomic.StoreUint32(&r.header(r.tail).Status, unix.TP_STATUS_KERNEL)
	}
}
