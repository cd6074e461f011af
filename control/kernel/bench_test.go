package kernel

import (
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// BenchmarkDecide is what a program costs that looks a frame up, as the kernel measures
// it: a frame that is carried, and one of no flow.
func BenchmarkDecide(b *testing.B) {
	labtest.NeedBPF(b)
	k, err := Open(Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer k.Close()
	const lo = 1 // the interface of a test run
	if _, err := k.AddFlowPort(lo); err != nil {
		b.Fatal(err)
	}
	frame := make([]byte, 66)
	copy(frame, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 52, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0, 80})
	frame[46] = 5 << 4
	key := dataplane.FlowKey{Ifindex: lo, Proto: 6, Ports: [4]byte{0x12, 0x34, 0, 80}}
	copy(key.MACs[:], frame)
	copy(key.Src[10:], []byte{0xff, 0xff, 10, 0, 0, 1})
	copy(key.Dst[10:], []byte{0xff, 0xff, 10, 0, 0, 2})
	for _, c := range []struct {
		name    string
		verdict uint32
	}{{"no flow", 0xffffffff}, {"carried", 7}} { // TC_ACT_REDIRECT
		b.Run(c.name, func(b *testing.B) {
			if c.name == "carried" {
				k.Flows().Slots()[3] = dataplane.FlowSlot{State: dataplane.FlowActive, Out: lo, MTU: 1500}
				if err := k.Flows().Insert(key, 3); err != nil {
					b.Fatal(err)
				}
				defer k.Flows().Delete(key)
			}
			verdict, took, err := k.host.Benchmark(frame, max(b.N, 1), nil)
			if err != nil || verdict != c.verdict {
				b.Fatalf("verdict %d, %v, want %d", verdict, err, c.verdict)
			}
			b.ReportMetric(float64(took)/float64(time.Nanosecond), "ns/frame")
		})
	}
}
