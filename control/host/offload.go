package host

import (
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// undescribable are the offloads, by their ethtool names, whose frames a
// virtio_net_hdr has no words for. It knows one TCP or UDP header to cut behind
// and one Internet checksum to finish (virtio_net_hdr_from_skb of
// linux/virtio_net.h); a packet socket refuses everything else or describes it as
// what it is not. With these off the sender's kernel cuts and sums such frames
// before they reach its veth. A finished segment of a tunnel whose inner checksum
// is partial can be described.
//
// A kernel knows those of its time, and a device may be unable to change some.
var undescribable = []string{
	// Two headers to cut behind.
	"tx-gre-segmentation",
	"tx-gre-csum-segmentation",
	"tx-ipxip4-segmentation",
	"tx-ipxip6-segmentation",
	"tx-udp_tnl-segmentation",
	"tx-udp_tnl-csum-segmentation",
	"tx-tunnel-remcsum-segmentation",
	"tx-gso-partial",
	// Neither TCP nor UDP.
	"tx-sctp-segmentation",
	"tx-esp-segmentation",
	"tx-fcoe-segmentation",
	// Segments with headers of their own.
	"tx-gso-list",
	// CWR and AE belong to every segment (RFC 9768); VIRTIO_NET_HDR_GSO_ECN sets
	// CWR on the first alone (RFC 3168).
	"tx-tcp-accecn-segmentation",
	// CRC32c and Ethernet's CRC-32: finished as an Internet checksum they are wrong.
	"tx-checksum-sctp",
	"tx-checksum-fcoe-crc",
}

// udpSegmentation (UDP_SEGMENT, which QUIC uses) is undescribable before Linux 6.2.
const udpSegmentation = "tx-udp-segmentation"

// The requests of linux/ethtool.h that the package makes, in full: there they end
// in arrays without a length.
type (
	ethtoolSsetInfo struct {
		cmd, _ uint32
		mask   uint64
		count  uint32 // of the one set in mask
	}
	ethtoolStrings struct {
		cmd, set, n uint32
		names       [maxFeatures][32]byte // ETH_GSTRING_LEN
	}
	ethtoolFeatures struct {
		cmd, words uint32
		set        [maxFeatures / 32]featureWord
	}
	featureWord struct{ valid, requested uint32 }
)

const (
	ethSSFeatures = 4   // ETH_SS_FEATURES
	maxFeatures   = 128 // the kernel's mask of features has 64 bits, or later two of them
)

// featureBits returns the request that turns the named features off, in the
// words of the running kernel; names it does not know are left out. Any
// interface can be asked: the bits are the same for all.
func (c *conn) featureBits(ifname string, names []string) (*ethtoolFeatures, error) {
	info := ethtoolSsetInfo{cmd: unix.ETHTOOL_GSSET_INFO, mask: 1 << ethSSFeatures}
	if err := c.ethtool(ifname, unsafe.Pointer(&info)); err != nil {
		return nil, err
	}
	if info.mask == 0 || info.count > maxFeatures {
		return nil, unix.EOPNOTSUPP
	}
	known := &ethtoolStrings{cmd: unix.ETHTOOL_GSTRINGS, set: ethSSFeatures, n: info.count}
	if err := c.ethtool(ifname, unsafe.Pointer(known)); err != nil {
		return nil, err
	}
	off := &ethtoolFeatures{cmd: unix.ETHTOOL_SFEATURES, words: (info.count + 31) / 32}
	for i := range info.count {
		if slices.Contains(names, text(known.names[i][:])) {
			off.set[i/32].valid |= 1 << (i % 32)
		}
	}
	return off, nil
}

// describable turns the undescribable offloads of an interface off. What the
// device cannot change is left as it is (ETHTOOL_F_UNSUPPORTED), and a kernel or
// a sandbox that refuses the whole is no reason to refuse the interface: only
// tunnels in the container are the poorer for it.
func (c *conn) describable(ifname string, off *ethtoolFeatures) {
	if off != nil {
		_ = c.ethtool(ifname, unsafe.Pointer(off)) // which the kernel only reads
	}
}

// ethtool makes a request about an interface of the conn's namespace: to the
// kernel an interface ioctl on a netlink socket is as good as on any other, and
// it is the socket's namespace that counts, not the thread's.
func (c *conn) ethtool(ifname string, request unsafe.Pointer) error {
	ifr := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte // struct ifreq is longer on 64 bits
	}{data: request}
	copy(ifr.name[:unix.IFNAMSIZ-1], ifname)
	c.mu.Lock()
	defer c.mu.Unlock()
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(c.fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr)))
	if errno != 0 {
		return errno
	}
	return nil
}
