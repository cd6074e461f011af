package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/visible"
)

// Backend is the part of the daemon's interface that the protocol is made of;
// *control.Controller and *client.Client are such. Errors wrap the kinds of
// package api. Methods are called concurrently.
type Backend interface {
	Networks(context.Context) ([]api.Network, error)
	Network(ctx context.Context, name string) (api.Network, error)
	CreateNetwork(context.Context, api.NetworkCreate) (api.Network, error)
	UpdateNetwork(ctx context.Context, name string, in api.NetworkUpdate) (api.Network, error)
	RemoveNetwork(ctx context.Context, name string) error
	FreeSubnet(context.Context, api.SubnetRequest) (api.FreeSubnet, error)
	LeaseAddress(ctx context.Context, network string, in api.LeaseRequest) (api.Lease, error)
	EndLease(ctx context.Context, network, address string) error

	Container(ctx context.Context, name string) (api.Container, error)
	Attach(context.Context, api.Attach) (api.Container, error)
	UpdateContainer(ctx context.Context, name string, in api.ContainerUpdate) (api.Container, error)
	Release(context.Context, api.Release) error
	Publish(ctx context.Context, name string, rules []string) ([]api.PortMapping, error)
	Unpublish(ctx context.Context, name string, rules []string) error
}

// SocketPath is where dockerd looks for the driver named vswitch.
const SocketPath = "/run/docker/plugins/vswitch.sock"

// MaxBody is the largest request in bytes: dockerd sends every port of a range by
// itself, 65,535 of both protocols in a dozen MiB.
const MaxBody = 32 << 20

// mediaType is that of the plugin protocol; dockerd asks for its version 1.2.
const mediaType = "application/vnd.docker.plugins.v1.2+json"

// New returns a server without a listener. joined, when not nil, is called after
// a network was made or an endpoint joined. log gets what the protocol has no words for.
func New(b Backend, joined func(), log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           Handler(b, joined, log),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second,
		// dockerd keeps its connections for as long as it runs.
		MaxHeaderBytes: 16 << 10,
		ErrorLog:       slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// driver answers the calls.
type driver struct {
	Backend
	log    *slog.Logger
	joined func()
	pools  promised
}

// Handler answers POST /METHOD for every method of the protocol.
func Handler(b Backend, joined func(), log *slog.Logger) http.Handler {
	if joined == nil {
		joined = func() {}
	}
	d := &driver{Backend: b, log: log, joined: joined}
	mux := http.NewServeMux()
	answer := func(method string, fn func(context.Context, []byte) (any, error)) {
		mux.Handle("POST /"+method, d.answer(method, fn))
	}
	answer("Plugin.Activate", constant(map[string]any{"Implements": []string{"NetworkDriver", "IpamDriver"}}))

	answer("NetworkDriver.GetCapabilities", constant(capabilities{Scope: "local", ConnectivityScope: "local", GwAllocChecker: true}))
	answer("NetworkDriver.GwAllocCheck", call(d.gwAllocCheck))
	answer("NetworkDriver.CreateNetwork", call(d.createNetwork))
	answer("NetworkDriver.DeleteNetwork", call(d.deleteNetwork))
	answer("NetworkDriver.CreateEndpoint", call(d.createEndpoint))
	answer("NetworkDriver.EndpointOperInfo", call(d.endpointOperInfo))
	answer("NetworkDriver.DeleteEndpoint", call(d.deleteEndpoint))
	answer("NetworkDriver.Join", call(d.join))
	answer("NetworkDriver.Leave", call(d.leave))
	answer("NetworkDriver.ProgramExternalConnectivity", call(d.programExternalConnectivity))
	answer("NetworkDriver.RevokeExternalConnectivity", call(d.revokeExternalConnectivity))
	// Other nodes of a cluster are no concern of a driver with scope local.
	answer("NetworkDriver.DiscoverNew", constant(struct{}{}))
	answer("NetworkDriver.DiscoverDelete", constant(struct{}{}))

	answer("IpamDriver.GetCapabilities", constant(map[string]bool{"RequiresMACAddress": false, "RequiresRequestReplay": false}))
	answer("IpamDriver.GetDefaultAddressSpaces", constant(map[string]string{
		"LocalDefaultAddressSpace": localSpace, "GlobalDefaultAddressSpace": globalSpace}))
	answer("IpamDriver.RequestPool", call(d.requestPool))
	answer("IpamDriver.ReleasePool", call(d.releasePool))
	answer("IpamDriver.RequestAddress", call(d.requestAddress))
	answer("IpamDriver.ReleaseAddress", call(d.releaseAddress))
	// dockerd takes 404 for a method that the plugin need not have.
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		write(w, http.StatusNotFound, refuse("", "no method "+r.Method+" "+r.URL.Path))
	})
	return mux
}

// localSpace and globalSpace are the address spaces of the IPAM driver vswitch.
const localSpace, globalSpace = "vswitch-local", "vswitch-global"

// capabilities is what a network driver says of itself.
type capabilities struct {
	Scope, ConnectivityScope string
	GwAllocChecker           bool
}

// refusal is how the protocol says no: Err in answers about networks, Error in
// those about addresses. Each side of dockerd knows its own word.
type refusal struct {
	Err   string
	Error string `json:",omitempty"`
}

func refuse(method, message string) refusal {
	r := refusal{Err: "vswitch: " + visible.Line(message)}
	if strings.HasPrefix(method, "IpamDriver.") {
		r.Error = r.Err
	}
	return r
}

// constant answers whatever is asked.
func constant(v any) func(context.Context, []byte) (any, error) {
	return func(context.Context, []byte) (any, error) { return v, nil }
}

// call decodes a request. Fields it does not know are those of a newer dockerd.
func call[T any](fn func(context.Context, T) (any, error)) func(context.Context, []byte) (any, error) {
	return func(ctx context.Context, body []byte) (any, error) {
		var in T
		d := json.NewDecoder(bytes.NewReader(body))
		if err := d.Decode(&in); err != nil {
			return nil, &malformed{err}
		}
		if _, err := d.Token(); err != io.EOF {
			return nil, &malformed{errors.New("more than one value")}
		}
		return fn(ctx, in)
	}
}

// malformed is a body that is no request.
type malformed struct{ err error }

func (m *malformed) Error() string { return "request body: " + m.err.Error() }

// answer reads the whole of a request before it does anything: a client that goes
// away in the middle has asked for nothing.
func (d *driver) answer(method string, fn func(context.Context, []byte) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil {
				d.log.Error("docker: request panicked", "method", method, "panic", p, "stack", string(debug.Stack()))
				write(w, http.StatusInternalServerError, refuse(method, "the daemon failed inside: see its log"))
			}
		}()
		start := time.Now()
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
		var out any
		if err == nil {
			// It runs to its end even when dockerd has gone away, which undoes what it
			// has asked for after its next start.
			out, err = fn(api.AsRuntime(context.WithoutCancel(r.Context())), body)
		}
		d.log.Debug("docker", "method", method, "took", time.Since(start).Round(10*time.Microsecond), "err", err)
		if err != nil {
			write(w, statusOf(err), refuse(method, err.Error()))
			return
		}
		write(w, http.StatusOK, out)
	})
}

// statusOf is 200 for what the request asks in vain: dockerd then shows Err as it
// stands.
func statusOf(err error) int {
	var large *http.MaxBytesError
	var bad *malformed
	switch {
	case errors.As(err, &large):
		return http.StatusRequestEntityTooLarge
	case errors.As(err, &bad):
		return http.StatusBadRequest
	}
	return http.StatusOK
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // a client that has gone away is no concern
}

// maxID bounds what Docker calls networks and endpoints; they are 64 hex digits.
const maxID = 128

// checkID refuses what is no identifier: it becomes part of names and labels.
func checkID(what, id string) error {
	if id == "" || len(id) > maxID {
		return fmt.Errorf("%s id %.20q: %d bytes: 1 to %d are expected", what, id, len(id), maxID)
	}
	for _, c := range []byte(id) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9') {
			return fmt.Errorf("%s id %.20q: letters and digits are expected", what, id)
		}
	}
	return nil
}

// short is an identifier as Docker shows it.
func short(id string) string { return id[:min(12, len(id))] }

func isNotFound(err error) bool { return errors.Is(err, api.ErrNotFound) }
func isConflict(err error) bool { return errors.Is(err, api.ErrConflict) }
