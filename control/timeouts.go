package control

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vswitch/vswitch/dataplane/conntrack"
)

// Bounds of Config.MaxFlows: one that is full before a container has opened
// its page, and one that takes 2 GB.
const (
	minFlows = 1024
	maxFlows = 10_000_000
)

// timeoutFields are the names of Config.Timeouts.
var timeoutFields = map[string]func(*conntrack.Timeouts) *time.Duration{
	"udp-once":        func(t *conntrack.Timeouts) *time.Duration { return &t.UDPOnce },
	"udp":             func(t *conntrack.Timeouts) *time.Duration { return &t.UDP },
	"udp-dns":         func(t *conntrack.Timeouts) *time.Duration { return &t.UDPDNS },
	"udp-inbound":     func(t *conntrack.Timeouts) *time.Duration { return &t.UDPInbound },
	"icmp":            func(t *conntrack.Timeouts) *time.Duration { return &t.ICMP },
	"tcp-opening":     func(t *conntrack.Timeouts) *time.Duration { return &t.TCPOpening },
	"tcp-established": func(t *conntrack.Timeouts) *time.Duration { return &t.TCPEstablished },
	"tcp-half-closed": func(t *conntrack.Timeouts) *time.Duration { return &t.TCPHalfClosed },
	"tcp-closing":     func(t *conntrack.Timeouts) *time.Duration { return &t.TCPClosing },
	"tcp-reset":       func(t *conntrack.Timeouts) *time.Duration { return &t.TCPReset },
	"other":           func(t *conntrack.Timeouts) *time.Duration { return &t.Other },
}

// compileTimeouts gives the times of a configuration to the data path. The sweep
// comes by each second, so that less makes no sense.
func compileTimeouts(in map[string]time.Duration) (out conntrack.Timeouts, err error) {
	for _, name := range slices.Sorted(maps.Keys(in)) {
		field := timeoutFields[name]
		if field == nil {
			return out, fmt.Errorf("timeout %s: no such state: use one of %s", name, strings.Join(slices.Sorted(maps.Keys(timeoutFields)), ", "))
		}
		if in[name] < time.Second {
			return out, fmt.Errorf("timeout %s of %s: use a second or more", name, in[name])
		}
		*field(&out) = in[name]
	}
	return out, nil
}
