package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/pcapng"
	"github.com/vswitch/vswitch/control/readers"
)

// CaptureConfig says what a capture is asked for.
type CaptureConfig struct {
	// Targets are containers by name, "container:NAME", "network:NAME", "uplink",
	// "uplink:IF" or "all"; none is all.
	Targets []string
	Filter  string   // of pcap-filter(7), "" takes all
	Points  []string // rx, tx, drop, prenat, postnat; none: rx and tx
	SnapLen int      // bytes kept of each frame, 0: all
	Segment bool     // super-frames are cut to wire size
	Wait    bool     // a target may come later
	// Last, unless 0, asks for what the recorder has of the time until now.
	Last time.Duration
}

// Capture is a running capture. One reader.
type Capture interface {
	// Next waits for a frame. ok is false once the capture has ended and all is
	// read; the error is ctx's.
	Next(ctx context.Context) (f Frame, ok bool, err error)
	// Ready returns the next frame if it is there.
	Ready() (f Frame, ok bool)
	// Doze waits for that time, or less when many frames are there.
	Doze(time.Duration)
	// Interfaces are the places of frames so far; Frame.Interface counts in them.
	// More come at the end while the capture runs.
	Interfaces() []pcapng.Interface
	// Names are the known addresses so far, likewise.
	Names() []Name
	// Counts are the numbers of frames that an interface's filter took and of
	// those that were lost because the reader was slow.
	Counts(iface int) (taken, lost uint64)
	// Close ends the capture. It may be called more than once and beside Next.
	Close()
	// Release gives back what the reader holds for it, when nothing is read any more.
	Release()
}

// Name is what an address is called.
type Name struct {
	Addr netip.Addr
	Name string
}

// Frame is one captured frame.
type Frame struct {
	Time      time.Time
	Interface int
	Direction pcapng.Direction
	Data      []byte
	OrigLen   int
	Comment   string // what the switch decided
}

// flushPeriod is how long a frame may wait for others before the client sees it,
// and flushQuiet how long when no other comes. Between two looks at a slow capture
// lies gatherPause; one that had gatherBusy bytes since the last look is not slow.
const (
	flushPeriod = 100 * time.Millisecond
	flushQuiet  = 2 * time.Millisecond
	gatherPause = 16 * time.Millisecond
	gatherBusy  = 64 << 10
)

// captures are the running ones, to be ended by their number.
type captures struct {
	mu   sync.Mutex
	last uint64
	open map[string]Capture
}

func (s *captures) add(c Capture) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[string]Capture)
	}
	s.last++
	id := strconv.FormatUint(s.last, 10)
	s.open[id] = c
	return id
}

func (s *captures) remove(id string) Capture {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.open[id]
	delete(s.open, id)
	return c
}

// capture answers GET /v1/capture?target=web&filter=tcp with pcapng until the
// capture is ended or the client goes away.
func (s *server) capture(w http.ResponseWriter, r *http.Request) {
	cfg, err := captureConfig(r.URL.Query())
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	c, err := s.Backend.Capture(r.Context(), cfg)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	defer c.Release()
	defer c.Close()
	id := s.captures.add(c)
	defer s.captures.remove(id)
	s.log.Info("capture begins", "of", cfg.Targets, "by", readers.From(r.Context()).String(), "pid", readers.Process(r.Context()), "filter", cfg.Filter)
	// ReadTimeout would end the request in the middle.
	http.NewResponseController(w).SetReadDeadline(time.Time{})
	w.Header().Set("Content-Type", "application/x-pcapng")
	w.Header().Set("Vswitch-Capture", id)
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return // it would go on for nobody
	}
	st := stream{c: c, rc: http.NewResponseController(w), start: time.Now()}
	if err := st.run(r.Context(), w); err != nil && r.Context().Err() == nil {
		s.log.Debug("capture ended", "err", err)
	}
}

// endCapture answers DELETE /v1/capture/{id}: the stream ends behind what was
// captured until now.
func (s *server) endCapture(w http.ResponseWriter, r *http.Request) {
	c := s.captures.remove(r.PathValue("id"))
	if c == nil {
		s.refuse(w, r, fmt.Errorf("capture %s: %w: it has ended", r.PathValue("id"), api.ErrNotFound))
		return
	}
	c.Close()
	w.WriteHeader(http.StatusNoContent)
}

func captureConfig(q url.Values) (cfg CaptureConfig, err error) {
	bad := func(name, what string) error {
		return fmt.Errorf("%w: %s %q is not %s", api.ErrInvalid, name, q.Get(name), what)
	}
	cfg.Targets, cfg.Filter, cfg.Points = q["target"], q.Get("filter"), q["point"]
	if v := q.Get("snaplen"); v != "" {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return cfg, bad("snaplen", "a number of bytes")
		}
		cfg.SnapLen = int(n)
	}
	for name, b := range map[string]*bool{"segment": &cfg.Segment, "wait": &cfg.Wait} {
		if v := q.Get(name); v != "" {
			if *b, err = strconv.ParseBool(v); err != nil {
				return cfg, bad(name, "true or false")
			}
		}
	}
	if v := q.Get("last"); v != "" {
		if cfg.Last, err = time.ParseDuration(v); err != nil || cfg.Last <= 0 {
			return cfg, bad("last", "a time such as 30s")
		}
	}
	return cfg, nil
}

// stream writes a capture as pcapng.
type stream struct {
	c     Capture
	ng    *pcapng.Writer
	out   *bufio.Writer
	rc    *http.ResponseController
	start time.Time

	ifaces, names int // written so far
	delivered     []uint64
	lost          []uint64 // as last written
}

// run writes frames until ctx, the capture or the client ends.
func (s *stream) run(ctx context.Context, w http.ResponseWriter) error {
	s.out = bufio.NewWriterSize(w, 64<<10)
	var err error
	if s.ng, err = pcapng.NewWriter(s.out, "vswitch"); err != nil {
		return err
	}
	// The header goes out at once: it tells the client that the capture runs.
	if err := s.flush(false); err != nil {
		return err
	}
	for {
		wait, cancel := context.WithTimeout(ctx, flushPeriod)
		f, ok, err := s.c.Next(wait)
		cancel()
		switch {
		case err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded):
			// No frame; interfaces may have come.
		case err != nil:
			return err
		case !ok:
			return s.flush(true)
		default:
			if err := s.packet(f); err != nil {
				return err
			}
			if err := s.gather(); err != nil {
				return err
			}
		}
		if err := s.flush(false); err != nil {
			return err
		}
	}
}

// gather takes what comes behind a frame, until it is quiet or time to flush. It
// looks from time to time: to be woken for each frame would cost the worker that
// forwards it, and with it all other ports, more than the frame does.
func (s *stream) gather() error {
	pause := flushQuiet
	for begin := time.Now(); time.Since(begin) < flushPeriod; {
		if pause > 0 {
			s.c.Doze(pause)
		}
		got, busy := 0, 0
		for f, ok := s.c.Ready(); ok; f, ok = s.c.Ready() {
			if err := s.packet(f); err != nil {
				return err
			}
			got += len(f.Data)
			if busy += len(f.Data); busy > gatherBusy {
				if busy = 0; time.Since(begin) >= flushPeriod {
					return nil
				}
			}
		}
		switch {
		case got == 0:
			return nil
		case got > gatherBusy:
			pause = 0
		default:
			pause = min(max(2*pause, flushQuiet), gatherPause)
		}
	}
	return nil
}

func (s *stream) packet(f Frame) error {
	if f.Interface >= s.ifaces {
		if err := s.describe(); err != nil {
			return err
		}
	}
	s.delivered[f.Interface]++
	return s.ng.WritePacket(pcapng.Packet{
		Time: f.Time, Interface: f.Interface, Direction: f.Direction, Data: f.Data, OrigLen: f.OrigLen, Comment: f.Comment,
	})
}

// describe writes the interfaces and names that are new.
func (s *stream) describe() error {
	for _, i := range s.c.Interfaces()[s.ifaces:] {
		if err := s.ng.WriteInterface(i); err != nil {
			return err
		}
		s.ifaces++
		s.delivered, s.lost = append(s.delivered, 0), append(s.lost, 0)
	}
	for _, n := range s.c.Names()[s.names:] {
		if err := s.ng.WriteName(n.Addr, n.Name); err != nil {
			return err
		}
		s.names++
	}
	return nil
}

// flush hands on what is written, behind what is new about interfaces: those
// that came, and frames that were lost. At the end it counts all.
func (s *stream) flush(end bool) error {
	if err := s.describe(); err != nil {
		return err
	}
	for i := range s.ifaces {
		taken, lost := s.c.Counts(i)
		if lost == s.lost[i] && !end {
			continue
		}
		s.lost[i] = lost
		err := s.ng.WriteStatistics(pcapng.Statistics{
			Interface: i, Start: s.start, At: time.Now(), Accepted: taken + lost, Dropped: lost, Delivered: s.delivered[i], EndOfCapture: end,
		})
		if err != nil {
			return err
		}
	}
	if err := s.out.Flush(); err != nil {
		return err
	}
	return s.rc.Flush()
}
