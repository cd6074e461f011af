package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"os"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/ipfix"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
)

// activeTimeout is how often a flow that goes on is exported.
const activeTimeout = 60 * time.Second

// startFlowOutputs opens what cfg names.
func (o *Observer) startFlowOutputs(cfg Config) error {
	if path := cfg.FlowLog; path != "" {
		f, err := openFlowFile(path)
		if err != nil {
			return err
		}
		s := o.readFlows(flowFilter{})
		o.work.Go(func() { defer f.close(); o.writeFlows(s, f) })
	}
	if cfg.IPFIX == "" {
		return nil
	}
	h := fnv.New32a()
	h.Write([]byte(cfg.Identity))
	e, err := ipfix.Dial(cfg.IPFIX, h.Sum32())
	if err != nil {
		return err
	}
	x := &flowExport{o: o, out: e, to: cfg.IPFIX, sent: make(map[flowKey][2]counted), at: o.readFlows(flowFilter{})}
	o.work.Go(func() { defer e.Close(); x.run() })
	return nil
}

// flowFile is a file of JSON lines. Whoever moves it away gets a new one.
type flowFile struct {
	path string
	f    *os.File
}

func openFlowFile(path string) (*flowFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("flow log: %w: name a file that can be written", err)
	}
	return &flowFile{path, f}, nil
}

func (o *flowFile) close() { o.f.Close() }

// reopen follows a file that was rotated.
func (o *flowFile) reopen() error {
	held, err1 := o.f.Stat()
	now, err2 := os.Stat(o.path)
	if err1 == nil && err2 == nil && os.SameFile(held, now) {
		return nil
	}
	n, err := openFlowFile(o.path)
	if err != nil {
		return err
	}
	o.f.Close()
	o.f = n.f
	return nil
}

// writeFlows writes the flow log until the daemon ends. What a full disk does not
// take is lost, and the log says so once.
func (o *Observer) writeFlows(s *flowStream, out *flowFile) {
	defer s.Close()
	failed := false
	for {
		list, err := s.Next(o.ctx)
		if err != nil {
			return
		}
		var text []byte
		for i := range list {
			line, err := json.Marshal(&list[i])
			if err == nil {
				text = append(append(text, line...), '\n')
			}
		}
		err = out.reopen()
		if err == nil {
			_, err = out.f.Write(text)
		}
		switch {
		case err != nil && !failed:
			o.log.Warn("flow log cannot be written: flows are lost until it can", "file", out.path, "err", err)
		case err == nil && failed:
			o.log.Info("flow log is written again", "file", out.path)
		}
		failed = err != nil
	}
}

type flowKey struct {
	orig  header.Tuple
	start int64 // ns of the data path's clock: a new flow of the same addresses is another one
}

type counted struct{ packets, bytes uint64 }

// flowExport sends flows to a collector: each when it ends, and those that go on
// once in activeTimeout what they did since.
type flowExport struct {
	o      *Observer
	out    *ipfix.Exporter
	to     string // the collector, for the log
	at     *flowStream
	sent   map[flowKey][2]counted // of flows that go on
	failed bool
}

func (x *flowExport) run() {
	defer x.at.Close()
	next := time.Now().Add(activeTimeout)
	for {
		ctx, cancel := context.WithDeadline(x.o.ctx, next)
		list, _, err := x.at.at.Read(ctx, true)
		cancel()
		if x.o.ctx.Err() != nil {
			return
		}
		var records []ipfix.Record
		for i := range list {
			e := &list[i]
			if e.view.Event != api.FlowEnds {
				continue
			}
			reason := ipfix.IdleTimeout
			if e.info.Closed {
				reason = ipfix.EndOfFlow
			}
			records = x.add(records, &e.info, e.seen, reason)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			x.active(records)
			next = time.Now().Add(activeTimeout)
			continue
		}
		x.send(records)
	}
}

// active sends records, and more of the flows that go on, and forgets those that are not
// there any more: their end was lost.
func (x *flowExport) active(records []ipfix.Record) {
	now := time.Now()
	was := x.sent
	x.sent = make(map[flowKey][2]counted)
	each := func(page []conntrack.Info) bool {
		for i := range page {
			f := &page[i]
			k := flowKey{f.Orig, f.Created}
			if f.Closed { // its end was told, or is about to be
				if c, ok := was[k]; ok {
					x.sent[k] = c
				}
				continue
			}
			x.sent[k] = was[k]
			if f.Age >= activeTimeout/2 { // younger ones will have their turn
				records = x.add(records, f, now, ipfix.ActiveTimeout)
			}
		}
		if len(records) > 0 { // of a full table all would be too many to hold
			x.send(records)
			records = records[:0]
		}
		return true
	}
	pages(x.o.sw.ReadConns, each)
	pages(x.o.sw.ReadBridged, each) // in parts, as they will be told when they end
	x.send(records)
}

// add appends the records of both directions of a flow, with what they did since
// the last time.
func (x *flowExport) add(records []ipfix.Record, f *conntrack.Info, at time.Time, reason ipfix.EndReason) []ipfix.Record {
	k := flowKey{f.Orig, f.Created}
	last := x.sent[k]
	out := f.Reply.Reverse()
	back := f.Orig.Reverse()
	end := at.Add(-f.Idle)
	start := end.Add(f.Idle - f.Age)
	if reason != ipfix.ActiveTimeout {
		start = end.Add(-f.Age) // Age of a flow that has ended is that at its last packet
	}
	for d, t := range [2][2]header.Tuple{{f.Orig, out}, {f.Reply, back}} {
		packets, bytes := f.Packets[d]-last[d].packets, f.Bytes[d]-last[d].bytes
		if packets == 0 || f.Packets[d] < last[d].packets {
			continue
		}
		records = append(records, ipfix.Record{
			Src: addrPort(t[0].Src, t[0].SrcPort), Dst: addrPort(t[0].Dst, t[0].DstPort), NATSrc: addrPort(t[1].Src, t[1].SrcPort), NATDst: addrPort(t[1].Dst, t[1].DstPort),
			Proto: t[0].Proto, Packets: packets, Bytes: bytes, Start: start, End: end, Reason: reason,
		})
	}
	if reason == ipfix.ActiveTimeout {
		x.sent[k] = [2]counted{{f.Packets[0], f.Bytes[0]}, {f.Packets[1], f.Bytes[1]}}
	} else {
		delete(x.sent, k)
	}
	return records
}

func addrPort(a header.Addr, port uint16) netip.AddrPort { return netip.AddrPortFrom(a.NetIP(), port) }

func (x *flowExport) send(records []ipfix.Record) {
	err := x.out.Send(time.Now(), records)
	switch {
	case err != nil && !x.failed:
		x.o.log.Warn("IPFIX collector takes no flows", "collector", x.to, "err", err)
	case err == nil && x.failed:
		x.o.log.Info("IPFIX collector takes flows again", "collector", x.to)
	}
	x.failed = err != nil
}
