package host

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// BenchmarkAddVeth is the kernel's part of an attach: namespace opened, lo up,
// AddVeth with both families, namespace closed. DelLink is measured apart. The
// process's own namespace, which labtest made, is the host.
func BenchmarkAddVeth(b *testing.B) {
	for _, present := range []int{0, 500} {
		b.Run(fmt.Sprintf("present=%d", present), func(b *testing.B) {
			h, err := New()
			if err != nil {
				b.Fatal(err)
			}
			defer h.Close()
			seal := dropAll(b)
			crowd := labtest.New(b, "crowd")
			for i := range present {
				s := spec(fmt.Sprintf("crowd%d", i), h.FilterSeal(seal))
				s.Ifname, s.Addrs, s.Gateways = s.Name, nil, nil
				if _, err := h.AddVeth(openNS(b, crowd), s); err != nil {
					b.Fatal(err)
				}
			}
			for _, parallel := range []int{1, 8} {
				b.Run(fmt.Sprintf("parallel=%d", parallel), func(b *testing.B) {
					benchAddVeth(b, h, parallel, seal)
				})
			}
			for i := range present {
				if err := h.DelLink(fmt.Sprintf("crowd%d", i), 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func benchAddVeth(b *testing.B, h *Host, parallel, seal int) {
	webs := make([]*netlab.NS, parallel)
	for i := range webs {
		webs[i] = labtest.New(b, "web")
	}
	var add, del, roundAdd, roundDel atomic.Int64
	all := func(sum, slowest *atomic.Int64, fn func(web *netlab.NS, name string) error) {
		var wg sync.WaitGroup
		first := time.Now()
		for i, web := range webs {
			wg.Go(func() {
				start := time.Now()
				if err := fn(web, fmt.Sprintf("veth%08x", i)); err != nil {
					b.Error(err)
				}
				sum.Add(int64(time.Since(start)))
			})
		}
		wg.Wait()
		slowest.Add(int64(time.Since(first)))
	}
	for b.Loop() {
		all(&add, &roundAdd, func(web *netlab.NS, name string) error {
			ns, err := OpenNetns(web.Path())
			if err != nil {
				return err
			}
			return errors.Join(h.SetLoopbackUp(ns), addVeth(h, ns, spec(name, h.FilterSeal(seal))), ns.Close())
		})
		all(&del, &roundDel, func(_ *netlab.NS, name string) error { return h.DelLink(name, 0) })
	}
	n := float64(b.N) * 1e3
	b.ReportMetric(float64(add.Load())/n/float64(parallel), "µs/add")
	b.ReportMetric(float64(del.Load())/n/float64(parallel), "µs/del")
	b.ReportMetric(float64(roundAdd.Load())/n, "µs/add-all")
	b.ReportMetric(float64(roundDel.Load())/n, "µs/del-all")
}

func addVeth(h *Host, ns *Netns, s VethSpec) error {
	_, err := h.AddVeth(ns, s)
	return err
}
