package dataplane_test

import (
	"context"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// BenchmarkCapture is the turn of a full batch beside captures: none, one of
// another container, one whose filter wants nothing, one that is read, one that
// nobody reads, and a recorder of everything.
func BenchmarkCapture(b *testing.B) {
	const narrow, wide = "tcp port 80 and host 10.9.9.9", "udp or ether proto 0x88b5"
	for _, path := range []struct {
		name string
		f    []byte
	}{
		{"bridged", l2(MAC("c2"), MAC("c1"), "forty-six bytes of payload make the smallest one")},
		{"masquerade", UDP("c1", 5000, web, "eighteen bytes of it")},
	} {
		for _, bc := range []struct {
			name string
			open func(*Lab) *dataplane.Capture
			read bool
		}{
			{"none", func(*Lab) *dataplane.Capture { return nil }, false},
			{"another", func(l *Lab) *dataplane.Capture { return openCapture(b, l, dataplane.CaptureConfig{}, "c4") }, false},
			{"another-all-points", func(l *Lab) *dataplane.Capture {
				return openCapture(b, l, dataplane.CaptureConfig{Points: dataplane.AllPoints}, "c4")
			}, false},
			{"not-matching", func(l *Lab) *dataplane.Capture {
				return openCapture(b, l, dataplane.CaptureConfig{Filter: compiled(b, narrow)}, "c1")
			}, false},
			{"matching", func(l *Lab) *dataplane.Capture {
				return openCapture(b, l, dataplane.CaptureConfig{Filter: compiled(b, wide)}, "c1")
			}, true},
			{"stalled", func(l *Lab) *dataplane.Capture {
				return openCapture(b, l, dataplane.CaptureConfig{Filter: compiled(b, wide), BufferBytes: 200_000}, "c1")
			}, false},
			{"recorder", func(l *Lab) *dataplane.Capture {
				return openCapture(b, l, dataplane.CaptureConfig{Recorder: true, SnapLen: 128, BufferBytes: 16 << 20}, "c1", "c2", "c3", "c4", "c5", "host1", "up")
			}, false},
		} {
			b.Run(path.name+"/"+bc.name, func(b *testing.B) {
				l := New(b)
				for name := range Stations {
					l.Memory(name).SetSink(func([]byte, frame.Offload) {})
				}
				l.Send("c2", l2(MAC("host1"), MAC("c2"), "x"))
				l.Send("c1", path.f)
				c, done := bc.open(l), make(chan struct{})
				if bc.read {
					go func() {
						for ok := true; ok; {
							_, ok, _ = c.Next(context.Background())
						}
						close(done)
					}()
				}
				in, spent := l.Memory("c1"), time.Duration(0)
				b.ReportAllocs()
				for b.Loop() {
					for range frame.BatchSize {
						in.Inject(path.f, frame.Offload{})
					}
					start := time.Now()
					l.Switch.Step()
					spent += time.Since(start)
				}
				b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N)/frame.BatchSize, "turn-ns/frame")
				if bc.read {
					c.Close()
					<-done
				}
			})
		}
	}
}
