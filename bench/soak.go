package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/report"
	"github.com/vswitch/vswitch/bench/rig"
	"github.com/vswitch/vswitch/bench/scenario"
	"github.com/vswitch/vswitch/control/api"
)

const (
	// soakWindow is one measurement of one neighbour.
	soakWindow = time.Second
	// soakSlower is how much longer a neighbour's 99th percentile may be than on the kernel's
	// bridge.
	soakSlower = 2
)

// readers is how many clients read flows ten times a second each, from the daemon only: the
// kernel has nobody to ask. Their own CPU time counts here and not there, so they read no more.
const (
	readers  = 2
	readRows = 1000
)

// kept is what a neighbour had by a system, alone and under attack, in each round.
type kept struct{ alone, attacked []gen.Exchanges }

// attacked is what neighbours had while some attacks went on: all at once, or one of them.
type attacked struct {
	name string
	// by are the systems, the kernel's bridge and vswitch, and their neighbours.
	by [2][]kept
}

// allAtOnce is the name of all attacks, readersToo that of what the kernel has not.
const allAtOnce, readersToo = "all at once", "readers"

// soak attacks the kernel's bridge and vswitch in turns, in every way at once or in one after
// the other, and fails when neighbours keep less with vswitch.
func soak(ctx context.Context, opt options) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("namespaces and packet sockets need root: run it with sudo")
	}
	if opt.binary == "" {
		if opt.binary, err = build(ctx, "vswitch"); err != nil {
			return err
		}
	}
	var rigs [2]*rig.Rig
	for i, system := range []string{rig.Docker, rig.VSwitch} {
		if rigs[i], err = rig.Build(ctx, system, rig.Options{Binary: opt.binary}); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rigs[i].Close()) }()
	}
	paths := scenario.Neighbors()
	var rss uint64
	var all []*attacked
	for begin := time.Now(); time.Since(begin) < opt.soak && ctx.Err() == nil; {
		if all, err = round(ctx, rigs, paths, all, opt); err != nil {
			return err
		}
		now, err := rigs[1].RSS()
		if err != nil {
			return fmt.Errorf("the daemon: %w", err)
		}
		rss = max(rss, now)
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return judge(paths, all, rss, opt.fair)
}

// round measures the neighbours one after the other, alone and while attacks go on: all at
// once or, with -each, one after the other. -only names those that take part. The systems take
// turns in everything, so that a machine that is slower for a while is slower for both.
func round(ctx context.Context, rigs [2]*rig.Rig, paths []scenario.Neighbor, to []*attacked, opt options) ([]*attacked, error) {
	var alone [2][]gen.Exchanges
	var groups [2][][]scenario.Attack
	for i, r := range rigs {
		attacks, err := scenario.Attacks(ctx, r)
		if err == nil {
			alone[i], err = each(ctx, r, paths)
		}
		if err != nil {
			return to, fmt.Errorf("%s: %w", r.System, err)
		}
		groups[i] = grouped(append(attacks, scenario.Attack{Name: readersToo}), opt)
	}
	for g := range groups[0] {
		a := &attacked{name: groups[0][g][0].Name, by: [2][]kept{make([]kept, len(paths)), make([]kept, len(paths))}}
		if !opt.each {
			a.name = allAtOnce
		}
		if i := slices.IndexFunc(to, func(b *attacked) bool { return a.name == b.name }); i >= 0 {
			a = to[i]
		} else {
			to = append(to, a)
		}
		for i, r := range rigs {
			under := alone[1] // of what the kernel has not
			if i == 1 || a.name != readersToo {
				var err error
				if under, err = during(ctx, r, paths, groups[i][g]); err != nil {
					return to, fmt.Errorf("%s: %w", r.System, err)
				}
			}
			for n := range paths {
				k := &a.by[i][n]
				k.alone, k.attacked = append(k.alone, alone[i][n]), append(k.attacked, under[n])
			}
		}
	}
	return to, nil
}

// grouped are the attacks that go on at one time.
func grouped(attacks []scenario.Attack, opt options) (groups [][]scenario.Attack) {
	for _, a := range attacks {
		switch {
		case !opt.only.MatchString(a.Name) || a.Alone && !opt.each:
		case opt.each || len(groups) == 0:
			groups = append(groups, []scenario.Attack{a})
		default:
			groups[0] = append(groups[0], a)
		}
	}
	return groups
}

// each is what each neighbour keeps now.
func each(ctx context.Context, r *rig.Rig, paths []scenario.Neighbor) (got []gen.Exchanges, err error) {
	for _, p := range paths {
		e, err := p.Keeps(ctx, r, soakWindow)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		got = append(got, e)
	}
	return got, nil
}

// during is what each keeps while attacks go on.
func during(ctx context.Context, r *rig.Rig, paths []scenario.Neighbor, attacks []scenario.Attack) ([]gen.Exchanges, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	length := time.Duration(len(paths)) * (soakWindow + time.Second)
	var under errgroup.Group
	for _, a := range attacks {
		if a.Name != readersToo {
			under.Go(func() error { return a.Run(ctx, length) })
			continue
		}
		for range readers {
			under.Go(func() error { return readFlows(ctx, r) })
		}
	}
	time.Sleep(time.Second) // so long an agent takes to start, and a table to fill
	got, err := each(ctx, r, paths)
	cancel()
	return got, errors.Join(err, under.Wait())
}

// readFlows reads flows until ctx is done. A request that is refused is made again: that is no
// failure of the soak.
func readFlows(ctx context.Context, r *rig.Rig) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for r.API != nil {
		_, _ = r.API.Flows(ctx, api.FlowQuery{Limit: readRows})
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	return nil
}

// judge writes what neighbours kept and fails when that is too little. Each system is held
// against itself first: how fast it is alone depends on what else the machine does. Readers, whom the
// kernel has not, are held against vswitch without them.
func judge(paths []scenario.Neighbor, all []*attacked, rss uint64, fair float64) error {
	fmt.Println("| attack | neighbour | kernel's bridge alone | attacked | vswitch alone | attacked | part kept there | here | p99 there | here | failed there | here | |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	var errs []error
	for _, a := range all {
		for n, p := range paths {
			k, o := summary(a.by[0][n]), summary(a.by[1][n])
			if a.name == readersToo {
				k.alone, k.p99Alone = o.alone, o.p99Alone
			}
			bad := verdict(k, o, fair)
			fmt.Printf("| %s | %s | %s | %s | %s | %s | %.2f | %.2f | %s | %s | %d | %d | %s |\n", a.name, p.Name,
				report.PerSecond.Format(k.alone), report.PerSecond.Format(k.attacked), report.PerSecond.Format(o.alone), report.PerSecond.Format(o.attacked),
				k.part(), o.part(), k.p99, o.p99, k.failed, o.failed, strings.Join(bad, ", "))
			for _, b := range bad {
				errs = append(errs, fmt.Errorf("%s, %s: %s", a.name, p.Name, b))
			}
		}
	}
	fmt.Printf("\nthe daemon had %s at most\n", report.Bytes.Format(float64(rss)))
	return errors.Join(errs...)
}

// verdict is what neighbours have less of than on the kernel's bridge. Success is what counts,
// as a rate or as a part of what it is without the attack, whichever is kinder: the machine
// is not the same from one second to the next. A part above one counts as one: an attack keeps
// CPUs awake, which makes connections faster than alone, and is nothing that was kept.
func verdict(k, o medians, fair float64) (bad []string) {
	part := o.part() / min(k.part(), 1)
	if part < fair && o.attacked < fair*k.attacked {
		bad = append(bad, fmt.Sprintf("%.2f of what they keep there", max(part, o.attacked/k.attacked)))
	}
	if o.p99 > soakSlower*k.p99 && o.slower() > soakSlower*max(k.slower(), 1) {
		bad = append(bad, fmt.Sprintf("p99 %.1f times theirs", o.p99.Seconds()/k.p99.Seconds()))
	}
	if o.failed > k.failed+int(o.attacked/100) {
		bad = append(bad, fmt.Sprintf("%d failed", o.failed))
	}
	return bad
}

// medians are what a neighbour had in the median of all rounds.
type medians struct {
	alone, attacked float64 // connections a second
	p99, p99Alone   time.Duration
	failed          int // of all rounds, under attack
}

func (m medians) part() float64 { return m.attacked / max(m.alone, 1) }

// slower is how often the 99th percentile alone goes into that under attack.
func (m medians) slower() float64 { return float64(m.p99) / float64(max(m.p99Alone, time.Microsecond)) }

func summary(k kept) (m medians) {
	rate, p99 := gen.Exchanges.PerSecond, func(e gen.Exchanges) float64 { return float64(e.P99) }
	for _, e := range k.attacked {
		m.failed += e.Failed
	}
	m.alone, m.attacked = median(k.alone, rate), median(k.attacked, rate)
	m.p99, m.p99Alone = time.Duration(median(k.attacked, p99)).Round(time.Microsecond), time.Duration(median(k.alone, p99))
	return m
}

func median(rounds []gen.Exchanges, of func(gen.Exchanges) float64) float64 {
	all := make([]float64, len(rounds))
	for i, e := range rounds {
		all[i] = of(e)
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}
