package host

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// GuardPriority is where a guard wants to stand among the filters of an
// interface: first, so that the verdict of another cannot let through what is
// ours. It shares its place with other bpf filters for all protocols, which have
// handles of their own. Where a filter of another kind has it, the guard takes the
// next place that is free.
const GuardPriority = 1

const (
	guardName = "vswitch:" // and the owner; a filter's name (TCA_BPF_NAME), for people and for our next start
	madeMark  = ",clsact"  // ends the name when the qdisc is of our making as well
	// guardHandle is the upper half of a guard's handle. Programs count theirs
	// from 1, and those that replace "handle 1" must not hit the guard.
	guardHandle = 0x7673 << 16
)

// Guard is a program on the clsact ingress of an interface. It outlives the
// process: only Close and RemoveGuards take it away.
type Guard struct {
	h      *Host
	filter filter
}

// AddGuard attaches a direct-action program to the ingress of an interface, by a
// clsact that it makes unless there is one (or an ingress qdisc, which serves as
// well). owner, of letters, digits and hyphens, is whose it is. Filters of others
// are left alone.
func (h *Host) AddGuard(index, prog int, owner string) (*Guard, error) {
	made := true
	err := h.route.addClsact(index)
	if errors.Is(err, unix.EEXIST) {
		made, err = false, nil
	}
	if err != nil {
		return nil, fmt.Errorf("guard: clsact: %w: the kernel needs TCX, or CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF", err)
	}
	g := &Guard{h: h, filter: filter{index: index, parent: tcIngress, kind: "bpf", name: guardName + owner}}
	if err := g.add(prog, made); err != nil {
		if made {
			err = errors.Join(err, h.route.delClsact(index))
		}
		return nil, fmt.Errorf("guard: %w", err)
	}
	return g, nil
}

func (g *Guard) add(prog int, made bool) error {
	there, err := g.h.route.filters(g.filter.index, tcIngress)
	if err != nil {
		return err
	}
	// Of several daemons on one uplink the last takes the qdisc along, whichever
	// made it.
	if made || slices.ContainsFunc(there, func(f filter) bool { return f.isGuard() && strings.HasSuffix(f.name, madeMark) }) {
		g.filter.name += madeMark
	}
	g.filter.info = tcInfo(freePriority(there))
	for {
		g.filter.handle = guardHandle | rand.Uint32N(1<<16)
		if !slices.ContainsFunc(there, func(f filter) bool { return f.handle == g.filter.handle }) {
			return g.h.route.addFilter(g.filter, prog)
		}
	}
}

// freePriority is the first that a bpf filter for all protocols can have: the
// kernel keeps one kind and one protocol at each.
func freePriority(there []filter) uint16 {
	p := uint16(GuardPriority)
	for slices.ContainsFunc(there, func(f filter) bool {
		return f.info>>16 == uint32(p) && (f.kind != "bpf" || f.info != tcInfo(p))
	}) {
		p++
	}
	return p
}

// Close detaches the program, and removes the clsact if it was made for it and
// nobody else uses it by now. What has vanished meanwhile is no error.
func (g *Guard) Close() error {
	_, err := g.h.removeGuards(g.filter.index, func(f filter) bool {
		return f.handle == g.filter.handle && f.name == g.filter.name
	})
	if err != nil {
		return fmt.Errorf("guard: %w", err)
	}
	return nil
}

// RemoveGuards removes what a killed process of the same owner left, and returns
// the names of the interfaces.
func (h *Host) RemoveGuards(owner string) (from []string, err error) {
	links, err := h.Links()
	if err != nil {
		return nil, err
	}
	qdiscs, err := h.route.qdiscs(0)
	if err != nil {
		return nil, fmt.Errorf("read the qdiscs: %w", err)
	}
	name := guardName + owner
	for _, q := range qdiscs {
		i := slices.IndexFunc(links, func(l Link) bool { return l.Index == q.index })
		// A guard is never on an interface that the switch made; of those there
		// may be thousands, each with a seal.
		if i < 0 || q.parent != tcClsact || strings.HasPrefix(links[i].Alias, "vswitch:") {
			continue
		}
		n, err1 := h.removeGuards(q.index, func(f filter) bool { return f.name == name || f.name == name+madeMark })
		if n > 0 {
			from = append(from, links[i].Name)
		}
		if err1 != nil {
			err = errors.Join(err, fmt.Errorf("interface %s: leftover guard: %w", links[i].Name, err1))
		}
	}
	return from, err
}

// removeGuards removes the guards of an interface that match and then, if one of
// them asks for it, the clsact when no filter of anybody is left in either
// direction.
func (h *Host) removeGuards(index int, match func(filter) bool) (removed int, err error) {
	there, err := h.route.filters(index, tcIngress)
	if err != nil {
		return 0, err
	}
	made := false
	for _, f := range there {
		if !f.isGuard() || !match(f) {
			continue
		}
		if err := h.route.delFilter(f); err != nil {
			return removed, err
		}
		removed++
		made = made || strings.HasSuffix(f.name, madeMark)
	}
	if !made {
		return removed, nil
	}
	for _, parent := range []uint32{tcIngress, tcEgress} {
		left, err := h.route.filters(index, parent)
		if err != nil || len(left) > 0 {
			return removed, err
		}
	}
	// It may be another one by now.
	qdiscs, err := h.route.qdiscs(index)
	if err != nil || !slices.ContainsFunc(qdiscs, func(q qdisc) bool { return q.index == index && q.kind == "clsact" }) {
		return removed, err
	}
	return removed, h.route.delClsact(index)
}

// isGuard reports whether a filter is a guard of any daemon.
func (f *filter) isGuard() bool {
	return f.kind == "bpf" && f.handle&0xffff0000 == guardHandle && strings.HasPrefix(f.name, guardName)
}
