package frame

// What work costs, in nanoseconds of a worker's time. They are a model, not measurements:
// constants, so that the same frames cost the same everywhere and no clock is asked for
// each. BenchmarkCost in dataplane/port compares them with the machine it runs on; ADR 33
// has its figures.
const (
	costTake    = 800  // one frame through the stages
	costSend    = 1500 // a port's share of a system call, the device, and the receiver's stack
	costSegment = 400  // a segment that some device or stack has to cut off
	costKiB     = 100  // 1024 bytes moved once
	costSearch  = 2000 // one search for a masquerade port that is free, or a flow that gives one
)

// TakeCost is what it costs to take a frame of n bytes in and to decide about it.
func TakeCost(n int) int64 { return costTake + int64(n)*costKiB>>10 }

// SearchCost is what so many searches for a masquerade port cost beyond TakeCost.
func SearchCost(n int) int64 { return int64(n) * costSearch }

// SendCost is what it costs to hand a frame of n bytes to one port. Who cuts a super-frame
// the switch does not know, and for the sender it is all the same.
func (o *Offload) SendCost(n int) int64 {
	cost := costSend + int64(n)*costKiB>>10
	if o.GSOSize != 0 {
		cost += int64(o.segments(n)) * costSegment
	}
	return cost
}

// segments is how many frames a device makes of one of n bytes, its headers counted as
// payload.
func (o *Offload) segments(n int) int { return (n + int(o.GSOSize) - 1) / int(o.GSOSize) }

// A frame that is longer than most links take may have to be cut into packets of the least
// MTU of IPv6; what is sent in the end is counted where it is sent.
const slotFrame, leastMTU = 2048, 1280

// costOf is what it costs to carry a frame on to one port. One whose header cannot be true
// goes nowhere, and is not cut.
func costOf(n int, vnet []byte) int64 {
	var o Offload
	switch {
	case vnet == nil:
	case vnet[1] != GSONone:
		var ok bool
		if o, ok = DecodeVnetHdr(vnet, n); !ok {
			o = Offload{}
		}
	case n > slotFrame:
		return TakeCost(n) + o.SendCost(n) + int64(n/leastMTU)*costSend
	}
	return TakeCost(n) + o.SendCost(n)
}
