package kernel

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// enter is the program that an uplink's socket gets: it jumps to the filter. The kernel
// charges a socket for the length of its own program, up to net.core.optmem_max, which is
// 20 KiB until Linux 6.7. The array is empty from the moment it is closed.
type enter struct {
	program *ebpf.Program
	jumps   *ebpf.Map
}

func newEnter(s *ebpf.CollectionSpec, filter *ebpf.Program) (e *enter, err error) {
	e = &enter{}
	if e.jumps, err = newMap(s, programsMapVswJumps); err != nil {
		return nil, err
	}
	if err = e.fill(filter); err != nil {
		e.close()
		return nil, err
	}
	if e.program, err = newProgram(s, programsProgVswEnter, map[string]**ebpf.Map{programsMapVswJumps: &e.jumps}); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

// fill says where to jump.
func (e *enter) fill(filter *ebpf.Program) error {
	if err := e.jumps.Put(uint32(0), uint32(filter.FD())); err != nil {
		return fmt.Errorf("map %s: %w", programsMapVswJumps, err)
	}
	return nil
}

func (e *enter) close() {
	e.program.Close() // a nil program is allowed
	e.jumps.Close()
}
