package web

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/vswitch/vswitch/control/readers"
	"github.com/vswitch/vswitch/control/server"
)

// Config is what a page is made of. Backend, API and Metrics are required.
type Config struct {
	Backend server.Backend // asked for what the page shows
	// API answers the paths of readable; it is the handler of the unix socket.
	API     http.Handler
	Metrics http.Handler
	// Readers bounds what clients take, nil: nothing does.
	Readers *readers.Readers
	// Token is what a client has to show, "" when nobody has to; see OwnToken.
	Token string
	Log   *slog.Logger
}

const (
	metricsPath = "/metrics"
	// maxHeader is the largest head of a request in bytes. A browser sends us the
	// cookies of every port of the host, which a published container may fill up: 180
	// of 4 KiB are kept for a host. The page is to open still.
	maxHeader = 1 << 20
)

// readable are the paths of the API that the page passes on, all of them GET. A
// path that is not here does not exist on this listener, so that a new one of the
// API is not on it by chance.
var readable = []string{
	"/v1/info",
	"/v1/networks", "/v1/networks/{name}",
	"/v1/containers", "/v1/containers/{name}", "/v1/containers/{name}/ports",
	"/v1/fdb", "/v1/nat", "/v1/stats", "/v1/shares",
	"/v1/flows", "/v1/flows/log", "/v1/events",
	"/v1/why", "/v1/drops",
	"/v1/capture",
}

// New returns a server of h, which is a Handler, without a listener; see Listen.
// Its streams end with the context of its connections (http.Server.BaseContext).
func New(h http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second, // no request has a body
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// Handler answers the page's requests, those that gate lets through.
func Handler(cfg Config) http.Handler {
	public, mux := http.NewServeMux(), http.NewServeMux()
	assets(public)
	live := newHub(cfg.Backend, cfg.Readers, cfg.Log)
	mux.Handle("GET /page/live", live)
	mux.Handle("GET /page/table/{table}", newTables(cfg.Backend, cfg.Readers))
	mux.Handle("GET "+metricsPath, cfg.Metrics)
	for _, path := range readable {
		mux.Handle("GET "+path, cfg.API)
	}
	return newGate(cfg.Token, public, mux)
}
