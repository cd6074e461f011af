package host

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// ShieldPriority is where a shield wants to stand among the filters of an
// interface: first, so that the verdict of another cannot let through what is
// ours. It shares its place with other bpf filters for all protocols, which have
// handles of their own. Where a filter of another kind has it, the shield takes the
// next place that is free.
const ShieldPriority = 1

const (
	shieldName = "vswitch:" // and the owner; a filter's name (TCA_BPF_NAME), for people and for our next start
	madeMark   = ",clsact"  // ends the name when the qdisc is of our making as well
	// shieldHandle is the upper half of a shield's handle. Programs count theirs
	// from 1, and those that replace "handle 1" must not hit the shield.
	shieldHandle = 0x7673 << 16
)

// AliasOf begins the alias of every link that is made for an owner.
func AliasOf(owner string) string { return "vswitch:" + owner + ":" }

// WaitPrefix begins the names of container ends that wait for a runtime to move them. The rest
// is as in the name of the host end.
const WaitPrefix = "wait"

// HalfMade reports whether a link is a network's device, vs-0123456789, whose daemon was killed while
// it made it: the kernel keeps it, nobody has opened it, and it has no alias yet.
func (l Link) HalfMade() bool {
	id, ok := strings.CutPrefix(l.Name, "vs-")
	return ok && l.Kind == "tun" && l.Alias == "" && !l.Up && !l.Carrier && len(id) == 10 && strings.Trim(id, "0123456789abcdef") == ""
}

// AddShield attaches a direct-action program to the ingress of an interface, by a
// clsact that it makes unless there is one (or an ingress qdisc, which serves as
// well). It takes the place of the owner's program before, in one step, or goes first again
// where somebody has come before that. owner, of letters,
// digits and hyphens, is whose it is. Filters of others are left alone. The shield outlives
// the process: only RemoveShields takes it away.
func (h *Host) AddShield(index, prog int, owner string) error {
	made := true
	err := h.route.addClsact(index)
	if errors.Is(err, unix.EEXIST) {
		made, err = false, nil
	}
	if err != nil {
		return fmt.Errorf("shield: clsact: %w: the kernel needs TCX, or CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF", err)
	}
	if err := h.addShield(index, prog, owner, made); err != nil {
		if made {
			err = errors.Join(err, h.route.delClsact(index))
		}
		return fmt.Errorf("shield: %w", err)
	}
	return nil
}

func (h *Host) addShield(index, prog int, owner string, made bool) error {
	there, err := h.route.filters(index, tcIngress)
	if err != nil {
		return err
	}
	old := slices.IndexFunc(there, func(f filter) bool { return f.isShieldOf(owner) })
	if old >= 0 && isFirst(there, old) {
		return h.route.replaceFilter(there[old], prog)
	}
	g := filter{index: index, parent: tcIngress, kind: "bpf", name: shieldName + owner, info: tcInfo(freePriority(there))}
	// Of several daemons on one uplink the last takes the qdisc along, whichever
	// made it.
	if made || slices.ContainsFunc(there, func(f filter) bool { return f.isShield() && strings.HasSuffix(f.name, madeMark) }) {
		g.name += madeMark
	}
	for {
		g.handle = shieldHandle | rand.Uint32N(1<<16)
		if !slices.ContainsFunc(there, func(f filter) bool { return f.handle == g.handle }) {
			break
		}
	}
	err = h.route.addFilter(g, prog)
	if old >= 0 {
		err = errors.Join(err, h.route.delFilter(there[old]))
	}
	return err
}

// freePriority is the first that a bpf filter for all protocols can have: the
// kernel keeps one kind and one protocol at each.
func freePriority(there []filter) uint16 {
	p := uint16(ShieldPriority)
	for slices.ContainsFunc(there, func(f filter) bool {
		return f.info>>16 == uint32(p) && (f.kind != "bpf" || f.info != tcInfo(p))
	}) {
		p++
	}
	return p
}

// RemoveShields removes the shields of an owner, of this process or one before, from all
// interfaces but some, and returns the names of those that had one. A clsact that was made
// for a shield goes along when nobody else uses it by now.
func (h *Host) RemoveShields(owner string, but ...int) (from []string, err error) {
	links, err := h.Links()
	if err != nil {
		return nil, err
	}
	qdiscs, err := h.route.qdiscs(0)
	if err != nil {
		return nil, fmt.Errorf("read the qdiscs: %w", err)
	}
	for _, q := range qdiscs {
		i := slices.IndexFunc(links, func(l Link) bool { return l.Index == q.index })
		// A shield is never on an interface that the switch made; of those there
		// may be thousands, each with a seal.
		if i < 0 || q.parent != tcClsact || strings.HasPrefix(links[i].Alias, "vswitch:") || slices.Contains(but, q.index) {
			continue
		}
		n, err1 := h.removeShields(q.index, owner)
		if n > 0 {
			from = append(from, links[i].Name)
		}
		if err1 != nil {
			err = errors.Join(err, fmt.Errorf("interface %s: shield: %w", links[i].Name, err1))
		}
	}
	return from, err
}

// removeShields removes the shields of an owner from an interface and then, if one of
// them asks for it, the clsact when no filter of anybody is left in either
// direction.
func (h *Host) removeShields(index int, owner string) (removed int, err error) {
	there, err := h.route.filters(index, tcIngress)
	if err != nil {
		return 0, err
	}
	made := false
	for _, f := range there {
		if !f.isShieldOf(owner) {
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

// isShield reports whether a filter is a shield of any daemon.
func (f *filter) isShield() bool {
	return f.kind == "bpf" && f.handle&0xffff0000 == shieldHandle && strings.HasPrefix(f.name, shieldName)
}

func (f *filter) isShieldOf(owner string) bool {
	return f.isShield() && strings.TrimSuffix(f.name, madeMark) == shieldName+owner
}
