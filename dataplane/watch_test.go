package dataplane_test

import (
	"sync"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// Flows, drops and explanations are read while workers run: for the race detector.
func TestWatchedWhileItRuns(t *testing.T) {
	l := NewSized(t, 64, func(c *dataplane.Config) { c.Workers = 2 })
	l.Publish(8080, "c1", 80)
	for name := range Stations {
		l.Memory(name).SetSink(func([]byte, frame.Offload) {})
	}
	l.Switch.Start()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for _, from := range []string{"c1", "c2"} {
		to, src, dst := "c2", "10.1.0.11", "10.1.0.12"
		if from == "c2" {
			to, src, dst = "c1", dst, src
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				port := ":" + string(rune('1'+n%9)) + "000"
				l.Memory(from).Inject(onLink(from, to, Packet{Src: src + port, Dst: dst + ":80", Proto: header.ProtoUDP}), none)
				l.Memory(from).Inject(UDP(from, uint16(n), web, "x"), none)
				l.Memory(from).Inject(UDP(from, 1, "10.2.0.11:53", "x"), none)
				time.Sleep(20 * time.Microsecond)
			}
		}()
	}
	tcp, published := TCP("c1", 5000, web, SYN, ""), Inbound(header.ProtoUDP, World+":9", HostAddr+":8080", 0, "x")
	seen := func() bool { return len(l.Switch.Flows()) > 0 && len(l.Switch.LastDrops(nil)) > 0 }
	// A busy machine begins to send late.
	for i, end := 0, time.Now().Add(20*time.Second); i < 40 || !seen() && time.Now().Before(end); i++ {
		l.Switch.RecordFlows(i%4 < 2, i%4 == 0)
		l.Switch.Flows()
		l.Switch.EndedFlows(nil)
		l.Switch.LastDrops(nil)
		for at, f := range map[string][]byte{"c1": tcp, "up": published} {
			if _, err := l.Switch.Explain(l.Port(at), f); err != nil {
				t.Error(err)
			}
		}
		l.Switch.Tick()
	}
	close(stop)
	wg.Wait()
	if !seen() {
		t.Error("nothing was seen")
	}
}
