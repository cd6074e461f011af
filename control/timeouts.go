package control

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/vswitch/vswitch/dataplane"
)

// Bounds of DaemonConfig.MaxFlows: one that is full before a container has opened
// its page, and one that takes 2 GB.
const (
	minFlows = 1024
	maxFlows = 10_000_000
)

// timeoutFields are the names of DaemonConfig.Timeouts.
var timeoutFields = map[string]func(*dataplane.Timeouts) *time.Duration{
	"udp-once":        func(t *dataplane.Timeouts) *time.Duration { return &t.UDPOnce },
	"udp":             func(t *dataplane.Timeouts) *time.Duration { return &t.UDP },
	"udp-dns":         func(t *dataplane.Timeouts) *time.Duration { return &t.UDPDNS },
	"udp-inbound":     func(t *dataplane.Timeouts) *time.Duration { return &t.UDPInbound },
	"icmp":            func(t *dataplane.Timeouts) *time.Duration { return &t.ICMP },
	"tcp-opening":     func(t *dataplane.Timeouts) *time.Duration { return &t.TCPOpening },
	"tcp-established": func(t *dataplane.Timeouts) *time.Duration { return &t.TCPEstablished },
	"tcp-half-closed": func(t *dataplane.Timeouts) *time.Duration { return &t.TCPHalfClosed },
	"tcp-closing":     func(t *dataplane.Timeouts) *time.Duration { return &t.TCPClosing },
	"tcp-reset":       func(t *dataplane.Timeouts) *time.Duration { return &t.TCPReset },
	"other":           func(t *dataplane.Timeouts) *time.Duration { return &t.Other },
}

// compileTimeouts gives the times of a configuration to the data path. The sweep
// comes by each second, so that less makes no sense.
func compileTimeouts(in map[string]time.Duration) (out dataplane.Timeouts, err error) {
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
