package dataplane

import (
	"sync"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/share"
)

const (
	// waitingChunks is the memory for all frames that wait, 4 MiB.
	waitingChunks = 8192
	// waitingEach is what may wait for one next hop, in bytes of chunks: as much as
	// Linux keeps (net.ipv4.neigh.*.unres_qlen_bytes).
	waitingEach = 212_992
	// waitingHops is how many next hops are waited for. The kernel has room for 1024
	// neighbours (gc_thresh3), and they are the host's, too.
	waitingHops = 256
	waitingTime = 3 * time.Second

	resolveAgain = time.Second
	walkCost     = 5 // ns for each frame that is looked at to find which port has most
)

// waitingRoom holds copies of frames whose next hop's MAC address is not known
// yet. They run through the stages again when it is. Ports share its memory and the next
// hops: when there is no room, the port with the most gives its oldest.
type waitingRoom struct {
	mu     sync.Mutex
	mem    *chunks
	frames []waitingFrame // by their first chunk
	shares *share.Table   // of the memory
	index  map[awaited]int32
	hops   [waitingHops]waitingHop
	owners *share.Table // of the hops
	free   int32        // hops, by ready; -1: none
	ready  int32        // hops whose frames may go on, in a list, -1: none
	last   int32        // of it
	sums   [MaxPorts]int32
	asks   asks
}

// awaited is what frames wait for: the MAC address of a next hop, or the way out.
type awaited struct {
	hop NeighborKey
	way WayKey
}

// waitingHop is a next hop that frames wait for, or a way.
type waitingHop struct {
	key         awaited
	owner       frame.PortID // whose share it counts against
	first, last int32        // frames in the order in which they came, -1: none
	held        int          // bytes of chunks
	asked       bool
	since       int64 // when the kernel was asked, or should have been, ns
	next        int32 // hop that is free or ready
	link        share.Link
}

// waitingFrame is a frame without its bytes.
type waitingFrame struct {
	n          int // bytes, headroom included
	in         frame.PortID
	offload    frame.Offload
	hop        int32
	prev, next int32 // of the hop
	since      int64 // ns
	link       share.Link
}

// waitingFrames and waitingOwners are what the shares are of.
type (
	waitingFrames waitingRoom
	waitingOwners waitingRoom
)

func (r *waitingFrames) Link(i uint32) *share.Link { return &r.frames[i-1].link }
func (r *waitingFrames) Seen(uint32) uint32        { return 0 }
func (r *waitingOwners) Link(i uint32) *share.Link { return &r.hops[i-1].link }
func (r *waitingOwners) Seen(uint32) uint32        { return 0 }

func newWaitingRoom() *waitingRoom {
	r := &waitingRoom{
		mem: newChunks(waitingChunks), frames: make([]waitingFrame, waitingChunks),
		index: make(map[awaited]int32, waitingHops), free: -1, ready: -1, last: -1,
	}
	r.shares = share.New((*waitingFrames)(r), MaxPorts, 0)
	r.owners = share.New((*waitingOwners)(r), MaxPorts, 0)
	for i := range r.hops {
		r.hops[i].next, r.free = r.free, int32(i)
	}
	return r
}

// wait copies a frame into the waiting room and asks for its next hop, or its way. The
// frame itself leaves the turn; it is not counted as dropped when it waits.
func (w *worker) wait(r *routed, key awaited) DropReason {
	room := w.sw.waiting
	room.mu.Lock()
	defer room.mu.Unlock()
	in, need := r.f.In, chunksOf(len(r.f.Buf))
	at := room.hopLocked(w, key, in)
	if at < 0 {
		return DropNoNeighbor
	}
	h := &room.hops[at]
	room.askLocked(w.sw, h, in, w.now)
	for h.held+need*chunkSize > waitingEach && h.first >= 0 {
		i := room.mostOfLocked(w, h, in)
		room.shares.Gave(int(room.frames[i].in))
		room.evictLocked(w, i)
	}
	for room.mem.left < need {
		i, tenant := room.shares.Victim(int(in))
		if i == 0 {
			room.shares.Refuse(int(in))
			return DropNoNeighbor
		}
		room.shares.Gave(tenant)
		room.evictLocked(w, int32(i-1))
	}
	i := room.mem.keep(r.f.Buf)
	room.frames[i] = waitingFrame{n: len(r.f.Buf), in: in, offload: r.f.Offload, hop: at, prev: h.last, next: -1, since: w.now}
	if h.last >= 0 {
		room.frames[h.last].next = i
	} else {
		h.first = i
	}
	h.last = i
	h.held += need * chunkSize
	room.shares.Enter(uint32(i+1), int(in), 0, need*chunkSize)
	return deferred
}

// deferred is not a reason: the frame waits and is neither sent nor dropped.
const deferred DropReason = 0xff

// hopLocked finds a next hop, or makes one for a port.
func (room *waitingRoom) hopLocked(w *worker, key awaited, in frame.PortID) int32 {
	if i, ok := room.index[key]; ok {
		// It counts against the one with the least of those who use it, or somebody with
		// very many could have it pushed out under the others.
		h := &room.hops[i]
		if h.owner != in && room.owners.Held(int(h.owner)) > room.owners.Held(int(in))+1 {
			room.owners.Leave(uint32(i+1), int(h.owner), 0, 1)
			h.owner = in
			room.owners.Enter(uint32(i+1), int(in), 0, 1)
		}
		return i
	}
	for room.free < 0 {
		i, tenant := room.owners.Victim(int(in))
		if i == 0 { // the frames of all hops may go on
			room.owners.Refuse(int(in))
			return -1
		}
		room.owners.Gave(tenant)
		room.forgetLocked(w, int32(i-1))
	}
	i := room.free
	h := &room.hops[i]
	room.free = h.next
	*h = waitingHop{key: key, owner: in, first: -1, last: -1, since: w.now, next: -1}
	room.index[key] = i
	room.owners.Enter(uint32(i+1), int(in), 0, 1)
	return i
}

// mostOfLocked is the oldest frame at a next hop of the port that has most there, of the
// asker's when it has as much.
func (room *waitingRoom) mostOfLocked(w *worker, h *waitingHop, asker frame.PortID) int32 {
	most := asker
	for i := h.first; i >= 0; i = room.frames[i].next {
		f := &room.frames[i]
		room.sums[f.in] += int32(f.n)
		if room.sums[f.in] > room.sums[most] {
			most = f.in
		}
		w.left -= walkCost
	}
	found := int32(-1)
	for i := h.first; i >= 0; i = room.frames[i].next {
		f := &room.frames[i]
		room.sums[f.in] = 0
		if f.in == most && found < 0 {
			found = i
		}
	}
	return found
}

// evictLocked drops a frame that waits.
func (room *waitingRoom) evictLocked(w *worker, i int32) {
	f := &room.frames[i]
	w.count(f.in, DropNoNeighbor)
	room.recordLocked(w.sw, i, w.now)
	room.takeLocked(i)
}

// recordLocked tells captures that a frame waited in vain.
func (room *waitingRoom) recordLocked(s *Switch, i int32, now int64) {
	if s.mirrors.Load() == nil {
		return
	}
	f := &room.frames[i]
	buf := make([]byte, f.n)
	room.mem.read(i, buf)
	s.recordEnd(buf, f.offload, f.in, DropNoNeighbor, now)
}

// takeLocked takes a frame out.
func (room *waitingRoom) takeLocked(i int32) {
	f := &room.frames[i]
	h, size := &room.hops[f.hop], chunksOf(f.n)*chunkSize
	if f.prev >= 0 {
		room.frames[f.prev].next = f.next
	} else {
		h.first = f.next
	}
	if f.next >= 0 {
		room.frames[f.next].prev = f.prev
	} else {
		h.last = f.prev
	}
	h.held -= size
	room.shares.Leave(uint32(i+1), int(f.in), 0, size)
	room.mem.release(i)
}
