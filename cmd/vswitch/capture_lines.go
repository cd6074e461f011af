package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/gopacket/gopacket/pcapgo"
)

// lineSink decodes a pcapng stream and prints a line for each packet.
type lineSink struct {
	*io.PipeWriter
	done chan error
}

func newLineSink(out io.Writer, numeric bool) *lineSink {
	r, w := io.Pipe()
	s := &lineSink{PipeWriter: w, done: make(chan error, 1)}
	go func() {
		err := printPackets(out, r, numeric)
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
func printPackets(out io.Writer, r io.Reader, numeric bool) error {
	ng, err := pcapgo.NewNgReader(r, pcapgo.DefaultNgReaderOptions)
	if err == nil {
		w, names := bufio.NewWriter(out), &hostNames{ng: ng, numeric: numeric}
		for {
			var line string
			if line, err = nextPacket(ng, names); err != nil {
				break
			}
			// Someone watches: a line is out before the next one is awaited.
			sayf(w, "%s\n", line)
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

// places are how a line names the points of a capture; the daemon ends the name
// of an interface with its point.
var places = map[string]string{
	"rx": "from ", "tx": "to ", "drop": "dropped at ", "prenat": "before NAT at ", "postnat": "after NAT at ",
}

// nextPacket is a packet's line: when, where, what, and behind a bar what the
// switch decided.
func nextPacket(ng *pcapgo.NgReader, names *hostNames) (string, error) {
	data, ci, opts, err := ng.ZeroCopyReadPacketDataWithOptions()
	if err != nil {
		return "", err
	}
	where := "?"
	if iface, err := ng.Interface(ci.InterfaceIndex); err == nil {
		where = iface.Name
		if i := strings.LastIndexByte(where, ' '); i > 0 && places[where[i+1:]] != "" {
			where = places[where[i+1:]] + where[:i]
		}
	}
	line := fmt.Sprintf("%s %s: %s", ci.Timestamp.Local().Format("15:04:05.000000"), where, names.describe(data, ci.Length))
	if len(opts.Comments) > 0 {
		line += " | " + strings.Join(opts.Comments, "; ")
	}
	return line, nil
}

// hostNames are the names of addresses that a stream has told so far.
type hostNames struct {
	ng      *pcapgo.NgReader // nil: none
	numeric bool
	read    int
	byAddr  map[string]string
}

// of returns what an address is called, the address itself when it has no name.
func (h *hostNames) of(addr string) string {
	if h.ng == nil || h.numeric {
		return addr
	}
	for ; h.read < h.ng.NNames(); h.read++ {
		if h.byAddr == nil {
			h.byAddr = make(map[string]string)
		}
		if r, err := h.ng.Name(h.read); err == nil && len(r.Names) > 0 {
			if ip, ok := r.Addr.(*pcapgo.NgIPAddress); ok {
				h.byAddr[ip.Addr.String()] = r.Names[0]
			}
		}
	}
	if name := h.byAddr[addr]; name != "" {
		return name
	}
	return addr
}
