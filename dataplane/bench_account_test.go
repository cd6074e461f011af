package dataplane

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// What account costs a frame: one flow in a batch, and a new one with each frame,
// of more and more flows.
func BenchmarkAccount(b *testing.B) {
	for _, flows := range []int{1, 64, 1024, 4096, 65536} {
		b.Run(fmt.Sprint(flows), func(b *testing.B) {
			w := newStageLab(b).w
			w.now = 1
			proto := stageFrame(b, stageMAC(stageB), stageMAC(stageA), stageAddrA, stageAddrB, 5000, 9)
			var frames [frame.BatchSize]frame.Frame
			for i := range frames {
				f := &frames[i]
				f.Buf, f.In = append(make([]byte, frame.Headroom), proto...), stageA
				header.Parse(f.Data(), &f.Layers)
				w.bridge = append(w.bridge, bridged{f: f, out: stageB})
			}
			at := 0
			b.ReportAllocs()
			for b.Loop() {
				if flows > 1 {
					for i := range frames {
						t := &frames[i].Layers.Tuple
						t.SrcPort = uint16(at)
						binary.BigEndian.PutUint16(t.Dst[13:], uint16(at%flows>>8)) // spread beyond ports
						t.SrcPort = uint16(at % flows)
						at++
					}
				}
				w.account(nil)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/frame.BatchSize, "ns/frame")
		})
	}
}
