package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/vswitch/vswitch/control/api"
)

// Capture is a running capture. One reader.
type Capture interface {
	// Interfaces are the names of the ports; Frame.Interface counts in them.
	Interfaces() []string
	// Next waits for a frame. ok is false once the capture has ended by itself;
	// the error is ctx's.
	Next(ctx context.Context) (f Frame, ok bool, err error)
	// Dropped is the number of frames lost because the reader was slow.
	Dropped() uint64
	Close()
}

// Frame is one captured frame.
type Frame struct {
	Time      time.Time
	Interface int
	Out       bool // left the switch at this interface; otherwise it came in
	Data      []byte
	OrigLen   int
}

// flushPeriod is how long a frame may wait for others before the client sees it,
// and flushQuiet how long when no other comes.
const (
	flushPeriod = 100 * time.Millisecond
	flushQuiet  = 2 * time.Millisecond
)

// capture answers GET /v1/capture?name=web&name=db&snaplen=128 with pcapng until
// the client goes away.
func (s *server) capture(w http.ResponseWriter, r *http.Request) {
	snap := 0
	if v := r.URL.Query().Get("snaplen"); v != "" {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			s.refuse(w, fmt.Errorf("%w: snaplen %q is not a number of bytes", api.ErrInvalid, v))
			return
		}
		snap = int(n)
	}
	c, err := s.Backend.Capture(r.Context(), r.URL.Query()["name"], snap)
	if err != nil {
		s.refuse(w, err)
		return
	}
	defer c.Close()
	// ReadTimeout would end the request in the middle.
	http.NewResponseController(w).SetReadDeadline(time.Time{})
	w.Header().Set("Content-Type", "application/x-pcapng")
	w.WriteHeader(http.StatusOK)
	if err := stream(r.Context(), w, c, snap); err != nil && r.Context().Err() == nil {
		s.log.Debug("capture ended", "err", err)
	}
}

// stream writes frames until ctx, the capture or the client ends.
func stream(ctx context.Context, w http.ResponseWriter, c Capture, snap int) error {
	ng, err := newWriter(w, c.Interfaces(), snap)
	if err != nil {
		return err
	}
	flusher := http.NewResponseController(w)
	flush := func() error {
		if err := ng.Flush(); err != nil {
			return err
		}
		return flusher.Flush()
	}
	// The header goes out at once: it tells the client that the capture runs.
	if err := flush(); err != nil {
		return err
	}
	var lost uint64
	last := time.Now()
	for {
		// With something unflushed wait no longer than for the next of a burst.
		wait, cancel := ctx, context.CancelFunc(func() {})
		if !last.IsZero() {
			wait, cancel = context.WithTimeout(ctx, flushQuiet)
		}
		f, ok, err := c.Next(wait)
		cancel()
		if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
			if err := flush(); err != nil {
				return err
			}
			last = time.Time{}
			continue
		}
		if err != nil || !ok {
			return errors.Join(err, flush())
		}
		var o pcapgo.NgPacketOptions
		o.Flags = &pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlagDirectionInbound}
		if f.Out {
			o.Flags.Direction = pcapgo.NgEpbFlagDirectionOutbound
		}
		if d := c.Dropped(); d > lost {
			n := d - lost
			o.DropCount, lost = &n, d
		}
		ci := gopacket.CaptureInfo{Timestamp: f.Time, CaptureLength: len(f.Data), Length: f.OrigLen, InterfaceIndex: f.Interface}
		if err := ng.WritePacketWithOptions(ci, f.Data, o); err != nil {
			return err
		}
		if last.IsZero() {
			last = time.Now()
		} else if time.Since(last) >= flushPeriod {
			if err := flush(); err != nil {
				return err
			}
			last = time.Time{}
		}
	}
}

// newWriter writes the section header and one interface for each port.
func newWriter(w http.ResponseWriter, names []string, snap int) (*pcapgo.NgWriter, error) {
	var ng *pcapgo.NgWriter
	for i, name := range names {
		nic := pcapgo.NgInterface{Name: name, LinkType: layers.LinkTypeEthernet, SnapLength: uint32(snap), TimestampResolution: 9}
		var err error
		if i == 0 {
			ng, err = pcapgo.NewNgWriterInterface(w, nic, pcapgo.NgWriterOptions{
				SectionInfo: pcapgo.NgSectionInfo{OS: "linux", Application: "vswitch"},
			})
		} else {
			_, err = ng.AddInterface(nic)
		}
		if err != nil {
			return nil, err
		}
	}
	if ng == nil {
		return nil, errors.New("capture of no port")
	}
	return ng, nil
}
