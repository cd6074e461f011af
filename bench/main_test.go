package main

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/bench/report"
)

func TestParse(t *testing.T) {
	for args, want := range map[string]struct {
		rounds int
		window time.Duration
		rival  string
	}{
		"":                           {5, 2 * time.Second, "vswitch"},
		"-quick":                     {2, 300 * time.Millisecond, "vswitch"},
		"-quick -rounds 1":           {1, 300 * time.Millisecond, "vswitch"},
		"-guard baseline.json":       {5, 500 * time.Millisecond, "vswitch"},
		"-window 500ms":              {5, 500 * time.Millisecond, "vswitch"},
		"-rival kernel -only ^idle$": {5, 2 * time.Second, "kernel"},
	} {
		got, err := parse(strings.Fields(args))
		if err != nil {
			t.Errorf("%q: %v", args, err)
			continue
		}
		if got.rounds != want.rounds || got.window != want.window || got.rival != want.rival {
			t.Errorf("%q: got %d rounds of %v, rival %s, want %+v", args, got.rounds, got.window, got.rival, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for args, want := range map[string]string{
		"-rounds 101":   "-rounds 101",
		"-rounds -1":    "-rounds -1",
		"-window 1ms":   "-window 1ms",
		"-window 1h":    "-window 1h",
		"-rival abacus": "abacus",
		"-only (":       "-only",
		"extra":         "extra",
	} {
		if _, err := parse(strings.Fields(args)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error that names %s", args, err, want)
		}
	}
	if _, err := parse([]string{"-h"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: got %v, want %v", err, flag.ErrHelp)
	}
}

// A run that is shown can be guarded too: no root, nothing is measured.
func TestGuard(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, rate float64) string {
		r := report.Run{Subject: "vswitch", Compared: []report.Comparison{{
			Scenario: "containers", Title: "container to container", Baseline: "bridge",
			Measure:         report.Measure{Name: "TCP bulk", Unit: report.BitsPerSecond},
			BaselineSamples: report.Samples{10, 10}, SubjectSamples: report.Samples{rate, rate + 1},
		}}}
		file := filepath.Join(dir, name)
		if err := create(file, r.WriteJSON); err != nil {
			t.Fatal(err)
		}
		return file
	}
	was, same, worse := write("was.json", 6), write("same.json", 6), write("worse.json", 4)
	for name, c := range map[string]struct {
		args []string
		want int
	}{
		"itself":               {[]string{"-show", same, "-guard", was}, 0},
		"worse":                {[]string{"-show", worse, "-guard", was}, 1},
		"better":               {[]string{"-show", was, "-guard", worse}, 0},
		"none of its rows":     {[]string{"-show", same, "-guard", was, "-only", "hairpin"}, 1},
		"a baseline not there": {[]string{"-show", same, "-guard", filepath.Join(dir, "none.json")}, 1},
	} {
		if got := run(t.Context(), c.args); got != c.want {
			t.Errorf("%s: got exit code %d, want %d", name, got, c.want)
		}
	}
	page := filepath.Join(dir, "docs", "report.html")
	if got := run(t.Context(), []string{"-show", same, "-html", page}); got != 0 {
		t.Errorf("-html: got exit code %d", got)
	}
	if b, err := os.ReadFile(page); err != nil || !strings.Contains(string(b), "<svg") {
		t.Errorf("page: %v, %d bytes, want a plot in it", err, len(b))
	}
}

// An attack that keeps idle CPUs awake makes connections on the kernel's bridge faster than alone:
// who keeps all is not held against that, and who loses much still is.
func TestVerdict(t *testing.T) {
	kernel := medians{alone: 4000, attacked: 5200, p99: time.Millisecond, p99Alone: time.Millisecond}
	for _, c := range []struct {
		attacked float64
		bad      int
	}{{3300, 0}, {3000, 0}, {2000, 1}} {
		if got := verdict(kernel, medians{alone: 3300, attacked: c.attacked, p99: time.Millisecond, p99Alone: time.Millisecond}, 0.9); len(got) != c.bad {
			t.Errorf("%v of 3300 a second: %q", c.attacked, got)
		}
	}
}
