package dataplane_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port/porttest"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// Several workers put into the same captures while ports join, one is read, one
// is not and a recorder is looked at. Nothing that was taken is missing or
// written over, and the race detector judges the rest.
func TestCaptureByManyWorkers(t *testing.T) {
	sw, err := dataplane.New(dataplane.Config{Workers: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer sw.Close()
	cfg := dataplane.SnapshotConfig{Revision: 1, Networks: []dataplane.NetworkConfig{{ID: 1, HostPort: frame.NoPort, GatewayMAC: MAC("host1")}}}
	var ports []*porttest.Port
	var ids []frame.PortID
	for i := range 3 {
		p := porttest.New(fmt.Sprint("p", i))
		p.SetSink(func([]byte, frame.Offload) {})
		id := frame.PortID(i)
		if err := sw.AddPort(id, porttest.Describe(p)); err != nil {
			t.Fatal(err)
		}
		ports, ids = append(ports, p), append(ids, id)
		cfg.Ports = append(cfg.Ports, dataplane.PortConfig{ID: id, Network: 1})
	}
	if err := sw.Install(cfg); err != nil {
		t.Fatal(err)
	}
	open := func(c dataplane.CaptureConfig) *dataplane.Capture {
		out, err := dataplane.StartCapture(sw, c)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	read := open(dataplane.CaptureConfig{Ports: ids, Points: 1<<dataplane.PointRx | 1<<dataplane.PointDrop, BufferBytes: 300_000, Filter: compiled(t, "ether[12:2] = 0x88b5")})
	stalled := open(dataplane.CaptureConfig{Ports: ids, Points: dataplane.AllPoints, BufferBytes: 140_000})
	recorder := open(dataplane.CaptureConfig{Ports: ids, Points: dataplane.AllPoints, BufferBytes: 140_000, Recorder: true})
	sw.Start()

	const each = 3000
	var senders, readers sync.WaitGroup
	for i, p := range ports {
		senders.Go(func() {
			for n := range uint32(each) {
				// To a station at another port, to nobody there and to itself.
				src := header.MAC{2, 0, 0, 0, 1, byte(i)}
				f := l2(header.MAC{2, 0, 0, 0, 1, byte(n % 3)}, src, "")
				p.Inject(append(f, binary.BigEndian.AppendUint32(make([]byte, 40, 100), n)...), frame.Offload{})
				if n%64 == 0 {
					time.Sleep(100 * time.Microsecond)
				}
			}
		})
	}
	taken, next := 0, map[frame.PortID]uint32{}
	readers.Go(func() {
		for {
			r, ok, err := read.Next(context.Background())
			if err != nil || !ok {
				return
			}
			if len(r.Data) != 58 {
				t.Errorf("a record of %d bytes", len(r.Data))
				continue
			}
			// One port's frames come in their order.
			if n := binary.BigEndian.Uint32(r.Data[54:]); r.Point == dataplane.PointRx {
				taken++
				if n < next[r.Port] {
					t.Errorf("port %d: frame %d behind %d", r.Port, n, next[r.Port])
				}
				next[r.Port] = n + 1
			}
		}
	})
	end := make(chan struct{})
	readers.Go(func() {
		for {
			select {
			case <-end:
				return
			default:
			}
			recorder.Recent(time.Time{}, func(r dataplane.CaptureRecord) bool {
				if len(r.Data) != 58 || r.OrigLen != 58 || int(r.Port) > 2 || r.Point >= dataplane.NumPoints {
					t.Errorf("a record %+v", r)
				}
				return true
			})
			stalled.SetPorts(ids[:1])
			stalled.SetPorts(ids)
			time.Sleep(time.Millisecond)
		}
	})
	senders.Wait()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		offered := uint64(0) // the port counts them before the capture does
		for _, id := range ids {
			n, lost := read.Counts(id, dataplane.PointRx)
			offered += n + lost
		}
		if offered == 3*each {
			break
		}
	}
	read.Close()
	close(end)
	readers.Wait()
	lost := uint64(0)
	for _, id := range ids {
		_, n := read.Counts(id, dataplane.PointRx)
		lost += n
	}
	if uint64(taken)+lost != 3*each {
		t.Errorf("%d read and %d lost of %d", taken, lost, 3*each)
	}
	if stalled.Dropped() == 0 {
		t.Error("a capture that nobody reads has lost nothing")
	}
}
