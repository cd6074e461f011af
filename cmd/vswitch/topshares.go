package main

import (
	"cmp"
	"context"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control/api"
)

// topShares is vswitch top --shares, of one container or of all.
func (c *cli) topShares(cmd *cobra.Command, every time.Duration, args []string) error {
	cl := c.client(cmd)
	var only map[string]bool
	if len(args) == 1 {
		list, err := cl.ContainersOf(cmd.Context(), api.ContainerFilter{Select: args[0]})
		if err != nil {
			return err
		}
		only = make(map[string]bool)
		for _, ct := range list {
			only[ct.ID] = true
		}
	}
	return c.watch(cmd.Context(), every, func(ctx context.Context, w io.Writer, rows int) error {
		list, err := cl.Shares(ctx)
		if err != nil {
			return err
		}
		if only != nil {
			list = slices.DeleteFunc(list, func(s api.Share) bool { return !only[s.ContainerID] })
		}
		nets := sharesOfNetworks(list)
		if room := max(rows-len(nets)-4, 3); len(list) > room {
			list = list[:room]
		}
		if err := printShares(w, "CONTAINER", list); err != nil || only != nil {
			return err
		}
		sayf(w, "\n")
		return printShares(w, "NETWORK", nets)
	})
}

func printShares(w io.Writer, whose string, list []api.Share) error {
	t := newTable(w, "SHARED", whose, "HELD", "ROOM", "GAVE", "REFUSED")
	for _, s := range list {
		room := "-"
		if s.Room > 0 {
			room = count(uint64(s.Room))
		}
		t.row(s.Shared, cmp.Or(s.Container, "-"), count(uint64(max(s.Held, 0))), room, count(s.Gave), count(s.Refused))
	}
	return t.flush()
}

// sharesOfNetworks sums what the containers of each network have. One that is in several
// counts in each.
func sharesOfNetworks(list []api.Share) (sums []api.Share) {
	for _, s := range list {
		for _, name := range s.Networks {
			i := slices.IndexFunc(sums, func(o api.Share) bool { return o.Container == name && o.Shared == s.Shared })
			if i < 0 {
				i = len(sums)
				sums = append(sums, api.Share{Container: name, Shared: s.Shared, Room: s.Room})
			}
			sums[i].Held += s.Held
			sums[i].Gave += s.Gave
			sums[i].Refused += s.Refused
		}
	}
	return sums
}
