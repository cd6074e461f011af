package main

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control/api"
)

// followFlows prints connections as they begin and end.
func (c *cli) followFlows(cmd *cobra.Command, q api.FlowQuery) error {
	ctx, stop := untilSignal(cmd.Context())
	defer stop()
	q.Begins = true
	return captureEnd(c.client(cmd).FlowLog(ctx, q, func(f api.Flow) error {
		return c.printEachOr(f, func() error { return printToldFlow(c.stdout, &f) })
	}))
}

// printToldFlow is a line: when, what, who with whom from the container's side, the verdict, and
// of what has ended what it has carried.
func printToldFlow(w io.Writer, f *api.Flow) error {
	if f.Lost > 0 {
		return sayf(w, "%d flows are missing here: this reader was too slow\n", f.Lost)
	}
	at, way := f.Start, ">"
	if f.End != nil {
		at = *f.End
	}
	if f.Direction == api.FlowIn {
		way = "<"
	}
	line := fmt.Sprintf("%s  %-7s %-4s  %s %s %s  %s", at.Local().Format("15:04:05.000"), f.Event, f.Proto,
		flowEnd(f.Container, f.Address), way, flowEnd(f.Peer, f.PeerAddress), f.Verdict)
	if f.Event == api.FlowEnds {
		line += fmt.Sprintf("  %s, sent %s, received %s in %s", f.State, size(float64(f.SentBytes)), size(float64(f.ReceivedBytes)), seconds(f.Age))
	}
	return sayf(w, "%s\n", line)
}

func flowEnd(name, addr string) string {
	if name == "" {
		return addr
	}
	return name + " " + addr
}

// flowGroup is what two have with each other.
type flowGroup struct {
	Container       string  `json:"container,omitempty"`
	Peer            string  `json:"peer"` // name, or address in the world
	Flows           int     `json:"flows"`
	SentPackets     uint64  `json:"sent_packets"`
	SentBytes       uint64  `json:"sent_bytes"`
	ReceivedPackets uint64  `json:"received_packets"`
	ReceivedBytes   uint64  `json:"received_bytes"`
	Rate            float64 `json:"rate"`
}

// groupFlows adds up the flows of each pair, the highest rate first. A pair of containers is one,
// whoever began.
func groupFlows(list []api.Flow) []flowGroup {
	var groups []*flowGroup
	at := make(map[[2]string]*flowGroup)
	for i := range list {
		f := &list[i]
		near, far := f.Container, cmp.Or(f.Peer, addrOnly(f.PeerAddress))
		sent, received := [2]uint64{f.SentPackets, f.SentBytes}, [2]uint64{f.ReceivedPackets, f.ReceivedBytes}
		g := at[[2]string{near, far}]
		if g == nil {
			if g = at[[2]string{far, near}]; g != nil {
				sent, received = received, sent
			}
		}
		if g == nil {
			g = &flowGroup{Container: near, Peer: far}
			at[[2]string{near, far}] = g
			groups = append(groups, g)
		}
		g.Flows++
		g.SentPackets += sent[0]
		g.SentBytes += sent[1]
		g.ReceivedPackets += received[0]
		g.ReceivedBytes += received[1]
		g.Rate += f.Rate
	}
	slices.SortStableFunc(groups, func(a, b *flowGroup) int {
		return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(b.SentBytes+b.ReceivedBytes, a.SentBytes+a.ReceivedBytes))
	})
	out := make([]flowGroup, len(groups))
	for i, g := range groups {
		out[i] = *g
	}
	return out
}

func addrOnly(s string) string {
	if at, err := netip.ParseAddrPort(s); err == nil {
		return at.Addr().String()
	}
	return s
}

func printGroups(w io.Writer, list []flowGroup) error {
	t := newTable(w, "CONTAINER", "PEER", "FLOWS", "PACKETS", "SENT", "RECEIVED", "RATE")
	for _, g := range list {
		t.row(g.Container, g.Peer, fmt.Sprint(g.Flows), count(g.SentPackets+g.ReceivedPackets), size(float64(g.SentBytes)), size(float64(g.ReceivedBytes)), rate(g.Rate))
	}
	return t.flush()
}
