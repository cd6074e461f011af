package control

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane"
)

// maxVLAN is the largest VLAN ID that is not reserved (802.1Q table 9-2).
const maxVLAN = 4094

// layer2 is what an endpoint may do at layer 2.
type layer2 struct {
	unguarded bool
	vlan      uint16
	trunk     []dataplane.VLANRange
}

// parseLayer2 reads the words of a request or a record. On a trunk are addresses
// that were not handed out, so that it is guarded only when asked for.
func parseLayer2(guard string, vlan int, trunk string) (l layer2, err error) {
	switch guard {
	case "":
		l.unguarded = trunk != ""
	case api.GuardOn:
	case api.GuardOff:
		l.unguarded = true
	default:
		return l, invalidf("guard %q: use on or off", guard)
	}
	if vlan < 0 || vlan > maxVLAN {
		return l, invalidf("VLAN %d is out of range: use 1 to %d, or 0 for the network's own", vlan, maxVLAN)
	}
	l.vlan = uint16(vlan)
	if trunk == "" {
		return l, nil
	}
	if l.trunk, err = parseVLANs(trunk); err != nil {
		return l, err
	}
	for _, r := range l.trunk {
		if r.First <= l.vlan && l.vlan <= r.Last {
			return l, invalidf("VLAN %d is both the port's own and on its trunk %s: name it once", vlan, trunk)
		}
	}
	return l, nil
}

// parseVLANs reads a list like 10,20-29.
func parseVLANs(s string) ([]dataplane.VLANRange, error) {
	var list []dataplane.VLANRange
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, aerr := strconv.ParseUint(first, 10, 16)
		b, berr := strconv.ParseUint(last, 10, 16)
		if aerr != nil || berr != nil || a < 1 || b > maxVLAN || a > b {
			return nil, invalidf("trunk %q: %q is no VLAN or range of them: write it like 10,20-29, from 1 to %d", s, part, maxVLAN)
		}
		list = append(list, dataplane.VLANRange{First: uint16(a), Last: uint16(b)})
	}
	slices.SortFunc(list, func(a, b dataplane.VLANRange) int { return cmp.Compare(a.First, b.First) })
	for i := 1; i < len(list); i++ {
		if list[i].First <= list[i-1].Last {
			return nil, invalidf("trunk %q names VLAN %d twice", s, list[i].First)
		}
	}
	return list, nil
}

// guard is the word for the interface and the record.
func (l *layer2) guard() string {
	if l.unguarded {
		return api.GuardOff
	}
	return api.GuardOn
}

// trunkText is the list for the interface and the record.
func (l *layer2) trunkText() string {
	var parts []string
	for _, r := range l.trunk {
		if r.First == r.Last {
			parts = append(parts, strconv.Itoa(int(r.First)))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", r.First, r.Last))
		}
	}
	return strings.Join(parts, ",")
}

// keep writes l into a record, with nothing where it is the default.
func (l *layer2) keep(rec *state.Endpoint) {
	if l.unguarded || len(l.trunk) > 0 {
		rec.Guard = l.guard()
	}
	rec.VLAN, rec.Trunk = int(l.vlan), l.trunkText()
}

// apply writes l into the data path's configuration.
func (l *layer2) apply(p *dataplane.PortConfig) {
	p.Guarded, p.VLAN, p.Trunk = !l.unguarded, l.vlan, l.trunk
}
