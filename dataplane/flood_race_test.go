package dataplane_test

import (
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

// Ports flood, scan and send fragments on two workers while ports come and go under the same
// IDs, networks and next hops change and everything ages.
func TestFloodsWhileAllChanges(t *testing.T) {
	l := NewSized(t, 4096, func(c *dataplane.Config) { c.Workers = 2 })
	for name := range Stations {
		l.Memory(name).SetSink(func([]byte, frame.Offload) {})
	}
	others := crowd(t, l, 150)
	unbounded(l, "c2")
	l.Switch.Start()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	send := func(at *porttest.Port, f func(i int) []byte) {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if at.Waiting() > 200 {
					time.Sleep(100 * time.Microsecond)
					continue
				}
				at.Inject(f(i), noOffload)
			}
		})
	}
	fragments := Fragment(UDP("c3", 5000, web, string(make([]byte, 20_000))), 1256)
	send(l.Memory("c2"), func(int) []byte { return l2(header.Broadcast, MAC("c2"), "flood") })
	send(l.Memory("c1"), func(i int) []byte { return UDP("c1", 5000, fmt.Sprintf("198.51.100.%d:9", 10+i%200), "scan") })
	send(l.Memory("c3"), func(i int) []byte {
		f := append([]byte(nil), fragments[len(fragments)-1-i%len(fragments)]...)
		binary.BigEndian.PutUint16(f[header.EthernetLen+4:], uint16(i/len(fragments)))
		SumIPv4(f)
		return f
	})
	send(others[0], func(int) []byte { return l2(header.Broadcast, header.MAC{2, 0, 0, 1, 0, 0}, "flood") })
	deadline := time.Now().Add(time.Second)
	for i := 0; i < 20 || time.Now().Before(deadline); i++ {
		for _, id := range []frame.PortID{1001, 1002, 1000 + frame.PortID(3+i%100)} {
			if err := l.Switch.RemovePort(id); err != nil {
				t.Fatal(err)
			}
			p := porttest.New("again")
			p.SetSink(func([]byte, frame.Offload) {})
			if err := l.Switch.AddPort(id, porttest.Describe(p)); err != nil {
				t.Fatal(err)
			}
			for range 20 {
				p.Inject(l2(header.Broadcast, header.MAC{2, 0, 0, 2, 0, byte(id)}, "flood"), noOffload)
			}
		}
		l.Config.Ports[len(l.Config.Ports)-1].Network = frame.NetworkID(1 + i%2)
		l.Install()
		l.Switch.SetNeighbors(map[dataplane.NeighborKey]header.MAC{l.NextHop(fmt.Sprintf("198.51.100.%d", 10+i%200)): NextHopMAC})
		l.Tock(100 * time.Millisecond)
		asked(l)
	}
	close(stop)
	wg.Wait()
	if err := l.Switch.Close(); err != nil {
		t.Fatal(err)
	}
}

// A port whose ID was another worker's is its new owner's alone, also while the old owner's
// schedule has it.
func TestAnIDThatChangesItsWorkerIsServedByOne(t *testing.T) {
	l := NewSized(t, 4096, func(c *dataplane.Config) { c.Workers = 2 })
	others := crowd(t, l, 200)
	const id = 1000
	for range 100 {
		others[0].Inject(l2(header.Broadcast, header.MAC{2, 0, 0, 1, 0, 0}, "flood"), noOffload)
	}
	dataplane.Pass(l.Switch, true)
	dataplane.Pass(l.Switch, true)
	if err := l.Switch.RemovePort(id); err != nil {
		t.Fatal(err)
	}
	// The next port goes to the worker with fewer ports.
	if err := l.Switch.AddPort(3000, porttest.Describe(porttest.New("more"))); err != nil {
		t.Fatal(err)
	}
	again := porttest.New("again")
	if err := l.Switch.AddPort(id, porttest.Describe(again)); err != nil {
		t.Fatal(err)
	}
	again.Inject(l2(MAC("c1"), header.MAC{2, 0, 0, 1, 0, 0}, "x"), noOffload)
	for i := range 20 {
		dataplane.Pass(l.Switch, i%4 == 0)
	}
	if dataplane.FloodMemory(l.Switch) != 0 {
		t.Error("frames of the port that was removed are kept")
	}
	if got := len(l.Got("c1")); got == 0 {
		t.Error("the new port is not served")
	}
}
