package dataplane_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// TestFlowTableGrows: entries are made as they are needed, no more than there may be connections or
// than the kernel has room for.
func TestFlowTableGrows(t *testing.T) {
	const step, most = 8, 64
	for _, test := range []struct {
		name         string
		conns, fails int // fails: more than so many entries cannot be made
		rows, made   int
	}{
		{"all", 4096, most, most / 2, most},
		{"as many as connections", 10, most, 10, 24},
		{"as many as the kernel has room for", 4096, 32, 16, 32},
	} {
		t.Run(test.name, func(t *testing.T) {
			made := step
			l := NewCarried(t, test.conns, func(cfg *dataplane.Config) func(uint32) *flowmap.Tally {
				k := flowtest.New(most, cfg.Clock.Load)
				cfg.Flows = flowtest.DescribeFlows(k, k.Rows, k.Ends)
				cfg.Flows.Made = made
				k.OnGrow = func() (int, error) {
					if made+step > test.fails {
						return made, errors.New("no memory")
					}
					made += step
					return made, nil
				}
				return k.Tally
			})
			l.Interfaces()
			rows := 0
			for i := range 2 * most {
				l.Switch.OfferFrame(l.Port("c2"), Bytes(Packet{
					EthSrc: MAC("c2"), EthDst: MAC("c3"), Proto: header.ProtoUDP, Payload: []byte("x"),
					Src: fmt.Sprintf("%s:%d", Stations["c2"], 1000+i%most), Dst: Stations["c3"] + ":7",
				}))
				rows = len(l.Switch.EnterOffers())
			}
			if rows != test.rows || made != test.made {
				t.Errorf("%d rows, want %d, %d entries, want %d", rows, test.rows, made, test.made)
			}
			if room, _ := l.Switch.Shares(); room[dataplane.SharedRows] != 2*test.rows {
				t.Errorf("there is room for %d", room[dataplane.SharedRows])
			}
		})
	}
}
