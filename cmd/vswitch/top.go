package main

import (
	"cmp"
	"context"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
)

func newTop(c *cli) *cobra.Command {
	var every time.Duration
	var shares bool
	cmd := &cobra.Command{
		Use:   "top [NAME]",
		Short: "Watch ports, rates, connections and drops live",
		Long: `Watch the rates of all ports, or of a container's, the busiest connections and the
frames that are dropped, until q or Ctrl-C. When the output is no terminal it is
printed once.`,
		Args: args("[NAME]"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if every < minEvery {
				return usagef(cmd, "--interval %s: must be at least %s", every, minEvery)
			}
			if shares {
				return c.topShares(cmd, every, args)
			}
			v := &topView{client: c.client(cmd), every: every}
			if len(args) == 1 {
				v.name = args[0]
			}
			return c.watch(cmd.Context(), every, v.draw)
		},
		ValidArgsFunction: complete(c.containers, noMore),
	}
	cmd.Flags().DurationVar(&every, "interval", time.Second, "time between two looks")
	cmd.Flags().BoolVar(&shares, "shares", false, "what each container has of the tables that all share, gave and was refused")
	return cmd
}

const minEvery = 100 * time.Millisecond

// topFlows is vswitch flows --top.
func (c *cli) topFlows(cmd *cobra.Command, q api.FlowQuery) error {
	cl := c.client(cmd)
	return c.watch(cmd.Context(), time.Second, func(ctx context.Context, w io.Writer, rows int) error {
		q := q
		if q.Limit == 0 || q.Limit > rows-1 {
			q.Limit = max(rows-1, 1)
		}
		list, err := cl.Flows(ctx, q)
		if err != nil {
			return err
		}
		return printFlows(w, list)
	})
}

// topView draws the screen of vswitch top.
type topView struct {
	client *client.Client
	name   string
	every  time.Duration
	before api.Stats
	at     time.Time
}

// draw shows what happened since the last call; the first call waits for it.
func (v *topView) draw(ctx context.Context, w io.Writer, rows int) error {
	if v.at.IsZero() {
		if err := v.look(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(v.every, time.Second)):
		}
	}
	before, since := v.before, v.at
	if err := v.look(ctx); err != nil {
		return err
	}
	took := v.at.Sub(since).Seconds()
	var list []api.Flow
	flows, err := v.client.Flows(ctx, api.FlowQuery{Container: v.name, Limit: min(max(rows/3, 3), 50)})
	if err != nil {
		return err
	}
	for _, f := range flows {
		if f.Rate > 0 {
			list = append(list, f)
		}
	}
	ports := portRates(before, v.before, took)
	sayf(w, "%s tracked\n\n", plural(v.before.Connections, "connection"))
	drops := dropRates(before, v.before, took)
	if room := rows - 8 - len(list) - len(drops); rows < unbounded && len(ports) > max(room, 3) {
		ports = ports[:max(room, 3)]
	}
	t := newTable(w, "PORT", "CONTAINER", "NETWORK", "RX", "RX FRAMES/S", "TX", "TX FRAMES/S", "DROPPED/S")
	for _, p := range ports {
		t.row(p.Port, p.Container, p.Network, rate(p.rx), perSecond(p.rxFrames), rate(p.tx), perSecond(p.txFrames), perSecond(p.dropped))
	}
	if err := t.flush(); err != nil {
		return err
	}
	if len(list) > 0 {
		sayf(w, "\n")
		t := newTable(w, "CONTAINER", "DIR", "PEER", "PEER ADDRESS", "PROTO", "STATE", "RATE", "BYTES", "AGE")
		for _, f := range list {
			t.row(cmp.Or(f.Container, f.Address), f.Direction, f.Peer, f.PeerAddress, f.Proto, f.State, rate(f.Rate),
				size(float64(f.SentBytes+f.ReceivedBytes)), seconds(f.Age))
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	if len(drops) == 0 {
		return nil
	}
	sayf(w, "\n")
	t = newTable(w, "DROP REASON", "FRAMES/S", "FRAMES")
	for _, d := range drops {
		t.row(d.reason, perSecond(d.rate), count(d.total))
	}
	return t.flush()
}

func (v *topView) look(ctx context.Context) (err error) {
	v.before, err = v.client.Stats(ctx, api.StatsQuery{Container: v.name})
	v.at = time.Now()
	return err
}

type portRate struct {
	api.PortStats
	rx, tx, rxFrames, txFrames, dropped float64
}

// portRates are the ports of now with what they did since, the busiest first.
func portRates(before, now api.Stats, took float64) []portRate {
	was := make(map[string]api.PortStats)
	for _, p := range before.Ports {
		was[p.Port] = p
	}
	var list []portRate
	for _, p := range now.Ports {
		o := was[p.Port]
		r := portRate{PortStats: p}
		r.rx, r.tx = grown(o.RxBytes, p.RxBytes, took), grown(o.TxBytes, p.TxBytes, took)
		r.rxFrames, r.txFrames = grown(o.RxFrames, p.RxFrames, took), grown(o.TxFrames, p.TxFrames, took)
		r.dropped = grown(o.KernelDrops, p.KernelDrops, took)
		for reason, n := range p.Drops {
			r.dropped += grown(o.Drops[reason], n, took)
		}
		list = append(list, r)
	}
	slices.SortStableFunc(list, func(a, b portRate) int { return cmp.Compare(b.rx+b.tx, a.rx+a.tx) })
	return list
}

type dropRate struct {
	reason string
	rate   float64
	total  uint64
}

// dropRates are the reasons that occurred since.
func dropRates(before, now api.Stats, took float64) []dropRate {
	var list []dropRate
	for _, reason := range slices.Sorted(maps.Keys(now.Drops)) {
		if n := now.Drops[reason]; n > before.Drops[reason] {
			list = append(list, dropRate{reason, grown(before.Drops[reason], n, took), n})
		}
	}
	slices.SortStableFunc(list, func(a, b dropRate) int { return cmp.Compare(b.rate, a.rate) })
	return list
}

// grown is how fast a counter grew; a port that is new, or another one by the
// same name, begins at nothing.
func grown(was, is uint64, took float64) float64 {
	if is < was || took <= 0 {
		return 0
	}
	return float64(is-was) / took
}

func perSecond(v float64) string {
	if v == 0 {
		return "0"
	}
	return strings.TrimSpace(scaled(v, 1000))
}

// unbounded is the height of an output that is no terminal.
const unbounded = 1 << 20

// watch draws again and again on a terminal until q, Ctrl-C or an error; on
// anything else once.
func (c *cli) watch(ctx context.Context, every time.Duration, draw func(ctx context.Context, w io.Writer, rows int) error) error {
	f, ok := c.stdout.(*os.File)
	if !ok || !isTerminal(f) {
		return captureEnd(draw(ctx, c.stdout, unbounded))
	}
	ctx, stop := untilSignal(ctx)
	defer stop()
	s, err := openScreen(ctx, f, c.stdin)
	if err != nil {
		return err
	}
	defer s.close()
	for {
		if err := s.show(ctx, draw); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if !s.wait(ctx, every) {
			return nil
		}
	}
}
