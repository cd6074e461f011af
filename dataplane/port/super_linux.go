package port

import (
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// A container that may set up its own device can have it send super-frames of up to 512 KiB
// (BIG TCP), and an administrator can have an uplink gather such. Nothing here ends at that size: the kernel cuts
// them at the next device that takes less, so that they need not be refused. They are read into
// several places at once, with room for the headers of a piece in front of each but the first,
// and go on as frames that every device takes.
const (
	// superPiece is how many bytes of a frame go into a place.
	superPiece = 65024
	// superHead is where they begin, behind what no headers of a piece fill.
	superHead = (vlanRoom + frame.Headroom + header.EthernetLen + 8 + 60 + 60 + 7) &^ 7
	// superPlaces bounds a frame: no device makes a longer one (GSO_MAX_SIZE).
	superPlaces = 9
	// plainMost is the longest frame whose IP header has a length for sure.
	plainMost = 65535 + header.EthernetLen
)

// placesOf is how many places a frame of n bytes takes, and how many frames it may become. A
// longer one than there can be is cut off in its place.
func placesOf(n int) int {
	if n <= plainMost || n > superPlaces*superPiece {
		return 1
	}
	return (n + superPiece - 1) / superPiece
}

// placeSuper takes the places of a frame of n bytes for the ith message, which has all of
// their memory. One that may be no super-packet lies in one piece.
func (a *Arena) placeSuper(i, n int) []byte {
	rx, places := &a.rx, placesOf(n)
	at := a.used * arenaSlot
	mem := a.mem[at : at+places*arenaSlot : at+places*arenaSlot]
	a.used += places
	if n <= frame.MaxLen {
		rx.set(i, mem[vlanRoom:arenaSlot])
		return mem
	}
	parts := rx.parts[rx.used : rx.used+places]
	rx.used += places
	for j := range parts {
		part := mem[j*arenaSlot+superHead:][:superPiece]
		if j == 0 {
			part = mem[vlanRoom:][:frame.Headroom+superPiece]
		}
		parts[j].Base = &part[0]
		parts[j].SetLen(len(part))
	}
	rx.msgs[i].hdr = unix.Msghdr{Iov: &parts[0], Iovlen: uint64(places)}
	return mem
}

// cutSuper puts a frame that fetch has put into several places into the batch, as several
// frames. It is false for what is no super-packet of TCP.
func cutSuper(b *frame.Batch, h *unix.Tpacket2Hdr, slot []byte) bool {
	n := len(slot) - vlanRoom - frame.Headroom
	slot = slot[:cap(slot)]
	first := slot[vlanRoom+frame.Headroom:]
	s, ok := header.ReadSuper(first[:superPiece])
	if !ok {
		return false
	}
	off, ok := frame.DecodeVnetHdr(slot[vlanRoom:], superPiece)
	if !ok || off.GSOType == frame.GSONone || int(off.CsumStart) != s.L4 || off.CsumOffset != header.TCPChecksum {
		return false
	}
	if n <= frame.MaxLen {
		copy(slot[arenaSlot+superHead:], first[superPiece:n])
	}
	off.CsumStart, off.HdrLen = off.CsumStart-uint16(s.Strip), uint16(s.Head())
	total, pieces, at := n-s.Payload, placesOf(n), b.N
	for range pieces {
		b.Next()
	}
	for i := pieces - 1; i >= 0; i-- {
		f := &b.Frames[at+i]
		place := slot[i*arenaSlot:][:arenaSlot:arenaSlot]
		from, to := i*superPiece-s.Payload, min((i+1)*superPiece-s.Payload, total)
		begin, end := superHead-s.Head()-frame.Headroom, superHead+to-from
		if f.Offload = off; i == 0 {
			from, begin, end = 0, vlanRoom+s.Strip, vlanRoom+frame.Headroom+superPiece
		} else {
			f.Offload.GSOType &^= frame.GSOECN // the first has told
		}
		if to-from <= int(off.GSOSize) {
			f.Offload.GSOType, f.Offload.GSOSize = frame.GSONone, 0
		}
		s.WriteHead(place[begin+frame.Headroom:], first, from, to, total, int(off.GSOSize), off.GSOType&frame.GSOECN != 0)
		if h.Status&unix.TP_STATUS_VLAN_VALID != 0 {
			begin -= vlanRoom
			restoreVLAN(place[begin+frame.Headroom:], h, &f.Offload)
		}
		f.Buf = place[begin:end:end]
	}
	return true
}
