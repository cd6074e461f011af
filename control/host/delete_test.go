package host

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestDelLinkLeavesAnotherInterfaceAlone(t *testing.T) {
	host, web := labtest.New(t, "host"), labtest.New(t, "web")
	inHost(t, host, func(h *Host) {
		index, err := h.AddVeth(openNS(t, web), spec("veth00000001", nil))
		if err != nil {
			t.Fatal(err)
		}
		if err := h.DelLink("veth00000001", index+1000); err != nil {
			t.Errorf("another index: %v", err)
		}
		// Before Linux 6.2 only an interface that is down gets another name.
		run(t, host, "ip", "link", "set", "veth00000001", "down")
		run(t, host, "ip", "link", "set", "veth00000001", "name", "mine")
		if err := h.DelLink("veth00000001", index); err != nil {
			t.Errorf("another name: %v", err)
		}
		if _, err := h.Link("mine"); err != nil {
			t.Errorf("removed an interface that was not meant: %v", err)
		}
	})
}

// Removals that share a round take what they should and nothing else, also when
// some of them are gone by themselves.
func TestDelLinkTogether(t *testing.T) {
	host, web := labtest.New(t, "host"), labtest.New(t, "web")
	if err := netlab.Veth(host, "stays0", web, "stays1", 1500); err != nil {
		t.Fatal(err)
	}
	inHost(t, host, func(h *Host) {
		ns := openNS(t, web)
		name := func(i int) string { return fmt.Sprintf("veth%08x", i) }
		for i := range 20 {
			s := spec(name(i), nil)
			s.Ifname, s.Addrs, s.Gateways = fmt.Sprintf("eth%d", i), nil, nil
			if _, err := h.AddVeth(ns, s); err != nil {
				t.Fatal(err)
			}
		}
		var wg sync.WaitGroup
		for i := range 40 { // each twice
			wg.Go(func() {
				if err := h.DelLink(name(i/2), 0); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Go(func() {
			if err := web.DelLink("eth19"); err != nil {
				t.Logf("eth19 was gone already: %v", err)
			}
		})
		wg.Wait()
	})
	for n, want := range map[*netlab.NS]string{host: "stays0", web: "stays1"} {
		links, err := n.Links()
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(links)
		if !slices.Equal(links, []string{"lo", want}) {
			t.Errorf("links of %s are %v", n.Name(), links)
		}
	}
}

// Attaching and detaching all at once leaves nothing behind.
func TestChurn(t *testing.T) {
	const namespaces, cables = 10, 20
	host := labtest.New(t, "host")
	seal := dropAll(t)
	inHost(t, host, func(h *Host) {
		var wg sync.WaitGroup
		for i := range namespaces {
			web := labtest.New(t, fmt.Sprintf("web%d", i))
			for j := range cables {
				wg.Go(func() {
					ns, err := OpenNetns(web.Path())
					if err != nil {
						t.Error(err)
						return
					}
					s := spec(fmt.Sprintf("veth%04x%04x", i, j), h.FilterSeal(seal))
					s.Ifname, s.Addrs, s.Gateways = fmt.Sprintf("eth%d", j), s.Addrs[:1], nil
					index, err := h.AddVeth(ns, s)
					if err != nil {
						t.Error(err)
					}
					if err := h.DelLink(s.Name, index); err != nil {
						t.Error(err)
					}
					if err := ns.Close(); err != nil {
						t.Error(err)
					}
				})
			}
		}
		wg.Wait()
		if links, err := h.Links(); err != nil || len(links) != 1 {
			t.Errorf("links remain: %+v, %v", links, err)
		}
	})
}
