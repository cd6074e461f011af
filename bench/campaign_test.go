package main

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/report"
	"github.com/vswitch/vswitch/bench/rig"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestMain(m *testing.M) {
	gen.RunIfAgent()
	labtest.Main(m)
}

func newCampaign(t *testing.T, args ...string) *campaign {
	t.Helper()
	labtest.Need(t)
	opt, err := parse(args)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "progress"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	return &campaign{opt: opt, progress: newProgress(log), run: report.Run{Subject: opt.rival}}
}

// The kernel against itself goes through everything but the daemon.
func TestEveryLoadGivesASampleForEachRound(t *testing.T) {
	labtest.NeedBPF(t) // the sink of frames is a program
	c := newCampaign(t, "-rival", "kernel", "-quick", "-rounds", "2", "-window", "300ms")
	if err := c.measure(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, m := range c.run.Missing {
		if rig.Available(rig.Docker) != nil && strings.Contains(m.Reason, "nft is not installed") {
			continue
		}
		t.Errorf("missing: %+v", m)
	}
	seen := map[string]bool{}
	for _, row := range c.run.Compared {
		seen[row.Scenario] = true
		for side, samples := range map[string]report.Samples{"baseline": row.BaselineSamples, "subject": row.SubjectSamples} {
			if len(samples) != 2 {
				t.Errorf("%s: %s: %s: %d samples, want 2", row.Title, row.Measure.Name, side, len(samples))
			}
			for _, v := range samples {
				// CPU time has ticks of 10 ms and may be 0 in so short a window.
				if math.IsNaN(v) || v < 0 || v == 0 && row.Measure.Unit != report.SecondsPerGB && row.Measure.Unit != report.SecondsPerMillion {
					t.Errorf("%s: %s: %s: sample %v", row.Title, row.Measure.Name, side, v)
				}
			}
		}
	}
	if !seen["containers"] {
		t.Errorf("rows: got %v, want containers among them", seen)
	}
}

func TestInterruptedCampaignSaysSo(t *testing.T) {
	c := newCampaign(t, "-rival", "kernel", "-window", "30s", "-only", "containers/TCP (bulk|request)")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Second, cancel)
	start := time.Now()
	if err := c.measure(ctx); err != context.Canceled {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if d := time.Since(start); d > 25*time.Second {
		t.Errorf("took %v to end", d)
	}
	if len(c.run.Compared) != 0 || len(c.run.Missing) != 1 || c.run.Missing[0].Reason != "interrupted" {
		t.Errorf("got rows %+v, missing %+v, want one load that was interrupted", c.run.Compared, c.run.Missing)
	}
}

func TestSystemThatCannotBeBuiltIsMissing(t *testing.T) {
	c := newCampaign(t, "-rounds", "1", "-only", "containers/TCP bulk$", "-binary", filepath.Join(t.TempDir(), "none"))
	if err := c.measure(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(c.run.Missing) != 1 || !strings.Contains(c.run.Missing[0].Reason, "no such file") {
		t.Errorf("got %+v, want one reason that names the file", c.run.Missing)
	}
}
