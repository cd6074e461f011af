package kernel

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cilium/ebpf"
)

// Holder keeps the programs for the next process (control/holder).
type Holder interface {
	Take(name string) (fd int, value string, ok bool)
	Put(name string, fd int, value string) error
}

// HeldPrograms begins the names of programs with the holder.
const HeldPrograms = "program "

// edition is of which object a process has its programs, and how it has loaded them: programs of
// another edition do something else, or are another owner's.
func (cfg *Config) edition(withFlows bool) string {
	return fmt.Sprintf("%s %d %t %s", objectSum(), cfg.MaxFlows, withFlows, cfg.Owner)
}

var objectSum = sync.OnceValue(func() string { return fmt.Sprintf("%x", sha256.Sum256(_ProgramsBytes)) })

// stamp tells the marks of a set of programs from others.
type stamp [2]uint32

func newStamp() stamp {
	n := rand.Uint64()
	return stamp{uint32(n), uint32(n >> 32)}
}

// programs are those that the next process may go on with, by their names with the holder. All
// parts of the Kernel are there.
func (k *Kernel) programs() map[string]**ebpf.Program {
	list := map[string]**ebpf.Program{
		"seal": &k.seal, "forwarded": &k.forwarded, "filter": &k.filter, "shield": &k.shield, "enter": &k.enter.program,
	}
	if k.flows != nil {
		list["decide"], list["host"], list["clock"] = &k.decide, &k.host, &k.flows.clock
		list["there"], list["drop"] = &k.living.there, &k.living.drop
	}
	return list
}

// keep gives the programs to the holder.
func (k *Kernel) keep() error {
	for name, p := range k.programs() {
		if err := k.keepProgram(name, *p); err != nil {
			return err
		}
	}
	return nil
}

func (k *Kernel) keepProgram(name string, p *ebpf.Program) error {
	if k.holder == nil {
		return nil
	}
	return k.holder.Put(HeldPrograms+name, p.FD(), k.set())
}

// set is what all programs of one process have in common. Of two, one that was killed may have
// left some to the holder each: their maps are not the same.
func (k *Kernel) set() string { return fmt.Sprintf("%s %x", k.edition, k.stamp) }

// takeProgram is a program that was kept, nil if there is none of this edition, and its stamp.
func (k *Kernel) takeProgram(name string) (*ebpf.Program, stamp) {
	if k.holder == nil {
		return nil, stamp{}
	}
	fd, set, ok := k.holder.Take(HeldPrograms + name)
	if !ok || fd < 0 {
		return nil, stamp{}
	}
	p, err := ebpf.NewProgramFromFD(fd) // it closes the descriptor where it is none of a program
	if err != nil {
		return nil, stamp{}
	}
	var s stamp
	if _, err := fmt.Sscanf(set, k.edition+" [%x %x]", &s[0], &s[1]); err != nil {
		p.Close()
		return nil, stamp{}
	}
	return p, s
}

// errNotKept: the programs of this edition are not all there.
var errNotKept = errors.New("not all programs were kept")

// adopt goes on with the programs of a process before, and with their maps. The verifier has
// taken them once: that would be most of the work of a start. After an error the Kernel is to be
// closed.
func (k *Kernel) adopt(cfg Config, withFlows bool) error {
	k.planes, k.enter = &planes{}, &enter{}
	if withFlows {
		k.flows, k.living = newFlows(), &living{}
	}
	first := true
	for name, p := range k.programs() {
		var s stamp
		if *p, s = k.takeProgram(name); *p == nil || !first && s != k.stamp {
			return errNotKept
		}
		k.stamp, first = s, false
	}
	if err := k.adoptMaps(); err != nil {
		return err
	}
	if k.flows != nil {
		k.flows.goesOn = true
		if err := k.flows.begin(); err != nil {
			return err
		}
		if err := refill(k.living.array, k.living.fill); err != nil {
			return err
		}
	}
	if err := refill(k.enter.jumps, func() error { return k.enter.fill(k.filter) }); err != nil {
		return err
	}
	k.goesOn, k.adopted = true, true
	return k.readLeft()
}

// adoptMaps opens the maps that the programs have.
func (k *Kernel) adoptMaps() error {
	places := k.planes.all()
	places[programsMapVswJumps] = &k.enter.jumps
	if k.flows != nil {
		for name, m := range k.flows.all() {
			places[name] = m
		}
		places[programsMapVswLiving] = &k.living.array
	}
	byName := make(map[string]**ebpf.Map, len(places))
	for name, m := range places {
		byName[name[:min(len(name), maxName)]] = m
	}
	seen := make(map[ebpf.MapID]bool)
	for _, p := range k.programs() {
		info, err := (*p).Info()
		if err != nil {
			return err
		}
		ids, _ := info.MapIDs()
		for _, id := range ids {
			if seen[id] {
				continue
			}
			seen[id] = true
			if err := adoptMap(id, byName); err != nil {
				return fmt.Errorf("map %d: %w", id, err)
			}
		}
	}
	if len(byName) > 0 {
		return errNotKept
	}
	return nil
}

// adoptMap puts a map in its place, which is then taken out.
func adoptMap(id ebpf.MapID, places map[string]**ebpf.Map) error {
	m, err := ebpf.NewMapFromID(id)
	if err != nil {
		return err
	}
	info, err := m.Info()
	if err != nil {
		return errors.Join(err, m.Close())
	}
	if info.Name == layoutSpec.Name { // the same object has one layout: whoever says otherwise is believed
		var laid versions
		if err := laid.read(m); err != nil || laid != versionsNow {
			return errors.Join(errNotKept, err, m.Close())
		}
	}
	place := places[info.Name]
	if place == nil {
		return m.Close()
	}
	*place = m
	delete(places, info.Name)
	return nil
}

// emptied is for how long refill waits.
const emptied = 200 * time.Millisecond

// refill fills an array of programs. The kernel empties it some time after the last process that
// had it open has ended: what was filled before that would be lost.
func refill(m *ebpf.Map, fill func() error) error {
	for began := time.Now(); !empty(m); time.Sleep(200 * time.Microsecond) {
		if time.Since(began) > emptied {
			return fmt.Errorf("%v: another process has it open", m)
		}
	}
	return fill()
}

// refilled fills arrays again that somebody else has opened and closed at the moment when they
// were filled.
func (k *Kernel) refilled() error {
	if !k.adopted {
		return nil
	}
	var err error
	if k.living != nil && empty(k.living.array) {
		err = k.living.fill()
	}
	if empty(k.enter.jumps) {
		err = errors.Join(err, k.enter.fill(k.filter))
	}
	return err
}

func empty(m *ebpf.Map) bool {
	for i := range m.MaxEntries() {
		var id uint32
		if err := m.Lookup(i, &id); !errors.Is(err, ebpf.ErrKeyNotExist) {
			return false
		}
	}
	return true
}
