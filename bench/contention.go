package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/vswitch/vswitch/bench/rig"
	"github.com/vswitch/vswitch/bench/scenario"
	"github.com/vswitch/vswitch/control/api"
)

// What is measured is how long the threads of the daemon wait for each other, while the
// loads that take most locks run and somebody looks: statistics, flows and connections
// are read ten times a second, as by vswitch top.
const (
	contentionSeconds = 5
	contentionReads   = 100 * time.Millisecond
)

var contentionLoads = [][2]string{
	{"containers", "64-byte frames"},
	{"containers", "TCP connect+request"},
	{"masquerade", "64-byte frames"},
	{"masquerade", "TCP connect+request"},
	{"localhost", "TCP connect+request"},
}

// contention writes a mutex profile of each load into a directory and the locks that
// were waited for longest to the terminal.
func contention(ctx context.Context, opt options) error {
	if os.Geteuid() != 0 {
		return errors.New("namespaces and packet sockets need root: run it with sudo")
	}
	if opt.binary == "" {
		var err error
		if opt.binary, err = build(ctx, "vswitch"); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(opt.contention, 0o755); err != nil {
		return err
	}
	r, err := rig.Build(ctx, rig.Userspace, rig.Options{Binary: opt.binary})
	if err != nil {
		return err
	}
	fmt.Println("| load | waited, of a second | where |\n|---|---|---|")
	for _, name := range contentionLoads {
		if err == nil {
			err = contend(ctx, r, name, opt)
		}
	}
	return errors.Join(err, r.Close())
}

// contend profiles one load.
func contend(ctx context.Context, r *rig.Rig, name [2]string, opt options) error {
	s, l, err := loadOf(name)
	if err != nil {
		return err
	}
	file := filepath.Join(opt.contention, strings.ReplaceAll(name[0]+"-"+name[1], " ", "-")+".pb.gz")
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	loaded, end := context.WithCancel(ctx)
	done := make(chan error, 2)
	go func() {
		done <- r.API.Profile(ctx, "mutex", contentionSeconds, f)
		end()
	}()
	go func() { done <- read(loaded, r) }()
	for loaded.Err() == nil {
		if _, err := s.Run(loaded, l, r, opt.window, true); err != nil && loaded.Err() == nil {
			end()
			return errors.Join(fmt.Errorf("%s: %w", name, err), <-done, <-done, f.Close())
		}
	}
	if err := errors.Join(<-done, <-done, f.Close()); err != nil {
		return err
	}
	waited, where, err := longest(ctx, file)
	if err != nil {
		return err
	}
	fmt.Printf("| %s, %s | %s | %s |\n", s.Title, l.Name, waited, where)
	return nil
}

func loadOf(name [2]string) (scenario.Scenario, scenario.Load, error) {
	for _, s := range scenario.Compared() {
		if i := slices.IndexFunc(s.Loads, func(l scenario.Load) bool { return l.Name == name[1] }); s.Name == name[0] && i >= 0 {
			return s, s.Loads[i], nil
		}
	}
	return scenario.Scenario{}, scenario.Load{}, fmt.Errorf("no load %s of %s", name[1], name[0])
}

// read reads what vswitch top reads until ctx ends.
func read(ctx context.Context, r *rig.Rig) error {
	for {
		_, err1 := r.API.Stats(ctx, api.StatsQuery{})
		_, err2 := r.API.Flows(ctx, api.FlowQuery{})
		_, err3 := r.API.NAT(ctx, api.NATQuery{})
		if ctx.Err() != nil {
			return nil
		}
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(contentionReads):
		}
	}
}

var (
	topTotal = regexp.MustCompile(`of ([0-9.]+)ms total`)
	topLine  = regexp.MustCompile(`^ *([0-9.]+)ms +[0-9.]+% +[0-9.]+% +[0-9.]+ms +[0-9.]+%  (.*)$`)
)

// longest reads a mutex profile: what all waited together, of a second of the load, and
// who held the locks that were waited for longest.
func longest(ctx context.Context, file string) (waited, where string, err error) {
	// What unlocks is our own code, not the packages that do it for it.
	cmd := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-unit", "ms", "-hide", `^(sync|runtime|internal)[./]`, file)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", "", fmt.Errorf("go tool pprof: %w: %s", err, said.String())
	}
	total := topTotal.FindStringSubmatch(out.String())
	if total == nil {
		return "0", "nowhere", nil
	}
	var ms float64
	if _, err := fmt.Sscan(total[1], &ms); err != nil {
		return "", "", err
	}
	var top []string
	for line := range strings.Lines(out.String()) {
		if m := topLine.FindStringSubmatch(strings.TrimRight(line, "\n")); m != nil && m[1] != "0" && len(top) < 3 {
			top = append(top, fmt.Sprintf("`%s` %s ms", strings.TrimPrefix(m[2], "github.com/vswitch/vswitch/"), m[1]))
		}
	}
	return fmt.Sprintf("%.2f ms", ms/contentionSeconds), strings.Join(top, ", "), nil
}
