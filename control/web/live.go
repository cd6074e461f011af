package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/readers"
	"github.com/vswitch/vswitch/control/server"
)

const (
	// livePeriod is how often the counters are read while somebody looks.
	livePeriod = time.Second
	// maxEvents is how many of the last events a page begins with.
	maxEvents = 200
	// maxFlows is up to how many connections the hub looks at each of them, every
	// other period.
	maxFlows = 20_000
	// maxWaiting is how many messages wait for a slow viewer.
	maxWaiting = 64
)

// topology is what the map shows: it is sent whole when it has changed.
type topology struct {
	Info       api.Info        `json:"info"`
	Networks   []api.Network   `json:"networks"`
	Containers []api.Container `json:"containers"`
	Ports      []portOf        `json:"ports"`
}

// portOf says whose port an interface is.
type portOf struct {
	Port      string `json:"port"`
	Kind      string `json:"kind"`
	Network   string `json:"network,omitempty"`
	Container string `json:"container,omitempty"`
}

// counts are the counters at one moment. Rates are the viewer's business: it
// knows when it got which.
type counts struct {
	At          int64                 `json:"at"` // ms of an arbitrary clock
	Full        bool                  `json:"full,omitempty"`
	Ports       map[string]portCounts `json:"ports"` // that have changed; all when Full
	Drops       map[string]uint64     `json:"drops"`
	Connections int                   `json:"connections"`
	// Published are the rates of published ports that carry something, bytes a
	// second of both directions, by container, protocol and port of the host: "web
	// tcp 8080". Missing while there are more than maxFlows connections.
	Published map[string]float64 `json:"published,omitempty"`
}

type portCounts struct {
	RxBytes     uint64            `json:"rb"`
	TxBytes     uint64            `json:"tb"`
	RxFrames    uint64            `json:"rf"`
	TxFrames    uint64            `json:"tf"`
	KernelDrops uint64            `json:"kd,omitempty"`
	Drops       map[string]uint64 `json:"d,omitempty"`
}

func (p *portCounts) total() uint64 {
	n := p.RxFrames + p.TxFrames + p.KernelDrops
	for _, d := range p.Drops {
		n += d
	}
	return n
}

// hub reads the daemon once a period for all viewers together, and not at all
// when there is none.
type hub struct {
	backend server.Backend
	readers *readers.Readers
	log     *slog.Logger

	mu      sync.Mutex
	viewers map[*viewer]bool
	running bool
	whole   []byte            // message of the topology, as last sent
	last    map[string]uint64 // what the counters of a port came to
	events  [][]byte          // messages, the last maxEvents

	reads     int       // belongs to read
	published published // likewise
}

// viewer is one open stream. What it does not take in time is replaced by the
// whole of the next moment, so that a slow one costs nothing and misses nothing.
type viewer struct {
	messages chan []byte
	behind   bool // wants everything
}

func newHub(b server.Backend, r *readers.Readers, log *slog.Logger) *hub {
	return &hub{backend: b, readers: r, log: log, viewers: make(map[*viewer]bool)}
}

// ServeHTTP streams messages (text/event-stream) until the client goes away: topology,
// counts and event, as JSON.
func (h *hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	release, err := h.readers.Take(readers.From(r.Context()), readers.Streams, 1)
	if err != nil {
		refuse(w, api.Status(err), err.Error())
		return
	}
	defer release()
	if r.Method == http.MethodHead {
		return // it would go on for nobody
	}
	v := &viewer{messages: make(chan []byte, maxWaiting), behind: true}
	h.add(v)
	defer h.remove(v)
	c := http.NewResponseController(w)
	c.SetReadDeadline(time.Time{}) // ReadTimeout would end the stream
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	if c.Flush() != nil {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case e := <-v.messages:
			c.SetWriteDeadline(time.Now().Add(10 * livePeriod))
			if _, err := w.Write(e); err != nil || c.Flush() != nil {
				return
			}
		}
	}
}

func (h *hub) add(v *viewer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.viewers[v] = true
	if !h.running {
		h.running = true
		go h.run()
	}
}

func (h *hub) remove(v *viewer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.viewers, v)
}

// run lives as long as there are viewers.
func (h *hub) run() {
	ctx, cancel := context.WithCancel(context.Background())
	followed := make(chan struct{})
	go func() { defer close(followed); h.follow(ctx) }()
	defer func() { cancel(); <-followed }()
	tick := time.NewTicker(livePeriod)
	defer tick.Stop()
	for {
		if err := h.read(); err != nil {
			h.log.Error("page", "err", err)
		}
		<-tick.C
		h.mu.Lock()
		if len(h.viewers) == 0 {
			h.running, h.events, h.last = false, nil, nil
			h.mu.Unlock()
			return
		}
		h.mu.Unlock()
	}
}

// read asks the daemon and tells the viewers.
func (h *hub) read() error {
	ctx := context.Background()
	w := topology{Ports: []portOf{}}
	var err error
	if w.Info, err = h.backend.Info(ctx); err != nil {
		return err
	}
	if w.Networks, err = h.backend.Networks(ctx); err != nil {
		return err
	}
	if w.Containers, err = h.backend.Containers(ctx, api.ContainerFilter{}); err != nil {
		return err
	}
	st, err := h.backend.Stats(ctx, api.StatsQuery{})
	if err != nil {
		return err
	}
	for i := range w.Networks {
		w.Networks[i].Containers = nil // the containers say where they are
	}
	now := counts{At: time.Now().UnixMilli(), Drops: st.Drops, Connections: st.Connections, Ports: make(map[string]portCounts, len(st.Ports))}
	if h.reads++; st.Connections > maxFlows {
		h.published = published{}
	} else if h.reads%2 == 1 {
		flows, err := h.backend.Flows(ctx, api.FlowQuery{Closed: true}) // a short one has bytes too
		if err != nil {
			return err
		}
		if err := h.published.take(ctx, h.readers, flows, time.Now()); err != nil {
			return err
		}
	}
	now.Published = h.published.rates
	for _, p := range st.Ports {
		w.Ports = append(w.Ports, portOf{p.Port, p.Kind, p.Network, p.Container})
		now.Ports[p.Port] = portCounts{p.RxBytes, p.TxBytes, p.RxFrames, p.TxFrames, p.KernelDrops, p.Drops}
	}
	return h.tell(w, now)
}

func (h *hub) tell(w topology, now counts) error {
	whole, err := event("topology", w)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	last := make(map[string]uint64, len(now.Ports))
	changed := make(map[string]portCounts)
	for name, p := range now.Ports {
		last[name] = p.total()
		if was, ok := h.last[name]; !ok || was != last[name] {
			changed[name] = p
		}
	}
	h.last = last
	part := now
	part.Ports = changed
	now.Full = true
	fullEvent, err := event("counts", now)
	if err != nil {
		return err
	}
	partEvent, err := event("counts", part)
	if err != nil {
		return err
	}
	update := partEvent
	if !bytes.Equal(whole, h.whole) {
		update = slices.Concat(whole, fullEvent)
	}
	h.whole = whole
	var all []byte // the same for every viewer who wants everything
	for v := range h.viewers {
		e := update
		if v.behind {
			if all == nil {
				all = slices.Concat(whole, fullEvent, slices.Concat(h.events...))
			}
			e = all
		}
		v.tell(e)
	}
	return nil
}

// tell hands a message over, or has the viewer get everything anew.
func (v *viewer) tell(e []byte) {
	select {
	case v.messages <- e:
		v.behind = false
	default:
		v.behind = true
	}
}

// follow passes events on, those that the daemon still has first.
func (h *hub) follow(ctx context.Context) {
	var since uint64
	st, err := h.backend.Events(ctx, api.EventQuery{Since: &since})
	if err != nil {
		h.log.Error("page", "err", err)
		return
	}
	defer st.Close()
	for {
		list, err := st.Next(ctx)
		if err != nil || len(list) == 0 {
			return // nobody looks any more, or the daemon ends
		}
		h.mu.Lock()
		for i := range list {
			e, err := event("event", list[i])
			if err != nil {
				continue
			}
			h.events = append(h.events, e)
			for v := range h.viewers {
				if !v.behind {
					v.tell(e)
				}
			}
		}
		if n := len(h.events); n > maxEvents {
			h.events = slices.Delete(h.events, 0, n-maxEvents)
		}
		h.mu.Unlock()
	}
}

// event is one message of a stream of events.
func event(name string, v any) ([]byte, error) {
	b, err := json.Marshal(v) // without a line break
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, b), nil
}
