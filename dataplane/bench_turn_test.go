package dataplane_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/dataplane/frame"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// A turn of a full batch and of one frame, by the way the frame takes.
func BenchmarkTurn(b *testing.B) {
	for _, path := range []struct {
		name string
		f    []byte
	}{
		{"bridged", l2(MAC("c3"), MAC("c1"), strings.Repeat("x", 46))},
		{"masquerade", UDP("c1", 5000, web, "x")},
	} {
		for _, batch := range []int{frame.BatchSize, 1} {
			b.Run(fmt.Sprintf("%s/%d", path.name, batch), func(b *testing.B) {
				l := New(b)
				in := l.Memory("c1")
				for name := range Stations {
					l.Memory(name).SetSink(func([]byte, frame.Offload) {})
				}
				b.ReportAllocs()
				for b.Loop() {
					for range batch {
						in.Inject(path.f, frame.Offload{})
					}
					l.Switch.Step()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(batch), "ns/frame")
			})
		}
	}
}
