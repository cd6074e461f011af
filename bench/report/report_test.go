package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the files below testdata")

func example() *Run {
	return &Run{
		Started: time.Date(2031, 5, 4, 3, 2, 1, 0, time.UTC), Seconds: 63, Version: "v0.1.0",
		Subject: "vswitch", Rounds: 3, Window: 1,
		Machine:   Machine{CPU: "Example CPU", Cores: 2, Kernel: "6.18.1", Memory: 4 << 30, Go: "go1.26", Load: 0.25, Busy: 0.02},
		Localhost: "led to the container at connect",
		Compared: []Comparison{
			{
				Scenario: "containers", Title: "container to container", Baseline: "bridge",
				Measure:         Measure{Name: "TCP bulk", Unit: BitsPerSecond, Bound: 0.45},
				BaselineSamples: Samples{20e9, 22e9, 18e9}, SubjectSamples: Samples{10e9, 13.2e9, 9.9e9},
				Carried: Carried{Came: 2000, Kernel: 1998, Made: 200},
			},
			{
				Scenario: "containers", Title: "container to container", Baseline: "bridge",
				Measure:         Measure{Name: "TCP request/response: p99", Unit: Seconds, LowerIsBetter: true, Bound: 1.5},
				BaselineSamples: Samples{100e-6, 100e-6, math.NaN()}, SubjectSamples: Samples{200e-6, 160e-6, 1},
			},
			{
				Scenario: "containers", Title: "container to container", Baseline: "bridge",
				Measure:         Measure{Name: "TCP request/response: p99.9", Unit: Seconds, LowerIsBetter: true, Detail: true},
				BaselineSamples: Samples{300e-6, 300e-6, math.NaN()}, SubjectSamples: Samples{300e-6, 300e-6, 1},
			},
			{
				Scenario: "published", Title: "outside | published port", Baseline: "bridge+nft",
				Measure:         Measure{Name: "64-byte frames", Unit: FramesPerSec, Bound: 0.75},
				BaselineSamples: Samples{math.NaN(), math.NaN(), math.NaN()}, SubjectSamples: Samples{310e3, 310e3, 310e3},
			},
		},
		Alone: []Figure{
			{Scenario: "idle", Title: "idle daemon", Measure: Measure{Name: "CPU", Unit: Cores, LowerIsBetter: true, Bound: 0.005}, Value: 0.001, Note: "100 ports, 10s"},
			{Scenario: "idle", Title: "idle daemon", Measure: Measure{Name: "RSS", Unit: Bytes, LowerIsBetter: true, Bound: 100e6}, Value: 120e6, Note: "100 ports"},
		},
		Curves: []Curve{
			{Scenario: "by-ports", Title: "by ports", Axis: "ports", System: "bridge", Measure: Measure{Name: "64-byte frames", Unit: FramesPerSec}, Points: []Point{{2, 300e3}, {1000, 280e3}}},
			{Scenario: "by-ports", Title: "by ports", Axis: "ports", System: "vswitch", Measure: Measure{Name: "64-byte frames", Unit: FramesPerSec}, Points: []Point{{2, 400e3}, {1000, 395e3}, {2000, 390e3}}},
		},
		Missing: []Missing{{Scenario: "masquerade", Reason: "nft is not installed (package nftables)"}},
	}
}

func TestGolden(t *testing.T) {
	for file, write := range map[string]func(*Run, *bytes.Buffer) error{
		"table.golden":    func(r *Run, b *bytes.Buffer) error { return r.WriteTable(b) },
		"markdown.golden": func(r *Run, b *bytes.Buffer) error { return r.WriteMarkdown(b) },
		"html.golden":     func(r *Run, b *bytes.Buffer) error { return r.WriteHTML(b) },
		"json.golden":     func(r *Run, b *bytes.Buffer) error { return r.WriteJSON(b) },
	} {
		t.Run(file, func(t *testing.T) {
			var got bytes.Buffer
			if err := write(example(), &got); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", file)
			if *update {
				if err := os.WriteFile(path, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("-want +got (rewrite with -update):\n%s", diff)
			}
		})
	}
}

func TestJSONComesBack(t *testing.T) {
	var b bytes.Buffer
	if err := example().WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var got Run
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(example(), &got, approximately); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestBounds(t *testing.T) {
	atLeast := Measure{Bound: 0.45}
	atMost := Measure{Bound: 1.5, LowerIsBetter: true}
	for _, c := range []struct {
		m    Measure
		v    float64
		want bool
	}{
		{atLeast, 0.45, true}, {atLeast, 0.44, false}, {atLeast, math.NaN(), false},
		{atMost, 1.5, true}, {atMost, 1.51, false}, {atMost, math.NaN(), false},
		{Measure{}, 0, true},
	} {
		if got := c.m.Meets(c.v); got != c.want {
			t.Errorf("%+v meets %v: got %v, want %v", c.m, c.v, got, c.want)
		}
	}
	// p99 is 1.8 times as long, the frames have no ratio, the daemon is too big.
	if got := example().Missed(); got != 3 {
		t.Errorf("missed: got %d, want 3", got)
	}
}

func TestFormat(t *testing.T) {
	for _, c := range []struct {
		u    Unit
		v    float64
		want string
	}{
		{BitsPerSecond, 14.23e9, "14.2 Gbit/s"},
		{BitsPerSecond, 999, "999 bit/s"},
		{FramesPerSec, 385400, "385 kpps"},
		{PerSecond, 17123, "17.1 k/s"},
		{PerSecond, 3, "3.00 /s"},
		{Seconds, 57.6e-6, "57.6 µs"},
		{Seconds, 3.456e-3, "3.46 ms"},
		{Seconds, 1.5, "1.50 s"},
		{SecondsPerGB, 0.523, "0.52 s/GB"},
		{Bytes, 95.96e6, "96.0 MB"},
		{Bytes, -512, "-512 B"},
		{Cores, 0.0042, "0.42 % of a core"},
		{Share, 0.9634, "96.3 %"},
		{Cores, 0, "0 % of a core"},
		{Unit("widgets"), 2, "2.00 widgets"},
		{Seconds, math.NaN(), "-"},
	} {
		if got := c.u.Format(c.v); got != c.want {
			t.Errorf("%s %v: got %q, want %q", c.u, c.v, got, c.want)
		}
	}
}

// The page loads nothing from anywhere, and no text of a run can become markup.
func TestHTMLIsSelfContained(t *testing.T) {
	r := example()
	r.Compared[0].Title, r.Compared[0].Baseline = "<script>", `"><b>`
	r.Curves[0].System = "<i>"
	var b bytes.Buffer
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<script", "<b>", "<i>", "http:", "https:", "url(", " src="} {
		if strings.Contains(b.String(), bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
	var empty bytes.Buffer
	if err := (&Run{}).WriteHTML(&empty); err != nil {
		t.Errorf("a run that found nothing: %v", err)
	}
}

func TestThisMachine(t *testing.T) {
	m := ThisMachine()
	if m.Cores < 1 || m.Memory < 1<<20 || m.CPU == "" || !strings.HasPrefix(m.Go, "go") || strings.Count(m.Kernel, ".") < 2 {
		t.Errorf("got %+v", m)
	}
}
