package gen

import (
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// flowsPerAddr is the number of source ports that flows use with one source
// address.
const flowsPerAddr = 40_000

// nap is the longest wait that a paced stream spends spinning: beyond it the
// CPU is left to those who forward.
const nap = 60 * time.Microsecond

// stream is the frames of one batch and what changes in them from batch to
// batch.
type stream struct {
	spec    FrameSpec
	ipSize  int
	frames  [][]byte
	iovs    []unix.Iovec
	msgs    []mmsghdr
	stamped uint64 // frames that carried the time
}

func newStream(f FrameSpec) (*stream, error) {
	if f.Stamp > 0 && f.Size < markOffset+1+fcsSize {
		return nil, fmt.Errorf("frame of %d bytes: too short for a time", f.Size)
	}
	if f.Flows > 1 && int(f.From.Port())+min(f.Flows, flowsPerAddr) > 1<<16 {
		return nil, fmt.Errorf("%d flows from port %d: not enough ports above it", f.Flows, f.From.Port())
	}
	if f.Stamp > 0 && !f.From.Addr().Is4() {
		return nil, fmt.Errorf("frame from %s: times are for IPv4", f.From)
	}
	s := &stream{
		spec: f, ipSize: 20,
		frames: make([][]byte, frameBatch), iovs: make([]unix.Iovec, frameBatch), msgs: make([]mmsghdr, frameBatch),
	}
	if f.From.Addr().Is6() {
		s.ipSize = 40
	}
	one, err := f.build()
	if err != nil {
		return nil, err
	}
	if varies := f.Flows > 1 || f.Hops > 1 || f.Stamp > 0; varies && !f.SYN && f.GSO == 0 && !f.ARP {
		// No checksum, RFC 768: the generator is not to be what is measured.
		binary.BigEndian.PutUint16(one[etherSize+s.ipSize+6:], 0)
	}
	for i := range s.frames {
		s.frames[i] = one // the kernel copies it
		if f.Flows > 1 || f.MACs > 1 || f.Hops > 1 || f.Stamp > 0 || f.Echo || f.Fragment || f.Error {
			s.frames[i] = append([]byte(nil), one...)
		}
		s.iovs[i].Base = &s.frames[i][0]
		s.iovs[i].SetLen(len(one))
		s.msgs[i].hdr.Iov = &s.iovs[i]
		s.msgs[i].hdr.SetIovlen(1)
	}
	return s, nil
}

// prepare writes the frames that are due after elapsed, sent of them having
// gone, and returns their number. It waits a little when none is.
func (s *stream) prepare(sent uint64, elapsed time.Duration) int {
	count := frameBatch
	if s.spec.Rate > 0 {
		due := s.spec.Rate * elapsed.Seconds()
		if due < float64(sent)+1 {
			wait := time.Duration((float64(sent) + 1 - due) / s.spec.Rate * float64(time.Second))
			if wait > nap {
				ts := unix.NsecToTimespec((min(wait, 10*time.Millisecond) - nap/2).Nanoseconds())
				unix.Nanosleep(&ts, nil)
			}
			return 0
		}
		count = min(count, int(due-float64(sent)))
	}
	if s.spec.Frames > 0 && sent < s.spec.Frames {
		count = int(min(uint64(count), s.spec.Frames-sent))
	}
	for i := range count {
		s.vary(s.frames[i][s.spec.head():], sent+uint64(i))
	}
	if s.spec.Stamp > 0 {
		s.stamp(s.frames[:count], elapsed)
	}
	return count
}

// vary makes frame the nth of its stream.
func (s *stream) vary(frame []byte, n uint64) {
	if s.spec.ARP {
		s.spec.ask(frame, uint32(n%uint64(max(s.spec.Hops, 1))))
		return
	}
	if s.spec.Echo || s.spec.Fragment || s.spec.Error {
		s.spec.one(frame[etherSize:], uint16(n))
		return
	}
	if s.spec.Hops > 1 {
		s.setHop(frame[etherSize:], uint32(n%uint64(s.spec.Hops)))
	}
	if s.spec.Flows > 1 {
		s.setFlow(frame[etherSize:], n%uint64(s.spec.Flows))
	}
	if s.spec.MACs > 1 {
		if k := n % uint64(s.spec.MACs); k > 0 {
			frame[6], frame[7] = 0x02, 0xbe
			binary.BigEndian.PutUint32(frame[8:], uint32(k))
		} else {
			copy(frame[6:12], s.spec.Src)
		}
	}
}

// setFlow makes packet one of flow.
func (s *stream) setFlow(packet []byte, flow uint64) {
	binary.BigEndian.PutUint16(packet[s.ipSize:], s.spec.From.Port()+uint16(flow%flowsPerAddr))
	from := s.spec.From.Addr().AsSlice()
	low := from[len(from)-4:]
	binary.BigEndian.PutUint32(low, binary.BigEndian.Uint32(low)+uint32(flow/flowsPerAddr))
	if s.ipSize == 40 {
		copy(packet[8:], from)
	} else {
		copy(packet[12:], from)
		s.checkIP(packet)
	}
	if s.spec.SYN {
		s.spec.check(packet[:s.ipSize], packet[s.ipSize:])
	}
}

// setHop sends packet to one of the destinations.
func (s *stream) setHop(packet []byte, hop uint32) {
	to := s.spec.To.Addr().AsSlice()
	low := to[len(to)-4:]
	binary.BigEndian.PutUint32(low, binary.BigEndian.Uint32(low)+hop)
	if s.ipSize == 40 {
		copy(packet[24:], to)
		return
	}
	copy(packet[16:], to)
	s.checkIP(packet)
}

// checkIP writes the checksum of an IPv4 header.
func (s *stream) checkIP(packet []byte) {
	binary.BigEndian.PutUint16(packet[10:], 0)
	binary.BigEndian.PutUint16(packet[10:], ^sum(0, packet[:s.ipSize]))
}

// stamp writes the time into the first frame of a batch when one is due, and
// takes the mark from the others.
func (s *stream) stamp(frames [][]byte, elapsed time.Duration) {
	for _, f := range frames {
		f[markOffset] = 0
	}
	if float64(s.stamped) > s.spec.Stamp*elapsed.Seconds() {
		return
	}
	s.stamped++
	frames[0][markOffset] = 1
	binary.BigEndian.PutUint64(frames[0][timeOffset:], uint64(realtime()))
}

// realtime is the clock of the kernel's receive times, in nanoseconds.
func realtime() int64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_REALTIME, &ts)
	return ts.Nano()
}
