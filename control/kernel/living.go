package kernel

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// living is the array of programs by which others know that the process is there: the kernel
// empties it when the last process that has it open ends.
type living struct {
	array       *ebpf.Map
	there, drop *ebpf.Program // what becomes of a frame then
}

// openLiving makes the array. Who has loaded the programs fills it.
func openLiving(s *ebpf.CollectionSpec) (l *living, err error) {
	l = &living{}
	if l.array, err = newMap(s, programsMapVswLiving); err != nil {
		return nil, err
	}
	return l, nil
}

// fill says that the process is there.
func (l *living) fill() error {
	for i, p := range []*ebpf.Program{l.there, l.drop} {
		if err := l.array.Put(uint32(i), uint32(p.FD())); err != nil {
			return fmt.Errorf("map %s: %w", programsMapVswLiving, err)
		}
	}
	return nil
}

func (l *living) maps() map[string]**ebpf.Map {
	return map[string]**ebpf.Map{programsMapVswLiving: &l.array}
}

func (l *living) close() {
	if l == nil {
		return
	}
	l.there.Close() // a nil program is allowed
	l.drop.Close()
	l.array.Close()
}
