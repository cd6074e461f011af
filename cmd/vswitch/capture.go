package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/gopacket/gopacket/pcapgo"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/client"
)

func newCapture(c *cli) *cobra.Command {
	var (
		file  string
		limit uint64
		snap  int
	)
	cmd := &cobra.Command{
		Use:   "capture NAME... [-w FILE|-]",
		Short: "Show or record what containers send and receive",
		Long: `Show what containers send and receive, one line for each packet, or record it as
pcapng for Wireshark and tshark. It ends with Ctrl-C. Frames are whole and their
checksums are finished; each interface carries its container's name.`,
		Example: `  vswitch capture web
  vswitch capture web db -w both.pcapng
  vswitch capture web -w - | wireshark -k -i -`,
		Args: args("NAME..."),
		RunE: func(cmd *cobra.Command, names []string) error {
			if snap < 0 {
				return usagef(cmd, "--snaplen %d: must be a number of bytes", snap)
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			cfg := client.CaptureConfig{
				Containers: names, SnapLen: snap,
				Started: func() { fmt.Fprintf(c.stderr, "capturing %s, Ctrl-C ends\n", strings.Join(names, ", ")) },
			}
			out, err := c.captureSink(cmd, file)
			if err != nil {
				return err
			}
			w := &blockWriter{w: out, limit: limit}
			err = c.client(cmd).Capture(ctx, cfg, w)
			err = errors.Join(captureEnd(err), out.Close())
			if err == nil {
				fmt.Fprintf(c.stderr, "%s captured, %d dropped\n", plural(int(w.packets), "packet"), w.drops())
			}
			return err
		},
		ValidArgsFunction: c.completeContainers,
	}
	flags := cmd.Flags()
	flags.StringVarP(&file, "write", "w", "", `write pcapng to this file, "-" is the standard output`)
	flags.Uint64VarP(&limit, "count", "c", 0, "end after so many packets")
	flags.IntVar(&snap, "snaplen", 0, "bytes kept of each packet (default all)")
	return cmd
}

// captureSink returns what takes the pcapng stream.
func (c *cli) captureSink(cmd *cobra.Command, file string) (io.WriteCloser, error) {
	switch file {
	case "":
		return newLineSink(c.stdout), nil
	case "-":
		if f, ok := c.stdout.(*os.File); ok && isTerminal(f) {
			return nil, usagef(cmd, "-w -: the standard output is a terminal: write to a file, or into a pipe")
		}
		return nopCloser{c.stdout}, nil
	}
	return &lateFile{path: file}, nil
}

// captureEnd drops the errors that are a usual end: the reader of our output
// went away, or there was enough.
func captureEnd(err error) error {
	if errors.Is(err, errEnough) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
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

// lateFile is a file that is made when the first byte arrives: a capture that
// is refused leaves an older file as it was.
type lateFile struct {
	path string
	f    *os.File
}

func (l *lateFile) Write(p []byte) (n int, err error) {
	if l.f == nil {
		if l.f, err = os.Create(l.path); err != nil {
			return 0, err
		}
	}
	return l.f.Write(p)
}

func (l *lateFile) Close() error {
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}

// lineSink decodes a pcapng stream and prints a line for each packet.
type lineSink struct {
	*io.PipeWriter
	done chan error
}

func newLineSink(out io.Writer) *lineSink {
	r, w := io.Pipe()
	s := &lineSink{PipeWriter: w, done: make(chan error, 1)}
	go func() {
		err := printPackets(out, r)
		r.CloseWithError(err) // the writer's next call ends the capture
		s.done <- captureEnd(err)
	}()
	return s
}

// Close returns when the last line is printed.
func (s *lineSink) Close() error {
	s.PipeWriter.Close()
	return <-s.done
}

// printPackets reads pcapng from r to its end.
func printPackets(out io.Writer, r io.Reader) error {
	ng, err := pcapgo.NewNgReader(r, pcapgo.DefaultNgReaderOptions)
	if err == nil {
		w := bufio.NewWriter(out)
		for {
			var line string
			if line, err = nextPacket(ng); err != nil {
				break
			}
			// Someone watches: a line is out before the next one is awaited.
			fmt.Fprintln(w, line)
			if err = w.Flush(); err != nil {
				break
			}
		}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func nextPacket(ng *pcapgo.NgReader) (string, error) {
	data, ci, opts, err := ng.ZeroCopyReadPacketDataWithOptions()
	if err != nil {
		return "", err
	}
	where := "?"
	if iface, err := ng.Interface(ci.InterfaceIndex); err == nil {
		where = iface.Name
	}
	if opts.Flags != nil {
		switch opts.Flags.Direction {
		case pcapgo.NgEpbFlagDirectionInbound:
			where = "from " + where
		case pcapgo.NgEpbFlagDirectionOutbound:
			where = "to " + where
		}
	}
	return fmt.Sprintf("%s %s: %s", ci.Timestamp.Local().Format("15:04:05.000000"), where, describe(data, ci.Length)), nil
}
