package pcapfilter

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/vswitch/vswitch/dataplane/filter"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// A file says not which way its packets went, so that libpcap's own programs are
// run here, for packets of both directions.
func TestDirectionsAsTcpdump(t *testing.T) {
	labtest.NeedProgram(t, "tcpdump")
	frames := packets(t, rand.New(rand.NewPCG(9, 10)), 400)
	for _, expr := range []string{
		"inbound", "outbound", "not inbound", "inbound and tcp port 80", "outbound or arp", "(inbound and src host 10.0.0.1) or (outbound and dst host 10.0.0.1)",
		"vlan and inbound", "not (outbound and udp)", "inbound and outbound",
	} {
		out, err := exec.Command("tcpdump", "-y", "EN10MB", "-O", "-ddd", expr).Output()
		if err != nil {
			t.Errorf("%s: tcpdump: %v", expr, err)
			continue
		}
		var raw []bpf.Instruction
		for line := range strings.Lines(strings.TrimSpace(string(out))) {
			var i bpf.RawInstruction
			if n, _ := fmt.Sscan(line, &i.Op, &i.Jt, &i.Jf, &i.K); n == 4 {
				raw = append(raw, i.Disassemble())
			}
		}
		theirs, err := filter.New(raw)
		if err != nil {
			t.Errorf("%s: %v in %s", expr, err, out)
			continue
		}
		ours := mustCompile(t, expr)
		for _, f := range frames {
			for _, way := range []bool{false, true} {
				if got, want := ours.Match(f, len(f), way), theirs.Match(f, len(f), way); got != want {
					t.Fatalf("%s, outgoing %v: got %v, want %v: %x", expr, way, got, want, f)
				}
			}
		}
	}
}
