package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control/api"
)

// listFlags are what lists of named things have in common.
type listFlags struct {
	quiet   bool
	filters []string
	keys    []string // by which one can filter
}

func (l *listFlags) add(cmd *cobra.Command, keys ...string) {
	cmd.Flags().BoolVarP(&l.quiet, "quiet", "q", false, "print names only")
	l.addFilter(cmd, keys...)
}

func (l *listFlags) addFilter(cmd *cobra.Command, keys ...string) {
	l.keys = keys
	cmd.Flags().StringArrayVarP(&l.filters, "filter", "f", nil, "KEY=VALUE, only what has it: "+strings.Join(keys, ", ")+" (repeatable; of one key any will do)")
	words := make([]string, len(keys))
	for i, k := range keys {
		words[i] = k + "="
	}
	cmd.RegisterFlagCompletionFunc("filter", cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoSpace|cobra.ShellCompDirectiveNoFileComp))
}

// wanted are the values of each key.
func (l *listFlags) wanted(cmd *cobra.Command) (map[string][]string, error) {
	want := make(map[string][]string)
	for _, f := range l.filters {
		key, value, ok := strings.Cut(f, "=")
		if !ok || !slices.Contains(l.keys, key) {
			return nil, usagef(cmd, "--filter %q: must be KEY=VALUE, KEY one of %s", f, strings.Join(l.keys, ", "))
		}
		want[key] = append(want[key], value)
	}
	return want, nil
}

// oneFits reports whether one of the values of a key is met, or none is asked for.
func oneFits(values []string, met func(string) bool) bool {
	return len(values) == 0 || slices.ContainsFunc(values, met)
}

// labelled meets "KEY" and "KEY=VALUE".
func labelled(labels map[string]string) func(string) bool {
	return func(want string) bool {
		key, value, valued := strings.Cut(want, "=")
		have, ok := labels[key]
		return ok && (!valued || have == value)
	}
}

// containers leaves those that the filters take. A network that does not exist, or a runtime,
// is an error: an empty table would say that there is nothing in it.
func (l *listFlags) containers(cmd *cobra.Command, c *cli, cs []api.Container) ([]api.Container, error) {
	want, err := l.wanted(cmd)
	if err != nil {
		return nil, err
	}
	for i, name := range want["network"] {
		n, err := c.client(cmd).Network(cmd.Context(), name)
		if err != nil {
			return nil, err
		}
		want["network"][i] = n.Name
	}
	for _, r := range want["runtime"] {
		if err := knownRuntime(cmd, "--filter runtime=", r); err != nil {
			return nil, err
		}
	}
	return slices.DeleteFunc(cs, func(ct api.Container) bool {
		return !oneFits(want["name"], func(s string) bool { return strings.Contains(ct.Name, s) }) ||
			!oneFits(want["id"], func(s string) bool { return strings.HasPrefix(ct.ID, s) || strings.HasPrefix(ct.RuntimeID, s) }) ||
			!oneFits(want["label"], labelled(ct.Labels)) ||
			!oneFits(want["runtime"], func(s string) bool { return ct.Runtime == s }) ||
			!oneFits(want["network"], func(s string) bool {
				return slices.ContainsFunc(ct.Endpoints, func(e api.Endpoint) bool { return e.Network == s })
			})
	}), nil
}

func (l *listFlags) networks(cmd *cobra.Command, ns []api.Network) ([]api.Network, error) {
	want, err := l.wanted(cmd)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(ns, func(n api.Network) bool {
		return !oneFits(want["name"], func(s string) bool { return strings.Contains(n.Name, s) }) ||
			!oneFits(want["id"], func(s string) bool { return strings.HasPrefix(n.ID, s) }) ||
			!oneFits(want["label"], labelled(n.Labels))
	}), nil
}

// events makes a filter of what happens, and hands that for a container to the daemon, which
// knows what its word means.
func (l *listFlags) events(cmd *cobra.Command, q *api.EventQuery) (func(*api.Event) bool, error) {
	want, err := l.wanted(cmd)
	if err != nil {
		return nil, err
	}
	for _, t := range want["event"] {
		if !slices.Contains(api.EventTypes, t) {
			return nil, usagef(cmd, "--filter event=%s: must be one of %s", t, strings.Join(api.EventTypes, ", "))
		}
	}
	if of := want["container"]; len(of) > 0 {
		if len(of) > 1 || q.Container != "" {
			return nil, usagef(cmd, "--filter container=%s: name one container, or what several have: service:NAME, project:NAME", of[0])
		}
		q.Container = of[0]
	}
	return func(e *api.Event) bool {
		return e.Type == api.EventLost ||
			oneFits(want["event"], func(s string) bool { return s == e.Type }) && oneFits(want["network"], func(s string) bool { return s == e.Network })
	}, nil
}

func knownRuntime(cmd *cobra.Command, flag, name string) error {
	if all := api.Runtimes; !slices.Contains(all, name) {
		return usagef(cmd, "%s%q: must be %s or %s", flag, name, strings.Join(all[:len(all)-1], ", "), all[len(all)-1])
	}
	return nil
}

// printNames prints a name a line.
func printNames(w io.Writer, names []string) error {
	for _, name := range names {
		if err := sayf(w, "%s\n", name); err != nil {
			return err
		}
	}
	return nil
}

// watchEvery is how often --watch looks.
const watchEvery = 2 * time.Second

// addWatch gives a command that prints a table the flag --watch.
func (c *cli) addWatch(cmd *cobra.Command) {
	var watch bool
	cmd.Flags().BoolVar(&watch, "watch", false, fmt.Sprintf("show it anew every %s on a terminal; q ends", watchEvery))
	once := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !watch {
			return once(cmd, args)
		}
		if c.format != formatTable {
			return usagef(cmd, "--watch and --format: choose one")
		}
		out := c.stdout
		defer func() { c.stdout = out }()
		return c.watch(cmd.Context(), watchEvery, func(ctx context.Context, w io.Writer, _ int) error {
			cmd.SetContext(ctx)
			c.stdout = w
			defer func() { c.stdout = out }()
			return once(cmd, args)
		})
	}
}
