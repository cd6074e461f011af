package kernel

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// waiter is the maps by which the data path waits for the programs: an element of outer is
// exchanged (bpfmap.Flows).
type waiter struct{ outer, inner *ebpf.Map }

func newWaiter() (*waiter, error) {
	w := &waiter{}
	spec := ebpf.MapSpec{Name: "vsw_wait_in", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
	var err error
	if w.inner, err = ebpf.NewMap(&spec); err == nil {
		w.outer, err = ebpf.NewMap(&ebpf.MapSpec{
			Name: "vsw_wait", Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: &spec,
		})
	}
	if err == nil { // so that the data path need not ask
		err = w.outer.Update(uint32(0), w.inner, ebpf.UpdateAny)
	}
	if err != nil {
		w.close()
		return nil, fmt.Errorf("map %s: %w", spec.Name, err)
	}
	return w, nil
}

func (w *waiter) close() {
	if w != nil {
		w.outer.Close() // a nil map is allowed
		w.inner.Close()
	}
}
