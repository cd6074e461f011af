package gen

import (
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Where a stamped IPv4 frame has its time and its mark.
const (
	timeOffset = etherSize + 20 + udpSize
	markOffset = timeOffset + 8
)

// clockBuffer holds what arrives during one measurement, about 1 KiB a frame:
// nobody reads meanwhile, as a reader would need the CPU that forwards.
const clockBuffer = 32 << 20

// Clock is a packet socket that keeps the stamped frames arriving at one
// interface, each with the kernel's own time of its arrival there. Used by one
// goroutine.
type Clock struct{ fd int }

// Latency is the time from the generator's system call to the receiving
// interface.
type Latency struct {
	Count    int
	P50, P99 time.Duration
}

// OpenClock opens a clock in the namespace of the calling thread.
func OpenClock(ifname string) (*Clock, error) {
	ifi, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil, fmt.Errorf("clock on %s: %w", ifname, err)
	}
	// Protocol 0 until the filter is there: nothing comes in before.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("clock on %s: packet socket: %w", ifname, err)
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, clockBuffer); err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	}
	if err == nil {
		err = onlyStamped(fd)
	}
	if err == nil {
		all := uint16(unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00)
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifi.Index})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("clock on %s: %w", ifname, err)
	}
	return &Clock{fd}, nil
}

// onlyStamped accepts IPv4 UDP with the mark, and of it what holds the time.
func onlyStamped(fd int) error {
	const (
		loadHalf = unix.BPF_LD | unix.BPF_H | unix.BPF_ABS
		loadByte = unix.BPF_LD | unix.BPF_B | unix.BPF_ABS
		ifEqual  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		accept   = unix.BPF_RET | unix.BPF_K // this many bytes
	)
	filter := []unix.SockFilter{
		{Code: loadHalf, K: 12},
		{Code: ifEqual, K: unix.ETH_P_IP, Jf: 5},
		{Code: loadByte, K: etherSize + 9},
		{Code: ifEqual, K: unix.IPPROTO_UDP, Jf: 3},
		{Code: loadByte, K: markOffset},
		{Code: ifEqual, K: 1, Jf: 1},
		{Code: accept, K: markOffset + 1},
		{Code: accept, K: 0},
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
}

// Read takes everything that has arrived.
func (c *Clock) Read() (Latency, error) {
	var times []time.Duration
	buf, oob := make([]byte, 256), make([]byte, 256)
	for {
		n, oobn, _, _, err := unix.Recvmsg(c.fd, buf, oob, 0)
		switch err {
		case nil:
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return quantiles(times)
		default:
			return Latency{}, fmt.Errorf("clock: %w", err)
		}
		if at, ok := arrival(oob[:oobn]); ok && n > markOffset {
			times = append(times, at-time.Duration(binary.BigEndian.Uint64(buf[timeOffset:])))
		}
	}
}

// arrival is the kernel's time of a datagram since the epoch.
func arrival(oob []byte) (time.Duration, bool) {
	cs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0, false
	}
	for _, c := range cs {
		if c.Header.Level == unix.SOL_SOCKET && c.Header.Type == unix.SCM_TIMESTAMPNS && len(c.Data) >= int(unsafe.Sizeof(unix.Timespec{})) {
			ts := (*unix.Timespec)(unsafe.Pointer(&c.Data[0]))
			return time.Duration(ts.Nano()), true
		}
	}
	return 0, false
}

func quantiles(times []time.Duration) (Latency, error) {
	if len(times) == 0 {
		return Latency{}, fmt.Errorf("clock: no frame with a time in it arrived")
	}
	slices.Sort(times)
	at := func(q float64) time.Duration { return times[int(q*float64(len(times)-1))] }
	return Latency{Count: len(times), P50: at(0.5), P99: at(0.99)}, nil
}

// Close closes the socket.
func (c *Clock) Close() error { return unix.Close(c.fd) }
