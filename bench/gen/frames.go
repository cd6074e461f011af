package gen

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FrameSpec describes a stream of frames: UDP, unless SYN or GSO says otherwise.
type FrameSpec struct {
	Ifname string           `json:"ifname"`
	Src    net.HardwareAddr `json:"src_mac"`
	Dst    net.HardwareAddr `json:"dst_mac"`
	From   netip.AddrPort   `json:"from"`
	To     netip.AddrPort   `json:"to"`
	// Size is that of RFC 2544: with the 4 bytes of the frame check sequence,
	// which a packet socket does not see. 64 and up.
	Size int `json:"size"`
	// Rate is frames per second, 0 for as fast as they go.
	Rate float64 `json:"rate,omitempty"`
	// Flows is the number of flows that frames take turns in: 40,000 source ports
	// from From's up, then the next source address. 0 and 1 are one flow.
	Flows int `json:"flows,omitempty"`
	// MACs is the number of source addresses that they take turns with, made up
	// except the first. 0 and 1 leave all frames Src.
	MACs int `json:"macs,omitempty"`
	// Hops is the number of destinations that they take turns with, from To's address up.
	// 0 and 1 are To.
	Hops int `json:"hops,omitempty"`
	// SYN makes them TCP SYNs, with ACK SYN-ACKs, that nobody has asked for.
	SYN bool `json:"syn,omitempty"`
	ACK bool `json:"ack,omitempty"`
	// Fragment makes each the first piece of a datagram of its own, whose others never come.
	Fragment bool `json:"fragment,omitempty"`
	// Echo makes each an ICMP query of its own.
	Echo bool `json:"echo,omitempty"`
	// Error makes each an ICMP error about a flow of its own that nobody has.
	Error bool `json:"error,omitempty"`
	// ARP makes them questions for the addresses of the destinations.
	ARP bool `json:"arp,omitempty"`
	// GSO makes them TCP super-frames of 60 KB that belong to no connection, to be cut into
	// segments of so many bytes; Size is ignored.
	GSO int `json:"gso,omitempty"`
	// Datagrams makes super-frames of them that are cut into datagrams of UDP.
	Datagrams bool `json:"datagrams,omitempty"`
	// Frames ends the stream before its window does, 0 for no limit.
	Frames uint64 `json:"frames,omitempty"`
	// Stamp is the number of frames per second that carry the time they were
	// sent at, for a Clock.
	Stamp float64 `json:"stamp,omitempty"`
}

// Sent is what the generator put on the wire.
type Sent struct {
	Frames  uint64        `json:"frames"`  // accepted by the device
	Refused uint64        `json:"refused"` // ENOBUFS: the next queue was full
	Elapsed time.Duration `json:"elapsed"`
	CPU     time.Duration `json:"cpu"` // of the whole machine
}

// PerSecond is the offered rate.
func (s Sent) PerSecond() float64 { return float64(s.Frames) / s.Elapsed.Seconds() }

// Frames sends frames out of ns for window. What arrives is counted elsewhere,
// at the receiver's interface.
func Frames(ctx context.Context, ns Namespace, f FrameSpec, window time.Duration) (s Sent, err error) {
	return s, call(ctx, ns, Spec{Role: roleFrames, Frames: f, Window: window}, &s)
}

// frameBatch is the number of frames of one system call.
const frameBatch = 64

// mmsghdr is struct mmsghdr of the kernel.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

func frames(s Spec) (Sent, error) {
	st, err := newStream(s.Frames)
	if err != nil {
		return Sent{}, err
	}
	fd, err := packetSocket(s.Frames.Ifname)
	if err != nil {
		return Sent{}, err
	}
	defer unix.Close(fd)
	if s.Frames.GSO > 0 {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			return Sent{}, fmt.Errorf("frames on %s: super-frames: %w", s.Frames.Ifname, err)
		}
	}
	lockThread()
	// Sleeps of a paced stream are to end when they should, not 50 us later.
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	before, err := machineCPU()
	if err != nil {
		return Sent{}, err
	}
	var sent Sent
	begin := time.Now()
	for sent.Elapsed < s.Window && (s.Frames.Frames == 0 || sent.Frames < s.Frames.Frames) {
		count := st.prepare(sent.Frames+sent.Refused, sent.Elapsed)
		if count > 0 {
			n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&st.msgs[0])), uintptr(count), 0, 0, 0)
			switch errno {
			case 0:
				sent.Frames += uint64(n)
			case unix.ENOBUFS:
				// The frame was dropped at the device; the rest of the batch was not tried.
				sent.Refused++
			case unix.EINTR:
			default:
				return Sent{}, fmt.Errorf("frames on %s: %w", s.Frames.Ifname, errno)
			}
		}
		sent.Elapsed = time.Since(begin)
	}
	after, err := machineCPU()
	sent.CPU = after - before
	return sent, err
}

// packetSocket is a raw socket bound to ifname that receives nothing (protocol
// 0) and sends past the queueing discipline, straight to the driver.
func packetSocket(ifname string) (int, error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return -1, fmt.Errorf("frames on %s: %w", ifname, err)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("frames on %s: packet socket: %w", ifname, err)
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: ifi.Index})
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("frames on %s: %w", ifname, err)
	}
	return fd, nil
}

const (
	etherSize = 14
	fcsSize   = 4
	udpSize   = 8
)

// superSize is the payload of a super-frame, and quoteSize what an ICMP error says of a packet.
const (
	superSize = 60_000
	quoteSize = 28
)

// head is how many bytes precede the frame: the header of virtio.
func (f FrameSpec) head() int {
	if f.GSO > 0 {
		return 10
	}
	return 0
}

// build writes the frame: the headers, then zeros. Checksums are right, so that no guard
// on the way has a reason to drop it.
func (f FrameSpec) build() ([]byte, error) {
	if len(f.Src) != 6 || len(f.Dst) != 6 {
		return nil, fmt.Errorf("frame from %q to %q: not Ethernet addresses", f.Src, f.Dst)
	}
	if f.ARP {
		return f.question(), nil
	}
	ipSize, etherType, proto, l4Size := 20, uint16(unix.ETH_P_IP), byte(unix.IPPROTO_UDP), udpSize
	if f.From.Addr().Is6() {
		ipSize, etherType = 40, unix.ETH_P_IPV6
	}
	size := f.Size - fcsSize
	if f.SYN || f.GSO > 0 && !f.Datagrams {
		proto, l4Size = unix.IPPROTO_TCP, tcpSize
	}
	if f.GSO > 0 {
		size = etherSize + ipSize + l4Size + superSize
	}
	if size < etherSize+ipSize+l4Size {
		return nil, fmt.Errorf("frame of %d bytes: too short for its headers", f.Size)
	}
	whole := make([]byte, f.head()+size)
	b := whole[f.head():]
	copy(b, f.Dst)
	copy(b[6:], f.Src)
	binary.BigEndian.PutUint16(b[12:], etherType)
	ip, l4 := b[etherSize:], b[etherSize+ipSize:]
	if ipSize == 20 {
		ip[0], ip[8], ip[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		copy(ip[12:], f.From.Addr().AsSlice())
		copy(ip[16:], f.To.Addr().AsSlice())
		binary.BigEndian.PutUint16(ip[10:], ^sum(0, ip[:ipSize]))
	} else {
		ip[0], ip[6], ip[7] = 0x60, proto, 64
		binary.BigEndian.PutUint16(ip[4:], uint16(len(l4)))
		copy(ip[8:], f.From.Addr().AsSlice())
		copy(ip[24:], f.To.Addr().AsSlice())
	}
	binary.BigEndian.PutUint16(l4, f.From.Port())
	binary.BigEndian.PutUint16(l4[2:], f.To.Port())
	switch {
	case f.GSO > 0 && f.Datagrams:
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
		binary.BigEndian.PutUint16(l4[udpCheck:], f.pseudo(ip, l4))
		whole[0], whole[1] = 1, 5 // VIRTIO_NET_HDR_GSO_UDP_L4
		for i, v := range []int{etherSize + ipSize + udpSize, f.GSO, etherSize + ipSize, udpCheck} {
			binary.NativeEndian.PutUint16(whole[2+2*i:], uint16(v))
		}
	case f.GSO > 0:
		l4[12], l4[13], l4[14] = 5<<4, tcpACK, 2
		binary.BigEndian.PutUint16(l4[tcpCheck:], f.pseudo(ip, l4))
		whole[0], whole[1] = 1, 1 // VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4
		if ipSize == 40 {
			whole[1] = 4 // VIRTIO_NET_HDR_GSO_TCPV6
		}
		for i, v := range []int{etherSize + ipSize + tcpSize, f.GSO, etherSize + ipSize, tcpCheck} {
			binary.NativeEndian.PutUint16(whole[2+2*i:], uint16(v))
		}
	case f.SYN:
		l4[12], l4[13], l4[14] = 5<<4, tcpSYN, 0xff
		if f.ACK {
			l4[13] |= tcpACK
		}
		f.check(ip, l4)
	case f.Echo:
		ip[9] = unix.IPPROTO_ICMP
		clear(l4[:udpSize])
		l4[0] = 8 // RFC 792
		f.one(ip, 0)
	case f.Error:
		ip[9] = unix.IPPROTO_ICMP
		clear(l4)
		l4[0], l4[1] = 3, 1 // RFC 792: the host is not there
		f.one(ip, 0)
	case f.Fragment:
		ip[6] = 0x20 // more of them
		binary.BigEndian.PutUint16(l4[4:], uint16(2*len(l4)))
		f.one(ip, 0)
	default:
		binary.BigEndian.PutUint16(l4[4:], uint16(len(l4)))
		f.check(ip, l4)
	}
	return whole, nil
}

const (
	tcpSize, tcpCheck = 20, 16
	tcpSYN, tcpACK    = 0x02, 0x10
	udpCheck          = 6
)

// pseudo is the sum over the pseudo header of a packet.
func (f FrameSpec) pseudo(ip, l4 []byte) uint16 {
	proto, addrs := ip[9], ip[12:20]
	if ip[0]>>4 == 6 {
		proto, addrs = ip[6], ip[8:40]
	}
	return sum(uint32(proto)+uint32(len(l4)), addrs)
}

// check writes the checksum of UDP or TCP.
func (f FrameSpec) check(ip, l4 []byte) {
	at := udpCheck
	if f.SYN {
		at = tcpCheck
	}
	binary.BigEndian.PutUint16(l4[at:], 0)
	got := ^sum(uint32(f.pseudo(ip, l4)), l4)
	if got == 0 && !f.SYN {
		got = 0xffff // zero means none, RFC 768
	}
	binary.BigEndian.PutUint16(l4[at:], got)
}

// sum is the ones' complement sum of RFC 1071 over b, continued from acc.
func sum(acc uint32, b []byte) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		acc += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		acc += uint32(b[0]) << 8
	}
	for acc > 0xffff {
		acc = acc>>16 + acc&0xffff
	}
	return uint16(acc)
}
