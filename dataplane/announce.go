package dataplane

import (
	"sync"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

const (
	// announcedRoom is how many frames may wait to be announced.
	announcedRoom = 256
	// announceTimes is how often an address is announced, with a second between, as Docker does by
	// default (advertise_addr_nmsgs and advertise_addr_ms).
	announceTimes = 3
)

// announcement is an address that a station has.
type announcement struct {
	in   frame.PortID
	mac  header.MAC
	addr header.Addr
	left int // times
}

// announcements are frames that stations would send. Nobody waits: one without room is not sent.
type announcements struct {
	due chan announcement

	mu    sync.Mutex
	again []announcement
}

// Announce says on behalf of a station, by its port, that it has an address, as its kernel would
// (RFC 5227, 3; RFC 4861, 7.2.6): who knew another station by that address learns of it. The stages
// take the frames as if they had just come in there.
func (s *Switch) Announce(in frame.PortID, mac header.MAC, addr header.Addr) {
	s.announce(announcement{in, mac, addr, announceTimes})
}

func (s *Switch) announce(a announcement) {
	select {
	case s.announced.due <- a:
		s.workers[0].poller.Wake()
	default:
	}
	if a.left--; a.left > 0 {
		s.announced.mu.Lock()
		s.announced.again = append(s.announced.again, a)
		s.announced.mu.Unlock()
	}
}

// announceAgain is called once a second. A station that has gone, or has another address, is not
// announced again.
func (s *Switch) announceAgain() {
	s.announced.mu.Lock()
	list := s.announced.again
	s.announced.again = nil
	s.announced.mu.Unlock()
	sn := s.snapshot.Load()
	for _, a := range list {
		if h := sn.stations[a.addr]; h != nil && h.port == a.in && h.mac == a.mac {
			s.announce(a)
		}
	}
}

// collectAnnounced moves frames that are announced into the batch.
func (w *worker) collectAnnounced() {
	for !w.batch.Full() {
		select {
		case a := <-w.sw.announced.due:
			data := header.Announcement(a.mac, a.addr)
			f := w.batch.Next()
			f.Buf = w.arena.Alloc(len(data))
			copy(f.Data(), data)
			f.In, f.Offload = a.in, frame.Offload{}
			frame.EncodeVnetHdr(f.Buf, f.Offload)
			w.batch.Charge(f.Len(), f.Buf)
		default:
			return
		}
	}
	w.poller.Wake() // there may be more
}
