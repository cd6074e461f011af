package port

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// What rtnetlink says of a TAP device (linux/if_link.h; since Linux 4.17).
const (
	iflaLinkInfo     = 18
	iflaInfoData     = 2
	iflaTunNumQueues = 8
)

// queues returns the number of queues that processes have attached. Linux 6.1
// does not say it to ethtool.
func (t *TAP) queues() (uint32, error) {
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(s)
	native := binary.NativeEndian
	name := append([]byte(t.name), 0)
	length := unix.SizeofNlMsghdr + unix.SizeofIfInfomsg + unix.SizeofRtAttr + len(name)
	ask := make([]byte, unix.SizeofNlMsghdr, length)
	native.PutUint32(ask, uint32(length))
	native.PutUint16(ask[4:], unix.RTM_GETLINK)
	native.PutUint16(ask[6:], unix.NLM_F_REQUEST)
	ask = append(ask, make([]byte, unix.SizeofIfInfomsg)...)
	ask = native.AppendUint16(ask, uint16(unix.SizeofRtAttr+len(name)))
	ask = native.AppendUint16(ask, unix.IFLA_IFNAME)
	ask = append(ask, name...)
	if err := unix.Sendto(s, ask, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, os.NewSyscallError("sendto", err)
	}
	answer := make([]byte, 32<<10)
	n, _, err := unix.Recvfrom(s, answer, 0)
	if err != nil {
		return 0, os.NewSyscallError("recvfrom", err)
	}
	answer = answer[:n]
	switch {
	case n < unix.SizeofNlMsghdr+unix.SizeofIfInfomsg:
		return 0, unix.EBADMSG
	case native.Uint16(answer[4:]) == unix.NLMSG_ERROR:
		return 0, unix.Errno(-int32(native.Uint32(answer[unix.SizeofNlMsghdr:])))
	}
	count := answer[unix.SizeofNlMsghdr+unix.SizeofIfInfomsg:]
	for _, typ := range []uint16{iflaLinkInfo, iflaInfoData, iflaTunNumQueues} {
		count = attribute(count, typ)
	}
	if len(count) < 4 {
		return 1, nil // the kernel does not say
	}
	return native.Uint32(count), nil
}

// attribute returns the value of a netlink attribute, nil when list has none of
// that type.
func attribute(list []byte, typ uint16) []byte {
	for len(list) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(list))
		if n < unix.SizeofRtAttr || n > len(list) {
			return nil
		}
		if binary.NativeEndian.Uint16(list[2:])&^unix.NLA_F_NESTED == typ {
			return list[unix.SizeofRtAttr:n]
		}
		list = list[min((n+3)&^3, len(list)):]
	}
	return nil
}
