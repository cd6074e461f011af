package metrics

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

var quiet = slog.New(slog.DiscardHandler)

// sample has a value for every metric, each another.
func sample() Reading {
	return Reading{
		Networks: 2, Containers: 3,
		Ports: []api.PortStats{
			{Port: "veth0", Kind: "container", Network: "bridge", Container: "web", RxFrames: 10, RxBytes: 1000, TxFrames: 11, TxBytes: 1100, KernelDrops: 1, Drops: map[string]uint64{"guard-spoofed-ip": 4}},
			{Port: "vs-1", Kind: "host", Network: "bridge", RxFrames: 12},
			{Port: "eth0", Kind: "uplink", RxFrames: 13},
			{Port: "eth1", Kind: "uplink", RxFrames: 14},
		},
		Drops:      map[string]uint64{"guard-spoofed-ip": 5, "egress-nobody": 0},
		FDBLearned: 20, FDBStatic: 21, FDBMax: 22, FDBMoves: 23,
		Flows: map[string]int{"tcp": 30, "udp": 31, "icmp": 32, "other": 33}, MaxFlows: 34, HalfOpen: 35, TableFull: 36, PortsExhausted: 37, Evicted: 38,
		FlowRows: 39, FlowActive: 9, FlowFrames: 390,
		NAT:       []NATPorts{{"198.51.100.1", "tcp", 40, 41}, {"2001:db8::1", "tcp", 42, 43}},
		Published: []Published{{"web", "tcp", 50}},
		Shares:    []api.Share{{Container: "web", Shared: "flows", Held: 86, Room: 1000, Gave: 87, Refused: 88}},
		Captures:  60, CaptureLost: 61,
		Workers:    []Worker{{Turns: 6, Frames: 70, Spins: 71, Sleeps: 72, Batches: []uint64{3, 2, 1}, Busy: 73 * time.Second, Polling: 74 * time.Second, Asleep: 75 * time.Second}},
		BatchSizes: []int{1, 2, 64}, Relay: Relay{TCP: 80, UDP: 81, MaxTCP: 82, MaxUDP: 83, GaveTCP: 84, GaveUDP: 85, Dropped: 89},
		Names:   Names{Asked: 90, Local: 91, Servers: []NameServer{{Addr: "192.0.2.53", Failing: true, Asked: 92, Failed: 93}}},
		Readers: []ReaderUse{{Kind: "capture_bytes", Held: 86, Bound: 87, Refused: 88}},
	}
}

func scrape(t *testing.T, h http.Handler) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// full is a scrape of a daemon in which everything has happened.
func full(t *testing.T) string {
	t.Helper()
	m := New("v1", sample, quiet)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/info", func(http.ResponseWriter, *http.Request) {})
	m.Instrument(mux).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/v1/info", nil))
	return scrape(t, m)
}

func TestScrape(t *testing.T) {
	got := full(t)
	for _, line := range []string{
		`vswitch_port_receive_frames_total{container="web",interface="",kind="container",network="bridge"} 10`,
		`vswitch_port_transmit_bytes_total{container="web",interface="",kind="container",network="bridge"} 1100`,
		`vswitch_port_kernel_dropped_frames_total{container="web",interface="",kind="container",network="bridge"} 1`,
		`vswitch_port_dropped_frames_total{container="web",interface="",kind="container",network="bridge",reason="guard-spoofed-ip"} 4`,
		`vswitch_port_receive_frames_total{container="",interface="vs-1",kind="host",network="bridge"} 12`,
		`vswitch_port_receive_frames_total{container="",interface="eth1",kind="uplink",network=""} 14`,
		`vswitch_dropped_frames_total{reason="guard-spoofed-ip"} 5`,
		`vswitch_dropped_frames_total{reason="egress-nobody"} 0`,
		`vswitch_fdb_entries{type="static"} 21`,
		`vswitch_conntrack_entries{proto="icmp"} 32`,
		`vswitch_flow_table_flows{state="waiting"} 30`,
		`vswitch_flow_table_frames_total 390`,
		`vswitch_nat_ports_free{address="2001:db8::1",proto="tcp"} 43`,
		`vswitch_published_ports{container="web",proto="tcp"} 50`,
		`vswitch_worker_seconds_total{state="asleep",worker="0"} 75`,
		`vswitch_worker_batch_frames_bucket{worker="0",le="2"} 5`,
		`vswitch_worker_batch_frames_bucket{worker="0",le="+Inf"} 6`,
		`vswitch_worker_batch_frames_sum{worker="0"} 70`,
		`vswitch_relay_sessions{proto="udp"} 81`,
		`vswitch_relay_sessions_evicted_total{proto="tcp"} 84`,
		`vswitch_relay_dropped_datagrams_total 89`,
		`vswitch_names_results_total{result="local"} 91`,
		`vswitch_name_server_up{server="192.0.2.53"} 0`,
		`vswitch_name_server_failures_total{server="192.0.2.53"} 93`,
		`vswitch_readers_held{kind="capture_bytes"} 86`,
		`vswitch_readers_refused_total{kind="capture_bytes"} 88`,
		`vswitch_api_request_duration_seconds_count{code="200",method="GET",path="/v1/info"} 1`,
		`vswitch_build_info{goversion="`,
		`process_start_time_seconds `,
		`go_goroutines `,
	} {
		if !strings.Contains(got, "\n"+line) {
			t.Errorf("no line %s", line)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}

// Containers of two runtimes may have one name, also in one network: both are told.
func TestScrapeOfNamesakes(t *testing.T) {
	got := scrape(t, New("v1", func() Reading {
		r := sample()
		r.Ports = append(r.Ports, r.Ports[0], r.Ports[0])
		r.Ports[len(r.Ports)-2].Port, r.Ports[len(r.Ports)-1].Port = "veth1", "veth2"
		r.Published = append(r.Published, r.Published[0])
		return r
	}, quiet))
	for _, line := range []string{
		`vswitch_port_receive_frames_total{container="web",interface="",kind="container",network="bridge"} 10`,
		`vswitch_port_receive_frames_total{container="web",interface="veth1",kind="container",network="bridge"} 10`,
		`vswitch_port_receive_frames_total{container="web",interface="veth2",kind="container",network="bridge"} 10`,
		`vswitch_published_ports{container="web",proto="tcp"} 100`,
	} {
		if !strings.Contains(got, "\n"+line) {
			t.Errorf("no line %s", line)
		}
	}
}

func TestOneReadingAScrape(t *testing.T) {
	var n atomic.Int32
	m := New("v1", func() Reading { n.Add(1); return sample() }, quiet)
	scrape(t, m)
	scrape(t, m)
	if n.Load() != 2 {
		t.Errorf("%d readings for 2 scrapes", n.Load())
	}
}

// An empty daemon has no less valid metrics.
func TestScrapeOfNothing(t *testing.T) {
	if got := scrape(t, New("", func() Reading { return Reading{} }, quiet)); !strings.Contains(got, "\nvswitch_containers 0\n") {
		t.Error(got)
	}
}

func TestConventions(t *testing.T) {
	problems, err := promlint.New(strings.NewReader(full(t))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "vswitch_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// Prometheus' own tool holds the whole scrape against its rules.
func TestPromtoolCheckMetrics(t *testing.T) {
	labtest.NeedProgram(t, "promtool")
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(full(t))
	if out, err := cmd.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

func TestInstrument(t *testing.T) {
	m := New("v1", sample, quiet)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/containers/{name}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) })
	mux.HandleFunc("GET /v1/capture", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "begun")
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Errorf("a stream cannot flush: %v", err)
		}
		time.Sleep(600 * time.Millisecond)
	})
	h := m.Instrument(mux)
	for _, r := range []struct{ method, path string }{
		{"GET", "/v1/containers/web"}, {"GET", "/v1/containers/db"}, {"GET", "/v1/capture"},
		{"GET", "/nosuch"}, {"BREW", "/nosuch"},
	} {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(r.method, r.path, nil))
	}
	got := scrape(t, m)
	for _, want := range []string{
		`_count{code="404",method="GET",path="/v1/containers/{name}"} 2`,
		`_bucket{code="200",method="GET",path="/v1/capture",le="0.5"} 1`, // begun before it ends
		`_count{code="404",method="GET",path="other"} 1`,
		`_count{code="404",method="other",path="other"} 1`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

var (
	familyLine = regexp.MustCompile(`(?m)^# TYPE (vswitch_\w+) (\w+)$`)
	docRow     = regexp.MustCompile("(?m)^\\| `(vswitch_\\w+)` \\| (\\w+) \\|")
	used       = regexp.MustCompile(`\bvswitch_\w+`)
)

func families(t *testing.T) (list []string) {
	for _, m := range familyLine.FindAllStringSubmatch(full(t), -1) {
		list = append(list, m[1]+" "+m[2])
	}
	slices.Sort(list)
	return list
}

func TestDocumented(t *testing.T) {
	b, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, m := range docRow.FindAllStringSubmatch(string(b), -1) {
		rows = append(rows, m[1]+" "+m[2])
	}
	slices.Sort(rows)
	have := families(t)
	for _, f := range have {
		if !slices.Contains(rows, f) {
			t.Errorf("docs/metrics.md has no row for %s", f)
		}
	}
	for _, r := range rows {
		if !slices.Contains(have, r) {
			t.Errorf("docs/metrics.md has a row for %s, which is not exported so", r)
		}
	}
	checkNames(t, "docs/metrics.md", string(b))
}

// checkNames finds names of metrics that do not exist.
func checkNames(t *testing.T, file, text string) {
	t.Helper()
	known := map[string]bool{}
	for _, f := range families(t) {
		name, kind, _ := strings.Cut(f, " ")
		known[name] = true
		if kind == "histogram" {
			for _, s := range []string{"_bucket", "_sum", "_count"} {
				known[name+s] = true
			}
		}
	}
	for _, name := range used.FindAllString(text, -1) {
		if !known[name] {
			t.Errorf("%s names %s, which is no metric", file, name)
		}
	}
}

func ExampleMetrics() {
	m := New("v1", func() Reading { return Reading{Containers: 3} }, quiet)
	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "vswitch_containers ") {
			fmt.Print(line)
		}
	}
	// Output: vswitch_containers 3
}

// A scrape of a host with 500 containers.
func BenchmarkScrape(b *testing.B) {
	r := sample()
	r.Ports = nil
	for i := range 500 {
		r.Ports = append(r.Ports, api.PortStats{Kind: "container", Network: "bridge", Container: fmt.Sprint("c", i), Drops: map[string]uint64{"guard-spoofed-ip": 1}})
	}
	m := New("v1", func() Reading { return r }, quiet)
	size := 0
	for b.Loop() {
		w := httptest.NewRecorder()
		m.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		size = w.Body.Len()
	}
	b.ReportMetric(float64(size), "bytes")
}
