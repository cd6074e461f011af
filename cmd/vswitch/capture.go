package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/client"
)

func newCapture(c *cli) *cobra.Command {
	var (
		cfg      client.CaptureConfig
		out      captureOutput
		limit    uint64
		duration time.Duration
	)
	cmd := &cobra.Command{
		Use:   "capture TARGET[,TARGET...] [FILTER]",
		Short: "Show or record packets, and what the switch decided about them",
		Long: `Show packets, one line each, or record them as pcapng for Wireshark and tshark,
each with what the switch decided about it. It ends with Ctrl-C.

A target is a container by name, network:NAME, uplink, uplink:INTERFACE or all.
A filter is written as for tcpdump (pcap-filter(7)); it may name containers
and networks. It runs in the switch. Points are what came in from a target
(rx), went out to it (tx) or was dropped (drop), and what is routed, before and
after its addresses are translated (prenat, postnat).

What comes later joins the capture: a container that is restarted, and with
--wait one that does not exist yet.`,
		Example: `  vswitch capture web
  vswitch capture web,db 'tcp port 5432 and host db'
  vswitch capture all icmp or arp
  vswitch capture web,uplink --point rx,tx,drop -w nat.pcapng
  vswitch capture web -w ring.pcapng -C 100 -W 5
  vswitch capture web --last 30s
  vswitch capture web -w - | wireshark -k -i -`,
		Args: args("TARGET", "[FILTER...]"),
		RunE: func(cmd *cobra.Command, words []string) error {
			cfg.Targets, cfg.Filter = strings.Split(words[0], ","), strings.Join(words[1:], " ")
			if cfg.SnapLen < 0 {
				return usagef(cmd, "--snaplen %d: must be a number of bytes", cfg.SnapLen)
			}
			if duration < 0 || cfg.Last < 0 {
				return usagef(cmd, "--duration and --last must be times such as 30s")
			}
			sink, err := c.captureSink(cmd, out)
			if err != nil {
				return err
			}
			return c.runCapture(cmd, cfg, sink, limit, duration)
		},
		ValidArgsFunction: complete(c.targets, noMore),
	}
	flags := cmd.Flags()
	flags.StringVarP(&out.file, "write", "w", "", `write pcapng to this file, "-" is the standard output`)
	flags.Uint64VarP(&limit, "count", "c", 0, "end after so many packets")
	flags.IntVarP(&cfg.SnapLen, "snaplen", "s", 0, "bytes kept of each packet (default all)")
	flags.StringSliceVar(&cfg.Points, "point", []string{"rx", "tx"}, "where to capture: rx, tx, drop, prenat, postnat")
	flags.DurationVar(&duration, "duration", 0, "end after this time, such as 30s")
	flags.DurationVar(&cfg.Last, "last", 0, "show this time until now, of the daemon's --capture-ring")
	flags.BoolVar(&cfg.Segment, "segment", false, "cut what the kernel hands over in one piece to the size on a wire")
	flags.BoolVar(&cfg.Wait, "wait", false, "begin though a target does not exist yet")
	flags.StringVarP(&out.size, "file-size", "C", "", "begin another file at this size: millions of bytes, or with K, M, G")
	flags.IntVarP(&out.files, "file-count", "W", 0, "with -C: so many files, then the first again")
	flags.BoolVarP(&out.numeric, "numeric", "n", false, "print addresses, not the names of containers")
	cmd.RegisterFlagCompletionFunc("point", cobra.FixedCompletions(
		[]string{"rx", "tx", "drop", "prenat", "postnat"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// runCapture captures into out until there is enough.
func (c *cli) runCapture(cmd *cobra.Command, cfg client.CaptureConfig, out io.WriteCloser, limit uint64, duration time.Duration) error {
	ctx, stop := untilSignal(cmd.Context())
	defer stop()
	if duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, duration)
		defer cancel()
	}
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	if cfg.Last == 0 {
		cfg.Started = func() {
			what := strings.Join(cfg.Targets, ", ")
			if cfg.Filter != "" {
				what += ", " + cfg.Filter
			}
			sayf(c.stderr, "capturing %s, Ctrl-C ends\n", what)
		}
	}
	w := &blockWriter{w: out, limit: limit, enough: enough}
	err := c.client(cmd).Capture(ctx, cfg, w)
	err = errors.Join(captureEnd(err), out.Close())
	if err == nil {
		sayf(c.stderr, "%s captured, %d dropped\n", plural(int(w.packets), "packet"), w.drops())
	}
	return err
}

// captureOutput says where a capture goes.
type captureOutput struct {
	file    string // "" lines
	size    string // of a file, "" no limit
	files   int
	numeric bool
}

// captureSink returns what takes the pcapng stream, block by block.
func (c *cli) captureSink(cmd *cobra.Command, o captureOutput) (io.WriteCloser, error) {
	size, err := fileSize(o.size)
	switch {
	case err != nil:
		return nil, usagef(cmd, "-C %q: must be millions of bytes, or a number with K, M or G", o.size)
	case o.files < 0 || o.files > 0 && size == 0:
		return nil, usagef(cmd, "-W %d: a number of files, with -C their size", o.files)
	case size > 0 && (o.file == "" || o.file == "-"):
		return nil, usagef(cmd, "-C: name the files with -w FILE")
	case o.file == "":
		return newLineSink(c.stdout, o.numeric), nil
	case o.file == "-":
		if f, ok := c.stdout.(*os.File); ok && isTerminal(f) {
			return nil, usagef(cmd, "-w -: the standard output is a terminal: write to a file, or into a pipe")
		}
		return nopCloser{c.stdout}, nil
	}
	return &fileSink{path: o.file, size: size, files: o.files}, nil
}

// captureEnd drops the errors that are a usual end: the reader of our output
// went away.
func captureEnd(err error) error {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }
