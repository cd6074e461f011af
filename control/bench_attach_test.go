package control

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
)

// BenchmarkAttachAmong is a container that comes among 1,000 others, on the model of the
// kernel: what the controller itself takes of an attach.
func BenchmarkAttachAmong(b *testing.B) {
	m := newMachine(b).start()
	if _, err := m.CreateNetwork(b.Context(), api.NetworkCreate{Name: "large", Subnet: "10.64.0.0/16"}); err != nil {
		b.Fatal(err)
	}
	for i := range 1000 {
		m.container(fmt.Sprint("c", i), networks("large"))
	}
	m.AddNetns(netnsOf("web"))
	var took []time.Duration
	for b.Loop() {
		begin := time.Now()
		if _, err := m.attach("web", networks("large")); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
		if err := m.Detach(b.Context(), "web"); err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(took)
	b.ReportMetric(took[len(took)/2].Seconds()*1e3, "ms/attach-p50")
}
