package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/vswitch/vswitch/bench/report"
	"github.com/vswitch/vswitch/bench/rig"
	"github.com/vswitch/vswitch/bench/scenario"
)

// campaign is one run of everything that was asked for.
type campaign struct {
	opt      options
	progress *progress
	run      report.Run
}

// measure goes through all scenarios. What fails is noted as missing and the
// rest goes on; only the end of ctx stops it, and then what was found stays.
func (c *campaign) measure(ctx context.Context) error {
	for _, s := range scenario.Compared() {
		c.progress.steps += len(c.chosen(s))
	}
	for _, s := range scenario.Compared() {
		if err := c.compare(ctx, s); err != nil {
			c.miss(s.Name, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if c.opt.rival != rig.VSwitch || c.opt.guard != "" && !c.opt.named {
		return nil // only ratios are compared with others
	}
	extent := scenario.Extent{Quick: c.opt.quick, Window: min(c.opt.window, time.Second)}
	for _, a := range scenario.Alones() {
		if !c.opt.only.MatchString(a.Name) {
			continue
		}
		c.progress.begin(a.Name)
		found, err := a.Run(ctx, c.rigOptions(), extent)
		c.run.Alone = append(c.run.Alone, found.Figures...)
		c.run.Curves = append(c.run.Curves, found.Curves...)
		for _, f := range found.Figures {
			c.progress.figure(f)
		}
		for _, curve := range found.Curves {
			c.progress.curve(curve)
		}
		if err != nil {
			c.miss(a.Name, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// chosen are the loads of s that were asked for. A load that is named by -only
// need not be in the quick table.
func (c *campaign) chosen(s scenario.Scenario) []scenario.Load {
	var loads []scenario.Load
	if c.opt.rival == kernel && rig.IsOurs(s.Baseline) {
		return nil // its baseline is no kernel's
	}
	for _, l := range s.Loads {
		if c.opt.only.MatchString(s.Name+"/"+l.Name) && (l.Quick || !c.opt.quick || c.opt.named) {
			loads = append(loads, l)
		}
	}
	return loads
}

func (c *campaign) rigOptions() rig.Options {
	return rig.Options{Binary: c.opt.binary, Uncounted: func(ctx context.Context) (string, error) {
		return build(ctx, "vswitch-uncounted", "-tags", "unobserved")
	}}
}

func (c *campaign) miss(what string, err error) {
	reason := strings.Join(strings.Fields(err.Error()), " ") // one line, whatever a tool printed
	if errors.Is(err, context.Canceled) {
		reason = "interrupted"
	}
	c.progress.miss(what, reason)
	c.run.Missing = append(c.run.Missing, report.Missing{Scenario: what, Reason: reason})
}

// compare runs the loads of s on all systems, which stand side by side all the
// while: those that are not being measured are idle.
func (c *campaign) compare(ctx context.Context, s scenario.Scenario) error {
	loads := c.chosen(s)
	if len(loads) == 0 {
		return nil
	}
	c.progress.begin(s.Title)
	subject := c.opt.rival
	switch {
	case subject == kernel:
		subject = s.Baseline
	case s.Subject != "":
		subject = s.Subject
	}
	var rigs []*rig.Rig // baseline, subject, others
	for i, system := range append([]string{s.Baseline, subject}, c.others(s, loads)...) {
		if i == 1 && system == s.Baseline && s.Around != nil {
			rigs = append(rigs, rigs[0]) // what is compared is around the load
			continue
		}
		r, err := c.build(ctx, system)
		if err != nil && i > 1 && ctx.Err() == nil {
			c.miss(s.Name+" by "+system, err)
			continue
		}
		if err != nil {
			return err
		}
		defer c.close(r)
		rigs = append(rigs, r)
	}
	begin := len(c.run.Compared)
	defer func() {
		// The rows against one system belong together.
		slices.SortStableFunc(c.run.Compared[begin:], func(a, b report.Comparison) int {
			place := func(row report.Comparison) int {
				return slices.IndexFunc(rigs, func(r *rig.Rig) bool { return r.System == row.Baseline })
			}
			return place(a) - place(b)
		})
	}()
	for _, l := range loads {
		if err := c.interleave(ctx, s, l, rigs); err != nil {
			c.miss(s.Name+"/"+l.Name, err)
		}
		if ctx.Err() != nil {
			return nil // measure says so
		}
	}
	return nil
}

// others are the systems beside kernel and subject that any of the loads is
// for.
func (c *campaign) others(s scenario.Scenario, loads []scenario.Load) (list []string) {
	for _, system := range s.Others {
		on := func(l scenario.Load) bool { return l.On(system) }
		if c.opt.rival != kernel && (!c.opt.kernelOnly || !rig.IsOther(system) && !rig.IsOurs(system)) && slices.ContainsFunc(loads, on) {
			list = append(list, system)
		}
	}
	return list
}

func (c *campaign) build(ctx context.Context, system string) (*rig.Rig, error) {
	if err := rig.Available(system); err != nil {
		return nil, err
	}
	r, err := rig.Build(ctx, system, c.rigOptions())
	if err != nil {
		return nil, err
	}
	if system == rig.VSwitch {
		c.run.Version, c.run.Localhost = r.Version, r.Localhost
	}
	return r, nil
}

func (c *campaign) close(r *rig.Rig) {
	if err := r.Close(); err != nil {
		c.miss("end of "+r.System, err)
	}
}

// interleave puts one load on the systems in turn, round after round: rigs are
// the baseline, the subject and the others. A round that fails is no sample; the
// first reason is returned, after all rounds.
func (c *campaign) interleave(ctx context.Context, s scenario.Scenario, l scenario.Load, rigs []*rig.Rig) error {
	rigs = append(slices.Clone(rigs[:2]), slices.DeleteFunc(slices.Clone(rigs[2:]), func(r *rig.Rig) bool { return !l.On(r.System) })...)
	var first error
	var carried report.Carried
	failed := 0
	samples := make([][]report.Samples, len(rigs)) // by system and measure
	for i := range samples {
		samples[i] = make([]report.Samples, len(l.Measures))
	}
	rounds, window := s.Rounds(c.opt.rounds, c.opt.window)
	for round := range rounds {
		for i, r := range rigs {
			if round%2 == 1 { // whoever is the second finds another machine than the first
				i = len(rigs) - 1 - i
				r = rigs[i]
			}
			before := r.Counts(ctx)
			values, err := s.Run(ctx, l, r, window, i == 1)
			if i == 1 && err == nil {
				made := 0.0
				if l.Connects {
					made = values[0] * window.Seconds()
				}
				carried.Add(made, r.Counts(ctx).Since(before))
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				failed++
				first = cmp.Or(first, fmt.Errorf("%s: %w", r.System, err))
			}
			for m := range l.Measures {
				v := math.NaN()
				if err == nil {
					v = values[m]
				}
				samples[i][m] = append(samples[i][m], v)
			}
		}
		c.progress.round(comparisons(s, l, rigs, samples, carried), round+1, rounds)
	}
	c.progress.done()
	c.run.Compared = append(c.run.Compared, comparisons(s, l, rigs, samples, carried)...)
	if first != nil {
		return fmt.Errorf("%d of %d measurements failed, the first: %w", failed, len(rigs)*rounds, first)
	}
	return nil
}

// comparisons sets the subject against each of the other systems: all measures
// against the kernel, then the main ones against the others.
func comparisons(s scenario.Scenario, l scenario.Load, rigs []*rig.Rig, samples [][]report.Samples, carried report.Carried) []report.Comparison {
	var rows []report.Comparison
	for i, r := range rigs {
		if i == 1 {
			continue
		}
		for k, m := range l.Measures {
			if i > 1 {
				if m.Detail {
					continue
				}
				m.Bound = scenario.Bound(r.System, l, k)
			}
			row := report.Comparison{
				Scenario: s.Name, Title: s.Title, Measure: m, Baseline: r.System,
				BaselineSamples: samples[i][k], SubjectSamples: samples[1][k],
			}
			if k == 0 {
				row.Carried = carried
			}
			rows = append(rows, row)
		}
	}
	return rows
}
