package kernel

import (
	"slices"
	"testing"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
)

// TestKernelTellsThePlaceOfAChecksum: where it does not, nothing fails, and all is slower.
func TestKernelTellsThePlaceOfAChecksum(t *testing.T) {
	if at := packetFields(); at.sum[0] == 0 || at.sum[1] <= at.sum[0] || at.summed[0] == 0 {
		t.Errorf("csum_start and network_header are at %d of struct sk_buff, ip_summed at %d", at.sum, at.summed)
	}
}

// TestUnknownPlaceOfAChecksum: where the place of a partial checksum cannot be read, a flow
// whose frames are to be proved is the switch's, with and without somebody there, and all
// others are carried.
func TestUnknownPlaceOfAChecksum(t *testing.T) {
	for _, known := range []bool{true, false} {
		s := newInKernel(t)
		if !known {
			if err := s.k.spec.Variables[programsVarSkBuffAt].Set([2]uint32{}); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range benchCases() {
			if !slices.Contains([]string{"decide/bridged4", "decide/routed4", "decide/routed6", "seal/alone4"}, c.name) {
				continue
			}
			for _, flags := range []uint32{0, flowmap.ProveSum} {
				g, want := c.given, c.verdict
				g.row.Flags |= flags
				g.tally = &flowmap.Tally{}
				left := uint64(0)
				if flags != 0 && !known && g.program == programsProgVswDecide {
					want, left = -1, 1
				} else if flags != 0 && !known {
					want = flowtest.Shot
				}
				o := s.run(t, g)
				if o.result.Verdict != want || o.tally.In != left {
					t.Errorf("known %v, %s, flags %#x: verdict %d, %d frames are the switch's, want %d and %d",
						known, c.name, g.row.Flags, o.result.Verdict, o.tally.In, want, left)
				}
			}
		}
	}
}
