package model

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

// Layer2 is what an endpoint may do at layer 2.
type Layer2 struct {
	unguarded bool
	VLAN      uint16
	trunk     []dataplane.VLANRange
}

// ParseLayer2 reads the words of a request or a record. On a trunk are addresses
// that were not handed out, so that it is guarded only when asked for.
func ParseLayer2(guard string, vlan int, trunk string) (l Layer2, err error) {
	switch guard {
	case "":
		l.unguarded = trunk != ""
	case api.GuardOn:
	case api.GuardOff:
		l.unguarded = true
	default:
		return l, Invalidf("guard %q: use on or off", guard)
	}
	if vlan < 0 || vlan > maxVLAN {
		return l, Invalidf("VLAN %d is out of range: use 1 to %d, or 0 for the network's own", vlan, maxVLAN)
	}
	l.VLAN = uint16(vlan)
	if trunk == "" {
		return l, nil
	}
	if l.trunk, err = parseVLANs(trunk); err != nil {
		return l, err
	}
	for _, r := range l.trunk {
		if r.First <= l.VLAN && l.VLAN <= r.Last {
			return l, Invalidf("VLAN %d is both the port's own and on its trunk %s: name it once", vlan, trunk)
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
			return nil, Invalidf("trunk %q: %q is no VLAN or range of them: write it like 10,20-29, from 1 to %d", s, part, maxVLAN)
		}
		list = append(list, dataplane.VLANRange{First: uint16(a), Last: uint16(b)})
	}
	slices.SortFunc(list, func(a, b dataplane.VLANRange) int { return cmp.Compare(a.First, b.First) })
	for i := 1; i < len(list); i++ {
		if list[i].First <= list[i-1].Last {
			return nil, Invalidf("trunk %q names VLAN %d twice", s, list[i].First)
		}
	}
	return list, nil
}

// Guard is the word for the interface and the record.
func (l *Layer2) Guard() string {
	if l.unguarded {
		return api.GuardOff
	}
	return api.GuardOn
}

// TrunkText is the list for the interface and the record.
func (l *Layer2) TrunkText() string {
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

// Keep writes l into a record, with nothing where it is the default.
func (l *Layer2) Keep(rec *state.Endpoint) {
	if l.unguarded || len(l.trunk) > 0 {
		rec.Guard = l.Guard()
	}
	rec.VLAN, rec.Trunk = int(l.VLAN), l.TrunkText()
}

// Apply writes l into the data path's configuration.
func (l *Layer2) Apply(p *dataplane.PortConfig) {
	p.Guarded, p.VLAN, p.Trunk = !l.unguarded, l.VLAN, l.trunk
}
