package dataplane_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port/porttest"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// sharedMaps is flowtest.Kernel for several goroutines.
type sharedMaps struct {
	mu       sync.Mutex
	k        *flowtest.Kernel
	inserted atomic.Int64
}

func (m *sharedMaps) InJiffies(d time.Duration) uint32 { return m.k.InJiffies(d) }
func (m *sharedMaps) Ticks() (uint32, bool)            { return m.k.Ticks() }
func (m *sharedMaps) Wait()                            { time.Sleep(100 * time.Microsecond) }
func (m *sharedMaps) Delete(keys []flowmap.Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.k.Delete(keys)
}
func (m *sharedMaps) Entered() (map[flowmap.Key]uint32, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.k.Entered()
}
func (m *sharedMaps) Stations() (flowmap.Stations, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.k.Stations()
}
func (m *sharedMaps) Tell(s flowmap.Stations) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.k.Tell(s)
}
func (m *sharedMaps) Forget(s flowmap.Stations) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.k.Forget(s)
}
func (m *sharedMaps) Placed() (map[flowmap.StationKey]uint32, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.k.Placed()
}
func (m *sharedMaps) Place(all map[flowmap.StationKey]uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.k.Place(all)
}
func (m *sharedMaps) Displace(keys []flowmap.StationKey) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.k.Displace(keys)
}
func (m *sharedMaps) StationFlows(fn func(flowmap.Key, flowmap.StationFlow)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.k.StationFlows(fn)
}
func (m *sharedMaps) EndStationFlows(keys []flowmap.Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.k.EndStationFlows(keys)
}
func (m *sharedMaps) StationRows() []flowmap.StationRow { return m.k.StationRows() }
func (m *sharedMaps) Close() error                      { return nil }
func (m *sharedMaps) Tally(ifindex uint32) *flowmap.Tally {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.k.Tally(ifindex)
}
func (m *sharedMaps) Grow() (int, error) { return m.k.Grow() }
func (m *sharedMaps) Insert(k flowmap.Key, n uint32) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inserted.Add(1)
	return m.k.Insert(k, n)
}

// TestDoorsTogether: all doors that ask rows again are used at once while frames pass.
// No entry and no key is lost. Close leaves the rows to the next switch, which ends them all
// as it has no port.
func TestDoorsTogether(t *testing.T) {
	var maps *sharedMaps
	l := NewCarried(t, 4096, func(cfg *dataplane.Config) func(uint32) *flowmap.Tally {
		maps = &sharedMaps{k: flowtest.New(16, cfg.Clock.Load)}
		cfg.Flows, cfg.Workers = flowtest.DescribeFlows(maps, maps.k.Rows, maps.k.Ends), 2
		start, base := time.Now(), cfg.Clock.Load()
		stop := make(chan struct{})
		t.Cleanup(func() { close(stop) })
		go func() {
			for tick := time.NewTicker(100 * time.Microsecond); ; {
				select {
				case <-stop:
					tick.Stop()
					return
				case <-tick.C:
					cfg.Clock.Store(base + int64(time.Since(start)))
				}
			}
		}()
		return maps.Tally
	})
	l.Interfaces()
	var snapshots []dataplane.SnapshotConfig
	for i := range 64 {
		c := l.Config
		c.Revision += uint64(i + 1)
		c.Networks = append([]dataplane.NetworkConfig(nil), c.Networks...)
		c.Rules = policy.Compile(&c, []policy.Network{{ID: 1, Isolated: i%4 == 1}})
		c.Networks[0].MTU -= i % 3
		snapshots = append(snapshots, c)
	}
	l.Switch.Start()
	done, wg := make(chan struct{}), sync.WaitGroup{}
	repeat := func(pause time.Duration, do func(i int)) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				case <-time.After(pause):
					do(i)
				}
			}
		}()
	}
	packet := func(n int) []byte {
		to, mac := Stations["c2"]+":7", MAC("c2")
		if n%2 == 1 {
			to, mac = World+":7", MAC("host1")
		}
		src := fmt.Sprintf("%s:%d", Stations["c1"], 1000+n%16)
		return Bytes(Packet{EthSrc: MAC("c1"), EthDst: mac, Src: src, Dst: to, Proto: header.ProtoUDP, DF: true, Payload: []byte("x")})
	}
	repeat(200*time.Microsecond, func(i int) {
		l.Memory("c1").Inject(packet(i), frame.Offload{})
		l.Switch.OfferFrame(l.Port("c1"), packet(i))
		l.Got("up")
	})
	repeat(time.Millisecond, func(i int) {
		if i < len(snapshots) {
			if err := l.Switch.Install(snapshots[i]); err != nil {
				t.Error(err)
			}
		}
	})
	repeat(3*time.Millisecond, func(i int) {
		id := l.Port("c2")
		_ = l.Switch.RemovePort(id)
		if p := porttest.New("c2"); l.Switch.AddPort(id, l.Descriptor(id, p)) != nil {
			_ = p.Close()
		}
	})
	repeat(time.Millisecond, func(i int) {
		if c, err := dataplane.StartCapture(l.Switch, dataplane.CaptureConfig{Ports: []frame.PortID{l.Port("c3")}}); err == nil {
			c.SetPorts([]frame.PortID{l.Port("c1")})
			c.Close()
		}
	})
	repeat(2*time.Millisecond, func(i int) {
		l.Switch.FlushConns(conntrack.Selector{Ports: []frame.PortID{l.Port([]string{"c1", "c2", "c3"}[i%3])}})
	})
	repeat(2*time.Millisecond, func(i int) { l.Neighbor(NextHop, header.MAC{2, 0, 0, 0, 9, byte(i % 2)}) })
	repeat(time.Millisecond, func(i int) { l.Switch.Stats(); l.Switch.Tick() })
	for end := time.Now().Add(time.Minute); maps.inserted.Load() < 100; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("%d rows were entered: the test shows nothing", maps.inserted.Load())
			break
		}
	}
	close(done)
	wg.Wait()
	if err := l.Switch.Close(); err != nil {
		t.Error(err)
	}
	next, err := dataplane.New(dataplane.Config{Flows: flowtest.DescribeFlows(maps, maps.k.Rows, maps.k.Ends)})
	if err != nil {
		t.Fatal(err)
	}
	next.TakeOver()
	if err := errors.Join(next.CheckEntries(), next.Close()); err != nil {
		t.Error(err)
	}
	if len(maps.k.Keys) != 0 {
		t.Errorf("%d keys after the end", len(maps.k.Keys))
	}
	for i := range maps.k.Rows {
		if r := &maps.k.Rows[i]; r.State != flowmap.Off {
			t.Errorf("entry %d has state %d after the end", i, r.State)
		}
	}
}
