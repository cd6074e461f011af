package metrics

import (
	"log/slog"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxScrapes is how many scrapes are answered at a time; more are refused with 503. One
// reader has fewer, see package readers.
const maxScrapes = 16

// Metrics is the registry of one daemon. Its methods are safe for concurrent use.
type Metrics struct {
	registry *prometheus.Registry
	handler  http.Handler
	requests *prometheus.HistogramVec
}

// New returns the metrics of a daemon. read is called once for each scrape,
// concurrently.
func New(version string, read func() Reading, log *slog.Logger) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.requests = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "vswitch_api_request_duration_seconds",
		Help:    "Time until a request of the API was answered, of a stream until it began.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"method", "path", "code"})
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "vswitch_build_info", Help: "1, with the version of the daemon and of the Go that built it.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(build, &collector{read}, m.requests,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes,
		ErrorLog:            slog.NewLogLogger(log.Handler(), slog.LevelError),
	})
	return m
}

// ServeHTTP answers a scrape in the text format, or in OpenMetrics for those who
// ask for it.
func (m *Metrics) ServeHTTP(w http.ResponseWriter, r *http.Request) { m.handler.ServeHTTP(w, r) }

// Instrument observes how long next, or a mux within, takes to begin its answers.
// What no pattern of the mux matches counts as path "other".
func (m *Metrics) Instrument(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t := &timed{ResponseWriter: w, start: time.Now(), code: http.StatusOK}
		next.ServeHTTP(t, r)
		t.begin(http.StatusOK) // an answer without a body
		_, path, ok := strings.Cut(r.Pattern, " ")
		if !ok {
			path = "other"
		}
		m.requests.WithLabelValues(methodLabel(r.Method), path, strconv.Itoa(t.code)).Observe(t.took.Seconds())
	})
}

// methodLabel keeps made-up methods out of the labels.
func methodLabel(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodDelete, http.MethodPut, http.MethodPatch:
		return m
	}
	return "other"
}

// timed notes when an answer began, and with which status.
type timed struct {
	http.ResponseWriter
	start time.Time
	begun bool
	took  time.Duration
	code  int
}

func (t *timed) begin(code int) {
	if !t.begun {
		t.begun, t.code, t.took = true, code, time.Since(t.start)
	}
}

// WriteHeader implements http.ResponseWriter.
func (t *timed) WriteHeader(code int) {
	t.begin(code)
	t.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (t *timed) Write(p []byte) (int, error) {
	t.begin(http.StatusOK)
	return t.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach what is below.
func (t *timed) Unwrap() http.ResponseWriter { return t.ResponseWriter }
