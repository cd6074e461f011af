package main

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control/client"
)

// calledByWireshark reports whether a command line is that of an extcap, which
// is called by its file and options alone (extcap(4)).
func calledByWireshark(args []string) bool {
	return len(args) > 0 && (args[0] == "--capture" || strings.HasPrefix(args[0], "--extcap-"))
}

// extcapPrefix is in front of the name of each target, so that they stand
// together in Wireshark's list.
const extcapPrefix = "vswitch:"

// extcapWait is how long Wireshark's list waits for a daemon.
const extcapWait = 2 * time.Second

// extcapCall is what Wireshark asks for.
type extcapCall struct {
	interfaces, dlts, config, capture bool
	version, iface, fifo              string
	cfg                               client.CaptureConfig
}

func newExtcap(c *cli) *cobra.Command {
	var x extcapCall
	cmd := &cobra.Command{
		Use:   "extcap",
		Short: "Capture for Wireshark, in whose list of interfaces containers then are",
		Long: `Capture for Wireshark and tshark, which then list containers by name among the
interfaces. A link to this program in Wireshark's extcap directory is all:

    ln -s "$(command -v vswitch)" ~/.config/wireshark/extcap/

Wireshark calls it with the options below; nobody else needs them.`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case x.interfaces:
				return c.extcapInterfaces(cmd)
			case x.dlts:
				return sayf(c.stdout, "dlt {number=1}{name=EN10MB}{display=Ethernet}\n")
			case x.config:
				_, err := io.WriteString(c.stdout, extcapOptions)
				return err
			case !strings.HasPrefix(x.iface, extcapPrefix):
				return usagef(cmd, "--extcap-interface %q: see vswitch extcap --extcap-interfaces", x.iface)
			}
			x.cfg.Targets = []string{strings.TrimPrefix(x.iface, extcapPrefix)}
			if x.capture {
				return c.extcapCapture(cmd, &x)
			}
			return c.extcapCheck(cmd, x.cfg)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&x.interfaces, "extcap-interfaces", false, "list the interfaces")
	flags.StringVar(&x.version, "extcap-version", "", "of Wireshark")
	flags.StringVar(&x.iface, "extcap-interface", "", "the interface that is meant")
	flags.BoolVar(&x.dlts, "extcap-dlts", false, "list its link types")
	flags.BoolVar(&x.config, "extcap-config", false, "list its options")
	flags.BoolVar(&x.capture, "capture", false, "capture")
	flags.StringVar(&x.fifo, "fifo", "", "pipe to write to")
	flags.StringVar(&x.cfg.Filter, "extcap-capture-filter", "", "capture filter")
	flags.StringSliceVar(&x.cfg.Points, "point", nil, "where to capture: rx, tx, drop, prenat, postnat")
	flags.IntVar(&x.cfg.SnapLen, "snaplen", 0, "bytes kept of each packet (default all)")
	flags.BoolVar(&x.cfg.Segment, "segment", false, "cut what the kernel hands over in one piece to the size on a wire")
	return cmd
}

// extcapOptions are what Wireshark shows behind the wheel of an interface.
const extcapOptions = `arg {number=0}{call=--point}{display=Points}{tooltip=Where on its way through the switch a packet is captured}{type=multicheck}
value {arg=0}{value=rx}{display=what comes from it (rx)}{default=true}
value {arg=0}{value=tx}{display=what goes to it (tx)}{default=true}
value {arg=0}{value=drop}{display=what the switch drops}{default=false}
value {arg=0}{value=prenat}{display=before translation (prenat)}{default=false}
value {arg=0}{value=postnat}{display=after translation (postnat)}{default=false}
arg {number=1}{call=--segment}{display=Cut segments}{tooltip=Cut what the kernel hands over in one piece to the size on a wire}{type=boolflag}{default=false}
arg {number=2}{call=--snaplen}{display=Bytes of each packet}{tooltip=0 keeps all}{type=unsigned}{default=0}
`

// extcapInterfaces lists what can be captured; without a daemon that is nothing,
// which is no error to Wireshark.
func (c *cli) extcapInterfaces(cmd *cobra.Command) error {
	sayf(c.stdout, "extcap {version=%s}{display=vswitch}{help=https://github.com/vswitch/vswitch}\n", versionString())
	ctx, cancel := context.WithTimeout(cmd.Context(), extcapWait)
	defer cancel()
	cl := c.client(cmd)
	defer cl.Close()
	list, err := cl.Containers(ctx)
	if err != nil {
		return nil
	}
	networks, err := cl.Networks(ctx)
	if err != nil {
		return nil
	}
	say := func(target, display string) {
		sayf(c.stdout, "interface {value=%s%s}{display=vswitch, %s}\n", extcapPrefix, target, display)
	}
	for _, ct := range list {
		if len(ct.Endpoints) == 0 {
			continue
		}
		var on []string
		for _, e := range ct.Endpoints {
			on = append(on, e.Network)
		}
		target := ct.Name
		if slices.Contains([]string{"all", "uplink"}, target) {
			target = "container:" + target
		}
		say(target, "container "+ct.Name+" ("+strings.Join(on, ", ")+")")
	}
	for _, n := range networks {
		say("network:"+n.Name, "network "+n.Name)
	}
	say("uplink", "uplink")
	say("all", "everything")
	return nil
}

// extcapCheck tells Wireshark what is wrong with a filter, on the standard
// output; nothing is a yes.
func (c *cli) extcapCheck(cmd *cobra.Command, cfg client.CaptureConfig) error {
	ctx, done := context.WithCancel(cmd.Context())
	defer done()
	cfg.Started = done
	cl := c.client(cmd)
	defer cl.Close()
	if err := cl.Capture(ctx, cfg, io.Discard); err != nil {
		sayf(c.stdout, "%v\n", err)
	}
	return nil
}

// extcapCapture writes to Wireshark's pipe until either end has enough.
func (c *cli) extcapCapture(cmd *cobra.Command, x *extcapCall) error {
	if x.fifo == "" {
		return usagef(cmd, "--fifo is missing")
	}
	f, err := os.OpenFile(x.fifo, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	ctx, stop := untilSignal(cmd.Context())
	defer stop()
	cl := c.client(cmd)
	defer cl.Close()
	err = captureEnd(cl.Capture(ctx, x.cfg, &blockWriter{w: f}))
	return errors.Join(err, f.Close())
}
