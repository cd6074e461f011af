package control

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
)

// Who watches never waits for the controller's mutex: neither why nor a scrape.
func TestWatchersDoNotWait(t *testing.T) {
	m := newMachine(t).start()
	m.container("web", func(a *api.Attach) { a.Publish = []string{"8080:80", "8081:81/udp"} })
	o := m.Observer()
	m.mu.Lock()
	defer m.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, q := range []api.WhyQuery{{From: "web", To: outside.String() + ":80"}, {From: "outside", To: uplinkAddr.Addr().String() + ":8080"}, {From: "host", To: "web:80"}} {
			if why, err := o.Why(context.Background(), q); err != nil || why.Rule == "" {
				t.Errorf("%+v: %+v, %v", q, why, err)
			}
		}
		got := o.Reading()
		if got.Containers != 1 || got.Networks != 1 || len(got.Published) != 2 || len(got.NAT) == 0 || len(got.Ports) != 3 {
			t.Errorf("a scrape tells %+v", got)
		}
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("it waits for the mutex")
	}
}

// BenchmarkWhyInStorm is why while containers are attached and detached without a pause.
func BenchmarkWhyInStorm(b *testing.B) {
	m := newMachine(b).start()
	m.container("web")
	o := m.Observer()
	stop, wg := make(chan struct{}), sync.WaitGroup{}
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				if _, err := m.attach("storm"); err != nil {
					b.Error(err)
					return
				}
				if err := m.Detach(context.Background(), "storm"); err != nil {
					b.Error(err)
					return
				}
			}
		}
	})
	var took []time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := o.Why(context.Background(), api.WhyQuery{From: "web", To: outside.String() + ":80"}); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	close(stop)
	wg.Wait()
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-median")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-p99")
}
