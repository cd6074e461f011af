package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/readers"
	"github.com/vswitch/vswitch/control/visible"
)

// Backend does what requests ask for; *control.Controller is one. Errors wrap
// the kinds of package api. Methods are called concurrently.
type Backend interface {
	Info(context.Context) (api.Info, error)
	Page(context.Context) (api.Page, error)

	Networks(context.Context) ([]api.Network, error)
	Network(ctx context.Context, name string) (api.Network, error)
	CreateNetwork(context.Context, api.NetworkCreate) (api.Network, error)
	UpdateNetwork(ctx context.Context, name string, in api.NetworkUpdate) (api.Network, error)
	RemoveNetwork(ctx context.Context, name string) error
	PruneNetworks(context.Context) (api.Pruned, error)
	FreeSubnet(context.Context, api.SubnetRequest) (api.FreeSubnet, error)
	LeaseAddress(ctx context.Context, network string, in api.LeaseRequest) (api.Lease, error)
	EndLease(ctx context.Context, network, address string) error

	Containers(context.Context, api.ContainerFilter) ([]api.Container, error)
	Container(ctx context.Context, name string) (api.Container, error)
	Attach(context.Context, api.Attach) (api.Container, error)
	UpdateContainer(ctx context.Context, name string, in api.ContainerUpdate) (api.Container, error)
	Detach(ctx context.Context, name string) error
	Check(ctx context.Context, name string) error
	Release(context.Context, api.Release) error
	GC(context.Context, api.GC) (api.Collected, error)
	Connect(ctx context.Context, name string, in api.Connect) (api.Container, error)
	Disconnect(ctx context.Context, name, network string) error
	Ports(ctx context.Context, name string) ([]api.PortMapping, error)
	Publish(ctx context.Context, name string, rules []string) ([]api.PortMapping, error)
	Unpublish(ctx context.Context, name string, rules []string) error

	FDB(context.Context) (Rows[api.FDBEntry], error)
	Shares(context.Context) ([]api.Share, error)
	NAT(context.Context, api.NATQuery) (Rows[api.NATEntry], error)
	FlushNAT(context.Context, api.NATFlush) (api.NATFlushed, error)
	Stats(context.Context, api.StatsQuery) (api.Stats, error)
	// Flows lists the flows there are; FlowLog reads those that end.
	Flows(context.Context, api.FlowQuery) (Rows[api.Flow], error)
	FlowLog(context.Context, api.FlowQuery) (Stream[api.Flow], error)
	Events(context.Context, api.EventQuery) (Stream[api.Event], error)
	Why(context.Context, api.WhyQuery) (api.Why, error)
	LastDrops(ctx context.Context, container string) ([]api.Drop, error)
	Capture(context.Context, CaptureConfig) (Capture, error)
}

// MaxBody is the largest request in bytes.
const MaxBody = 1 << 20

// New returns a server of h, which is a Handler, without a listener. log gets what goes
// wrong inside.
func New(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		// The whole of a request is small; a capture's answer has no end, so what bounds
		// the writing is readers.Handler, piece by piece.
		ReadTimeout:    30 * time.Second,
		IdleTimeout:    60 * time.Second,
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// Handler answers every path of docs/openapi.yaml. r bounds its readers, nil: nothing does.
func Handler(b Backend, r *readers.Readers, log *slog.Logger) http.Handler {
	s := &server{Backend: b, readers: r, log: log}
	mux := &router{refuse: s.refuse}
	get := func(path string, fn func(*http.Request) (any, error)) { mux.Handle("GET "+path, s.answer(fn, 200)) }

	get("/v1/info", func(r *http.Request) (any, error) { return b.Info(r.Context()) })
	get("/v1/page", func(r *http.Request) (any, error) { return b.Page(r.Context()) })
	get("/v1/networks", func(r *http.Request) (any, error) { return b.Networks(r.Context()) })
	get("/v1/networks/{name}", func(r *http.Request) (any, error) {
		return b.Network(r.Context(), r.PathValue("name"))
	})
	get("/v1/containers/{name}", func(r *http.Request) (any, error) {
		return b.Container(r.Context(), r.PathValue("name"))
	})
	get("/v1/containers/{name}/ports", func(r *http.Request) (any, error) {
		return b.Ports(r.Context(), r.PathValue("name"))
	})
	get("/v1/shares", func(r *http.Request) (any, error) { return b.Shares(r.Context()) })
	mux.HandleFunc("GET /v1/fdb", table(s, func(ctx context.Context, _ *http.Request) (Rows[api.FDBEntry], error) { return b.FDB(ctx) }))
	mux.HandleFunc("GET /v1/nat", table(s, s.nat))
	get("/v1/stats", func(r *http.Request) (any, error) {
		return b.Stats(r.Context(), api.StatsQuery{Container: r.URL.Query().Get("name")})
	})
	get("/v1/why", func(r *http.Request) (any, error) {
		return b.Why(r.Context(), api.WhyQuery{From: r.URL.Query().Get("from"), To: r.URL.Query().Get("to")})
	})
	get("/v1/drops", func(r *http.Request) (any, error) { return b.LastDrops(r.Context(), r.URL.Query().Get("name")) })
	mux.HandleFunc("GET /v1/flows", table(s, s.flows))
	mux.HandleFunc("GET /v1/flows/log", s.flowLog)
	mux.HandleFunc("GET /v1/events", s.events)
	mux.HandleFunc("GET /v1/capture", s.capture)
	mux.HandleFunc("DELETE /v1/capture/{id}", s.endCapture)
	mux.HandleFunc("GET /v1/debug/pprof/{profile}", s.profile)
	s.runtime(mux)
	s.leases(mux)

	mux.Handle("POST /v1/networks", s.answer(func(r *http.Request) (any, error) {
		var in api.NetworkCreate
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		return b.CreateNetwork(r.Context(), in)
	}, http.StatusCreated))
	mux.Handle("POST /v1/networks/prune", s.answer(func(r *http.Request) (any, error) {
		return b.PruneNetworks(r.Context())
	}, 200))
	mux.Handle("PATCH /v1/networks/{name}", s.answer(func(r *http.Request) (any, error) {
		var in api.NetworkUpdate
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		return b.UpdateNetwork(r.Context(), r.PathValue("name"), in)
	}, 200))
	mux.Handle("DELETE /v1/networks/{name}", s.answer(s.removeNetwork, http.StatusNoContent))

	mux.Handle("POST /v1/containers", s.answer(func(r *http.Request) (any, error) {
		var in api.Attach
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		return b.Attach(r.Context(), in)
	}, http.StatusCreated))
	mux.Handle("DELETE /v1/containers/{name}", s.answer(s.detach, http.StatusNoContent))
	mux.Handle("POST /v1/containers/{name}/networks", s.answer(func(r *http.Request) (any, error) {
		var in api.Connect
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		return b.Connect(r.Context(), r.PathValue("name"), in)
	}, 200))
	mux.Handle("DELETE /v1/containers/{name}/networks/{network}", s.answer(func(r *http.Request) (any, error) {
		return nil, b.Disconnect(r.Context(), r.PathValue("name"), r.PathValue("network"))
	}, http.StatusNoContent))
	mux.Handle("POST /v1/containers/{name}/ports", s.answer(func(r *http.Request) (any, error) {
		var in api.Publish
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		return b.Publish(r.Context(), r.PathValue("name"), in.Ports)
	}, 200))
	mux.Handle("DELETE /v1/containers/{name}/ports", s.answer(func(r *http.Request) (any, error) {
		var in api.Publish
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		return nil, b.Unpublish(r.Context(), r.PathValue("name"), in.Ports)
	}, http.StatusNoContent))
	mux.Handle("POST /v1/nat/flush", s.answer(func(r *http.Request) (any, error) {
		var in api.NATFlush
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		return b.FlushNAT(r.Context(), in)
	}, 200))
	mux.ServeMux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { s.noPath(w, r, mux) })
	return mux
}

type server struct {
	Backend
	readers  *readers.Readers
	log      *slog.Logger
	captures captures
}

// answer bounds a request's body, calls fn and writes what it returns.
func (s *server) answer(fn func(*http.Request) (any, error), status int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			// A broken invariant ends one request, not the network of everybody.
			switch p := recover(); p {
			case nil:
			case http.ErrAbortHandler:
				panic(p)
			default:
				s.log.Error("request panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
				s.refuse(w, r, errors.New("the daemon failed inside: see its log"))
			}
		}()
		r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
		if who := readers.From(r.Context()); who.Page {
			release, err := s.readers.Take(who, readers.Answers, 1)
			if err != nil {
				s.refuse(w, r, err)
				return
			}
			defer release()
			s.page(w, r, fn)
			return
		}
		out, err := fn(r)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		if status == http.StatusNoContent {
			w.WriteHeader(status)
			return
		}
		write(w, status, out)
	})
}

// page answers one who only reads. He may be anybody, and the answer work: it takes turns. A
// request that ends before its turn has no answer, and the connection ends with it.
func (s *server) page(w http.ResponseWriter, r *http.Request, fn func(*http.Request) (any, error)) {
	var text []byte
	var err error
	made := false
	if s.readers.Work(r.Context(), func() {
		var out any
		if out, err = fn(r); err == nil {
			text, err = json.Marshal(out)
		}
		made = true
	}) != nil && !made {
		panic(http.ErrAbortHandler)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(text, '\n'))
}

// decode reads exactly one JSON value with known fields. An empty body is that of
// a request that leaves everything to the daemon.
func decode(r *http.Request, in any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(in)
	if err == nil {
		if _, err = d.Token(); err == io.EOF {
			return nil
		}
		if err == nil {
			err = errors.New("more than one value")
		}
	}
	if err == io.EOF {
		return nil
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return err
	}
	return fmt.Errorf("%w: request body: %s", api.ErrInvalid, ofJSON(err))
}

func (s *server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	status := api.Status(err)
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		status = http.StatusRequestEntityTooLarge
	}
	if status == http.StatusInternalServerError {
		s.log.Error("request failed", "err", err)
	}
	write(w, status, api.Error{Message: visible.Line(inWordsOf(r, err.Error()))})
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // a client that has gone away is no concern
}
