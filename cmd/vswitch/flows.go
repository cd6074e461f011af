package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control/api"
)

func newFlows(c *cli) *cobra.Command {
	var (
		top, follow, group bool
		q                  api.FlowQuery
	)
	cmd := &cobra.Command{
		Use:   "flows [NAME]",
		Short: "Show the connections of all containers or of one, with their rates",
		Long: `Show the connections of all containers, or of one as it sees them, those with the
highest rate first: routed ones as long as they are tracked, those between
containers for a minute after their last packet; closed ones are gone at once.
--follow prints each as it begins and as it ends, and packets that are refused,
until Ctrl-C, with --format json an object a line; --top shows them live; --group
adds up the flows of each pair.`,
		Example: `  vswitch flows
  vswitch flows web --top
  vswitch flows web --follow --port 443
  vswitch flows --group --peer host
  vswitch flows --follow --format json >> flows.json`,
		Args: args("[NAME]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				q.Container = args[0]
			}
			switch {
			case q.Limit < 0:
				return usagef(cmd, "--limit %d: must be a number of flows", q.Limit)
			case cmd.Flags().Changed("port") && (q.Port < 1 || q.Port > 65535):
				return usagef(cmd, "--port %d: must be from 1 to 65535", q.Port)
			case top && follow, top && group, follow && group:
				return usagef(cmd, "--top, --follow and --group: choose one")
			case q.Limit > 0 && (follow || group):
				return usagef(cmd, "--limit: leave it out with --follow and --group, which take all")
			case top:
				return c.topFlows(cmd, q)
			case follow:
				return c.followFlows(cmd, q)
			}
			list, err := c.client(cmd).Flows(cmd.Context(), q)
			if err != nil {
				return err
			}
			if group {
				groups := groupFlows(list)
				return c.printOr(listed(groups), func() error { return printGroups(c.stdout, groups) })
			}
			return c.printOr(listed(list), func() error { return printFlows(c.stdout, list) })
		},
		ValidArgsFunction: complete(c.containers, noMore),
	}
	cmd.Flags().BoolVar(&top, "top", false, "show them live, those with the highest rate first; q ends")
	cmd.Flags().BoolVar(&follow, "follow", false, "print each as it begins and ends, until Ctrl-C")
	cmd.Flags().BoolVar(&group, "group", false, "add up the flows of each pair")
	cmd.Flags().IntVar(&q.Limit, "limit", 0, "so many at most (default all)")
	cmd.Flags().StringVar(&q.State, "state", "", "only in this state, as the table has it")
	cmd.Flags().IntVar(&q.Port, "port", 0, "only with this port, at whichever end")
	cmd.Flags().StringVar(&q.Peer, "peer", "", "only with this other side: a container, host, an address or a prefix")
	cmd.Flags().StringVar(&q.Proto, "proto", "", "only of this protocol: tcp, udp, icmp, icmpv6, sctp or a number")
	cmd.Flags().StringVar(&q.Direction, "direction", "", "out: only those that the container began; in: the others")
	c.addFormat(cmd)
	return cmd
}

func printFlows(w io.Writer, list []api.Flow) error {
	t := newTable(w, "CONTAINER", "ADDRESS", "DIR", "PEER", "PEER ADDRESS", "PROTO", "STATE", "KIND", "PACKETS", "BYTES", "RATE", "AGE", "IDLE", "BY")
	for _, f := range list {
		t.row(f.Container, f.Address, f.Direction, f.Peer, f.PeerAddress, f.Proto, f.State, f.Kind,
			count(f.SentPackets+f.ReceivedPackets), size(float64(f.SentBytes+f.ReceivedBytes)), rate(f.Rate), seconds(f.Age), seconds(f.Idle), carrier(&f))
	}
	return t.flush()
}

// carrier is who moves the packets, and for how long the kernel has.
func carrier(f *api.Flow) string {
	if f.CarriedSince == nil {
		return f.Carrier
	}
	return f.Carrier + " " + seconds(max(0, time.Since(*f.CarriedSince).Seconds()))
}

// rate prints bytes a second as bits, as links are measured.
func rate(bytes float64) string {
	if bytes == 0 {
		return "0"
	}
	return scaled(bytes*8, 1000) + "bit/s"
}

// size prints a number of bytes.
func size(bytes float64) string { return scaled(bytes, 1024) + "B" }

// scaled writes a number with three digits and a prefix.
func scaled(v, base float64) string {
	const prefixes = " kMGTPE"
	i := 0
	for ; v >= 999.5 && i < len(prefixes)-1; i++ {
		v /= base
	}
	switch {
	case i == 0:
		return fmt.Sprintf("%.0f ", v)
	case v < 9.95:
		return fmt.Sprintf("%.1f %c", v, prefixes[i])
	}
	return fmt.Sprintf("%.0f %c", v, prefixes[i])
}

func newEvents(c *cli) *cobra.Command {
	var (
		since  string
		follow bool
		list   listFlags
	)
	cmd := &cobra.Command{
		Use:   "events [NAME]",
		Short: "Show what happens: containers come and go, ports, spoofing, limits",
		Long: `Show what happens, one line for each event, until Ctrl-C: containers, networks and
published ports that come and go, uplinks, spoofed and moved MAC addresses, loops,
storms, full tables and limits. With --since earlier ones come first, as far as the
daemon still has them (the last 1024).`,
		Example: `  vswitch events
  vswitch events project:shop
  vswitch events -f event=attach -f event=detach
  vswitch events --since 10m --follow=false
  vswitch events --format json`,
		Args: args("[NAME]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			q := api.EventQuery{Once: !follow}
			if len(args) == 1 {
				q.Container = args[0]
			}
			if !follow && since == "" {
				since = "0"
			}
			if err := parseSince(&q, since); err != nil {
				return usagef(cmd, "%w", err)
			}
			wanted, err := list.events(cmd, &q)
			if err != nil {
				return err
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			return captureEnd(c.client(cmd).Events(ctx, q, func(e api.Event) error {
				if !wanted(&e) {
					return nil
				}
				return c.printEachOr(e, func() error {
					kind := e.Type
					if e.Lost > 0 {
						kind = fmt.Sprintf("%s %d", e.Type, e.Lost)
					}
					return sayf(c.stdout, "%s  %-15s %s\n", e.Time.Local().Format("2006-01-02 15:04:05.000"), kind, e.Message)
				})
			}))
		},
	}
	cmd.ValidArgsFunction = complete(c.containers, noMore)
	cmd.Flags().StringVar(&since, "since", "", "print earlier events first: of the last 10m, since a time (RFC 3339), or after an event's number")
	cmd.Flags().BoolVar(&follow, "follow", true, "go on until Ctrl-C; false: print what there is")
	list.addFilter(cmd, "event", "container", "network")
	c.addFormat(cmd)
	return cmd
}

// parseSince reads a duration, a time or the number of an event.
func parseSince(q *api.EventQuery, since string) error {
	if since == "" {
		return nil
	}
	var n uint64
	if d, err := time.ParseDuration(since); err == nil && since != "0" {
		q.SinceTime = time.Now().Add(-d)
	} else if at, err := time.Parse(time.RFC3339Nano, since); err == nil {
		q.SinceTime = at
	} else if _, err := fmt.Sscanf(since+"\n", "%d\n", &n); err == nil {
		q.Since = &n
	} else {
		return fmt.Errorf("--since %q: must be a duration such as 10m, a time such as 2006-01-02T15:04:05Z, or the number of an event", since)
	}
	return nil
}
