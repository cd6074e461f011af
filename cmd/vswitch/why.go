package main

import (
	"cmp"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control/api"
)

func newWhy(c *cli) *cobra.Command {
	var last bool
	cmd := &cobra.Command{
		Use:   "why FROM TO | why --last-drops [NAME]",
		Short: "Explain which way a packet would go, or why the last ones were dropped",
		Long: `Explain which way a packet would go and which entry of which table decides at each
step, down to the port it leaves by or the reason it is dropped for and what would
change that. No packet is sent and nothing changes: the switch's own stages decide
about a made-up one, on copies of their tables.

FROM is a container, outside:ADDRESS (or outside) or host. TO is an address, a
container or host, then :PORT, then /tcp (the default), /udp or /icmp; without a port it is
a ping. The exit code is 1 when the packet would not arrive.

--last-drops explains the last frames that really were dropped instead.`,
		Example: `  vswitch why web 1.1.1.1:443
  vswitch why web db:5432
  vswitch why outside:198.51.100.9 198.51.100.1:8080
  vswitch why --last-drops web`,
		Args: func(cmd *cobra.Command, got []string) error {
			if last {
				return args("[NAME]")(cmd, got)
			}
			return args("FROM", "TO")(cmd, got)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if last {
				name := ""
				if len(args) == 1 {
					name = args[0]
				}
				drops, err := c.client(cmd).LastDrops(cmd.Context(), name)
				if err != nil {
					return err
				}
				return c.printOr(listed(drops), func() error { return printDropped(c.stdout, drops, time.Now()) })
			}
			why, err := c.client(cmd).Why(cmd.Context(), api.WhyQuery{From: args[0], To: args[1]})
			if err != nil {
				return err
			}
			if err := c.printOr(why, func() error { return printWhy(c.stdout, why) }); err != nil {
				return err
			}
			switch why.Verdict {
			case api.VerdictDropped, api.VerdictNotSent:
				return &exitError{code: exitFailure}
			}
			return nil
		},
		ValidArgsFunction: complete(c.senders, c.receivers, noMore),
	}
	cmd.Flags().BoolVar(&last, "last-drops", false, "explain the last frames that were dropped, of all ports or of a container's")
	c.addFormat(cmd)
	return cmd
}

func printWhy(w io.Writer, why api.Why) error {
	sayf(w, "%s -> %s\n", why.From, why.To)
	if why.Packet != "" {
		sayf(w, "%s\n", why.Packet)
	}
	if len(why.Steps) > 0 {
		sayf(w, "\n")
		t := newTable(w)
		for _, s := range why.Steps {
			t.row("  "+s.Stage, s.Table, s.Text)
		}
		if err := t.flush(); err != nil {
			return err
		}
	}
	sayf(w, "\n")
	line := why.Verdict
	switch why.Verdict {
	case api.VerdictSent, api.VerdictHost, api.VerdictFlooded, api.VerdictWaits:
		if why.Output != "" {
			line += " to " + why.Output
		}
		if why.Sent != "" {
			line += " as " + why.Sent
		}
	case api.VerdictDropped:
		line += ": " + why.Reason
	case api.VerdictNotSent:
		line = "not sent"
	}
	colour := green
	if why.Verdict == api.VerdictDropped || why.Verdict == api.VerdictNotSent {
		colour = red
	}
	if err := sayf(w, painted(w, colour, "%s")+"\n", line); err != nil {
		return err
	}
	if why.Rule != "" {
		if err := sayf(w, "  rule: %s\n", why.Rule); err != nil {
			return err
		}
	}
	return printWhyOut(w, why.Explanation, why.Fix)
}

// printWhyOut prints what a verdict means and what to do about it.
func printWhyOut(w io.Writer, explanation, fix string) (err error) {
	if explanation != "" {
		err = sayf(w, "  why: %s\n", explanation)
	}
	if fix != "" {
		err = sayf(w, "  fix: %s\n", fix)
	}
	return err
}

func printDropped(w io.Writer, drops []api.Drop, now time.Time) error {
	if len(drops) == 0 {
		return sayf(w, "no frame of a port that is there was dropped: vswitch stats counts for ports that are gone as well\n")
	}
	for _, d := range drops {
		what := d.SourceMAC + " > " + d.DestMAC
		if d.Source != "" {
			what = d.Source + " > " + d.Dest
		}
		if d.Peer != "" {
			what += " (" + d.Peer + ")"
		}
		if d.Proto != "" {
			what = d.Proto + " " + what
		}
		times := ""
		if d.Count > 1 {
			times = fmt.Sprintf(", %d times", d.Count)
		}
		sayf(w, "%s ago at %s: %s%s: %s\n", seconds(max(0, now.Sub(d.Time).Seconds())), cmp.Or(d.Container, d.Interface), d.Reason, times, what)
		if err := printWhyOut(w, d.Explanation, d.Fix); err != nil {
			return err
		}
	}
	return nil
}
