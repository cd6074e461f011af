package web

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/vswitch/vswitch/control/server"
)

// Config is what a page is made of. Backend, API and Metrics are required.
type Config struct {
	Backend server.Backend // asked for what the page shows
	// API answers the paths of readable; it is the handler of the unix socket.
	API     http.Handler
	Metrics http.Handler
	// Token is what a client has to show, "" when nobody has to; see ReadToken.
	Token string
	Log   *slog.Logger
}

// readable are the paths of the API that the page passes on, all of them GET. A
// path that is not here does not exist on this listener, so that a new one of the
// API is not on it by chance.
var readable = []string{
	"/v1/info",
	"/v1/networks", "/v1/networks/{name}",
	"/v1/containers", "/v1/containers/{name}", "/v1/containers/{name}/ports",
	"/v1/fdb", "/v1/nat", "/v1/stats",
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
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// Handler answers the page's requests, those that guard lets through.
func Handler(cfg Config) http.Handler {
	mux := http.NewServeMux()
	assets(mux)
	live := newHub(cfg.Backend, cfg.Log)
	mux.Handle("GET /page/live", live)
	mux.Handle("GET /page/table/{table}", newTables(cfg.Backend))
	mux.Handle("GET /metrics", cfg.Metrics)
	for _, path := range readable {
		mux.Handle("GET "+path, cfg.API)
	}
	return newGuard(cfg.Token, mux)
}
