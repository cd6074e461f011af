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
	lost  lost
}

// ringSlots is the number of slots that a ring of so many gets.
func ringSlots(slots int) int { return max(minSlots, 1<<bits.Len(uint(slots-1))) }

// makeRing gives a socket a ring.
func makeRing(fd, slots int) error {
	req := unix.TpacketReq{
		Block_size: blockSize, Block_nr: uint32(slots * slotSize / blockSize),
		Frame_size: slotSize, Frame_nr: uint32(slots),
	}
	if err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return fmt.Errorf("receive ring of %d slots: %w", slots, err)
	}
	return nil
}

// open maps the ring of a socket.
func (r *ring) open(fd, slots int) error {
	mem, err := unix.Mmap(fd, 0, slots*slotSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map receive ring: %w", err)
	}
	r.mem, r.mask = mem, uint32(slots-1)
	return nil
}

// lost is how much is known of where the kernel is, which it does not tell.
type lost uint8

const (
	placed  lost = iota
	unknown      // no slot is filled yet
	guessed      // another processor may be about to fill a slot before head
)

// forget gives every slot back. The kernel writes nothing meanwhile. Where it goes on it
// shows with its next frame.
func (r *ring) forget() {
	for i := range r.mask + 1 {
		atomic.StoreUint32(&r.header(i).Status, unix.TP_STATUS_KERNEL)
	}
	r.lost = unknown
}

func (r *ring) filled(i uint32) bool {
	return atomic.LoadUint32(&r.header(i).Status)&unix.TP_STATUS_USER != 0
}

// place finds the first of the slots that the kernel has filled since forget: the one
// whose predecessor is empty or, in a full ring, the one with the oldest frame. It takes
// two looks, a turn apart.
func (r *ring) place() {
	if r.lost == unknown {
		for i := range r.mask + 1 {
			if !r.filled(i) {
				continue
			}
			begins := !r.filled(i - 1)
			if begins || r.lost == unknown || r.older(i, r.head) {
				r.head, r.tail, r.lost = i, i, guessed
			}
			if begins {
				break
			}
		}
		return
	}
	for r.filled(r.head-1) && r.older(r.head-1, r.head) {
		r.head--
	}
	r.head &= r.mask
	r.tail, r.lost = r.head, placed
}

// older compares the times at which two slots were filled.
func (r *ring) older(a, b uint32) bool {
	x, y := r.header(a), r.header(b)
	return x.Sec < y.Sec || x.Sec == y.Sec && x.Nsec < y.Nsec
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

// scan counts the slots that are ready and for which the batch has room, at most n frames, of
// which as many have their frame on the receive queue as there is room for in so many places.
// The load of a status orders all later reads of the slot after the kernel's writes.
func (r *ring) scan(b *frame.Batch, n, room int) (ready, large int) {
	if r.lost != placed {
		if r.place(); r.lost != placed {
			return 0, 0
		}
	}
	for slots := int(r.mask) + 1 - int(r.head-r.tail); n > 0 && ready < slots && !b.Full(); {
		at := r.head + uint32(ready)
		h := r.header(at)
		status := atomic.LoadUint32(&h.Status)
		if status&unix.TP_STATUS_USER == 0 {
			break
		}
		queued, places := status&unix.TP_STATUS_COPY != 0, 1
		if queued {
			if places = placesOf(int(h.Len)); places > room || places > n {
				b.Leave()
				break
			}
			room -= places
		}
		var vnet []byte
		if i := int(h.Mac) - frame.Headroom; i >= vlanRoom && i+frame.Headroom <= slotSize {
			vnet = r.slot(at)[i:]
		}
		if !b.Take(min(int(h.Len), frame.MaxLen), vnet) {
			break
		}
		for range places - 1 {
			b.Charge(superPiece, vnet)
		}
		if queued {
			large++
		}
		n -= places
		ready++
	}
	return ready, large
}

// Receive implements Port. Small frames stay where the kernel put them; large
// ones, of which a slot holds the head only, wait on the socket's receive queue
// in the order of their slots and are copied to a.
func (p *Packet) Receive(b *frame.Batch, a *Arena) error {
	r := &p.ring
	ready, large := r.scan(b, frame.BatchSize-b.N, a.free())
	if ready == 0 {
		return nil
	}
	var queue [][]byte
	if large > 0 {
		queue = a.fetch(p.fd, r, large, p.link.room())
	}
	for range ready {
		slot, h := r.slot(r.head), r.header(r.head)
		r.head++
		at, n := int(h.Mac)-frame.Headroom, int(h.Len)
		switch {
		case h.Status&unix.TP_STATUS_COPY != 0:
			if len(queue) == 0 {
				p.truncated.Add(1)
				b.Refuse(int(h.Snaplen))
				continue
			}
			slot, at = queue[0], vlanRoom+p.link.room()
			queue = queue[1:]
			if len(slot) != at+frame.Headroom+n || p.link != nil && placesOf(n) > 1 {
				p.invalid.Add(1)
				b.Refuse(len(slot))
				continue
			}
			if placesOf(n) > 1 {
				if cutSuper(b, h, slot) {
					continue
				}
				if n > frame.MaxLen { // it lies in pieces, and is nothing that can be cut
					p.invalid.Add(1)
					b.Refuse(n)
					continue
				}
			}
		case h.Snaplen < h.Len:
			p.truncated.Add(1)
			b.Refuse(int(h.Snaplen))
			continue
		}
		if at < vlanRoom+p.link.room() || n < header.EthernetLen || at+frame.Headroom+n > len(slot) {
			p.invalid.Add(1)
			b.Refuse(n)
			continue
		}
		off, ok := frame.DecodeVnetHdr(slot[at:], n)
		if !ok {
			p.invalid.Add(1)
			b.Refuse(n)
			continue
		}
		end := at + frame.Headroom + n
		if p.link != nil {
			at -= header.EthernetLen
			if !p.link.lift(slot[at+frame.Headroom:end], &off) {
				p.invalid.Add(1)
				b.Refuse(n)
				continue
			}
		}
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

// fetch takes n messages from a socket's receive queue, whose slots are the next of the ring. A
// slice holds vlanRoom bytes and as many more, the virtio header and the frame; they are borrowed until Reset.
func (a *Arena) fetch(fd int, r *ring, n, more int) [][]byte {
	rx := &a.rx
	rx.used = 0
	for i, at := 0, r.head; i < n; at++ {
		h := r.header(at)
		if h.Status&unix.TP_STATUS_COPY == 0 {
			continue
		}
		if placesOf(int(h.Len)) > 1 {
			rx.bufs[i] = a.placeSuper(i, int(h.Len))
		} else {
			rx.bufs[i] = a.next()
			rx.set(i, rx.bufs[i][vlanRoom+more:])
		}
		i++
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
		// Longer than its places: no slot tells of such a frame.
		if rx.msgs[i].hdr.Flags&unix.MSG_TRUNC != 0 {
			rx.msgs[i].len = 0
		}
		rx.bufs[i] = rx.bufs[i][:vlanRoom+more+int(rx.msgs[i].len)]
	}
	return rx.bufs[:got]
}

// Release implements Port.
func (p *Packet) Release() {
	r := &p.ring
	if n := r.head - r.tail; n > 0 && p.tally != nil {
		r.taken += uint64(n)
		atomic.StoreUint64(&p.tally.Taken, r.taken)
	}
	for ; r.tail != r.head; r.tail++ {
		atomic.StoreUint32(&r.header(r.tail).Status, unix.TP_STATUS_KERNEL)
	}
}
