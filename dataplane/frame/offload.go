package frame

import (
	"encoding/binary"

	"github.com/vswitch/vswitch/dataplane/header"
)

// VnetHdrLen is the size of struct virtio_net_hdr, without the num_buffers of
// merged receive buffers: what PACKET_VNET_HDR and IFF_VNET_HDR use.
const VnetHdrLen = 10

// GSO types of linux/virtio_net.h.
const (
	GSONone  uint8 = 0
	GSOTCPv4 uint8 = 1
	GSOUDP   uint8 = 3 // UFO
	GSOTCPv6 uint8 = 4
	GSOUDPL4 uint8 = 5
	GSOECN   uint8 = 0x80
)

const (
	vnetNeedsCsum uint8 = 1
	vnetDataValid uint8 = 2
)

// Csum is how far the transport checksum of a frame has got.
type Csum uint8

const (
	// CsumComplete: the checksum field holds the finished checksum, unverified.
	CsumComplete Csum = iota
	// CsumPartial: the field at CsumStart+CsumOffset holds the pseudo-header
	// sum, uncomplemented; the rest is summed by whoever needs finished bytes.
	CsumPartial
	// CsumValid: finished and verified by the sender's device.
	CsumValid
)

// Offload holds the virtio_net_hdr facts of a frame.
type Offload struct {
	Csum       Csum
	GSOType    uint8
	GSOSize    uint16 // payload bytes per segment, 0 iff GSOType is GSONone
	HdrLen     uint16 // a hint, may be wrong or 0
	CsumStart  uint16 // from the Ethernet header; valid iff CsumPartial
	CsumOffset uint16
}

// DecodeVnetHdr reads a virtio_net_hdr in host byte order (the only order that
// PACKET_VNET_HDR and a TAP without TUNSETVNETLE use; the hosts served are
// little-endian). ok is false when the facts cannot be true of a frame of
// frameLen bytes, as a hostile sender behind a TAP may claim: such a frame
// must be dropped. See linux/virtio_net.h, virtio_net_hdr_to_skb.
func DecodeVnetHdr(h []byte, frameLen int) (o Offload, ok bool) {
	_ = h[VnetHdrLen-1]
	o.GSOType = h[1]
	o.HdrLen = binary.NativeEndian.Uint16(h[2:])
	o.GSOSize = binary.NativeEndian.Uint16(h[4:])
	switch {
	case h[0]&vnetNeedsCsum != 0:
		o.Csum = CsumPartial
		o.CsumStart = binary.NativeEndian.Uint16(h[6:])
		o.CsumOffset = binary.NativeEndian.Uint16(h[8:])
		if int(o.CsumStart) < header.EthernetLen ||
			int(o.CsumStart)+int(o.CsumOffset)+2 > frameLen {
			return o, false
		}
	case h[0]&vnetDataValid != 0:
		o.Csum = CsumValid
	}
	switch o.GSOType &^ GSOECN {
	case GSONone:
		o.GSOSize = 0
		return o, o.GSOType == GSONone
	case GSOTCPv4, GSOTCPv6:
		// Segmentation needs a checksum to fill in and a size to cut at.
		return o, o.GSOSize >= minTCPSegment && o.Csum == CsumPartial && int(o.GSOSize)*maxTCPSegments >= frameLen-int(o.CsumStart)-20
	case GSOUDPL4, GSOUDP:
		return o, o.Csum == CsumPartial && int(o.GSOSize)*maxUDPSegments >= frameLen-int(o.CsumStart)-8
	}
	return o, false
}

// What segments are bounded by: TCP_MIN_GSO_SIZE (net/tcp.h), UDP_MAX_SEGMENTS
// (linux/udp.h), and for TCP a fraction of a turn. The kernel would cut one frame into
// 8,000 segments, three milliseconds of work. The least path MTU that Linux believes in is
// 552 (net.ipv4.route.min_pmtu): 64 KiB are 132 segments of it, less what TCP's options take.
const (
	minTCPSegment  = 8
	maxTCPSegments = 136
	maxUDPSegments = 128
)

// Fits reports whether the facts can be true of a frame whose headers are l. A
// partial checksum is a place that whoever finishes it writes to: a hostile
// sender could have the last device overwrite an address or a port that the
// switch has decided about. So it has to be the checksum field of the transport
// header, or to lie behind that header, in a tunnel's payload.
func (o *Offload) Fits(l *header.Layers) bool {
	if o.Csum != CsumPartial {
		return true // and GSONone, by DecodeVnetHdr
	}
	if l.Kind < header.KindIP || l.L4 == 0 || l.Flags&header.FlagFragment != 0 {
		return false
	}
	proto, behind := l.Tuple.Proto, int(o.CsumStart)-int(l.L4)
	switch {
	case behind < 0:
		return false
	case behind == 0:
		if o.CsumOffset != checksumField(proto) {
			return false
		}
	case proto == header.ProtoTCP, l.Kind == header.KindL4 && behind < 8, behind < 4: // of UDP, of GRE
		return false
	}
	switch o.GSOType &^ GSOECN {
	case GSOTCPv4:
		return behind == 0 && proto == header.ProtoTCP && l.Flags&header.FlagIPv6 == 0
	case GSOTCPv6:
		return behind == 0 && proto == header.ProtoTCP && l.Flags&header.FlagIPv6 != 0
	case GSOUDPL4, GSOUDP:
		return behind == 0 && proto == header.ProtoUDP
	}
	return true
}

// checksumField is the offset of the checksum in a transport header, one that no
// frame is long enough for where there is nothing to sum partially.
func checksumField(proto uint8) uint16 {
	switch proto {
	case header.ProtoTCP:
		return 16
	case header.ProtoUDP, 136, 33: // UDP-Lite, DCCP
		return 6
	case header.ProtoICMPv6:
		return 2
	case 132: // SCTP
		return 8
	}
	return 0xffff
}

// EncodeVnetHdr writes o to the VnetHdrLen bytes of h.
func EncodeVnetHdr(h []byte, o Offload) {
	_ = h[VnetHdrLen-1]
	*(*[VnetHdrLen]byte)(h) = [VnetHdrLen]byte{1: o.GSOType}
	binary.NativeEndian.PutUint16(h[2:], o.HdrLen)
	binary.NativeEndian.PutUint16(h[4:], o.GSOSize)
	switch o.Csum {
	case CsumPartial:
		h[0] = vnetNeedsCsum
		binary.NativeEndian.PutUint16(h[6:], o.CsumStart)
		binary.NativeEndian.PutUint16(h[8:], o.CsumOffset)
	case CsumValid:
		h[0] = vnetDataValid
	}
}
