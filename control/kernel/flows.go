package kernel

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/bpfmap"
	"github.com/vswitch/vswitch/dataplane/flowmap"
)

// flows are the maps of the flow table:
//
//	keys    hash: flowmap.Key -> number of a row
//	entries array of maps, see bpfmap.Chunks: number -> flowmap.Entry, mapped into memory
//	ports   hash: ifindex -> number of a port's tally
//	tallies array: number -> flowmap.Tally, mapped into memory
//	ends    array of one: flowmap.Ends, mapped into memory
//	numbers array of one: flowmap.Identifiers, mapped into memory
//	said    a place for each CPU, where a filter says to the program after it whose
//	        frame it has seen
//	askers  hash: ifindex -> flowmap.Asker
//	stations hash: flowmap.StationKey -> flowmap.Station
//	stationKeys hash: flowmap.StationKey -> number of a port
//	stationRows array: number -> flowmap.StationRow, mapped into memory
//	stationFlows hash: flowmap.Key -> flowmap.StationFlow
//
// The data path has keys, the memory of entries and stationRows, and the others of stations
// (Kernel.Flows), and with a port its tally.
type flows struct {
	keys, entries, ports, tallies, said    *ebpf.Map
	askers, stations, ends, numbers        *ebpf.Map
	stationKeys, stationRows, stationFlows *ebpf.Map

	wait   *waiter
	clock  *ebpf.Program
	rows   []flowmap.Entry // of which those are there that chunks has made
	chunks *bpfmap.Chunks
	at     []flowmap.StationRow
	shared []flowmap.Tally
	ended  []flowmap.Ends
	idents []flowmap.Identifiers
	memory [][]byte
	goesOn bool // with the maps of a process before

	mu    sync.Mutex        // guards what follows
	used  map[uint32]uint32 // number by ifindex
	owner map[uint32]uint32 // ifindex by number
	left  map[uint32]uint32 // likewise of a process before, until another has the number or settle
}

func newFlows() *flows {
	return &flows{used: make(map[uint32]uint32), owner: make(map[uint32]uint32)}
}

func loadFlows(s *ebpf.CollectionSpec, before left) (*flows, error) {
	f := newFlows()
	if err := f.open(s, before); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

func (f *flows) open(s *ebpf.CollectionSpec, before left) (err error) {
	// A process of a version before may have told nobody of stations: then its rows go on all the same.
	f.goesOn = before.whole(s, slices.Collect(maps.Keys(f.rowsBy())))
	for name, m := range f.all() {
		if *m, err = before.open(s, name); err != nil {
			return err
		}
	}
	if f.clock, err = newProgram(s, programsProgVswClock); err != nil {
		return err
	}
	return f.begin()
}

// begin makes what each process has of its own. The maps are there.
func (f *flows) begin() (err error) {
	if f.wait, err = newWaiter(); err != nil {
		return err
	}
	var memory []byte
	if memory, f.rows, err = bpfmap.ReserveChunks(); err != nil {
		return err
	}
	f.memory = append(f.memory, memory)
	if f.chunks, err = bpfmap.MapChunks(f.entries, f.rows); err != nil {
		return err
	}
	if f.at, err = mapMemory[flowmap.StationRow](f, f.stationRows); err != nil {
		return err
	}
	if f.shared, err = mapMemory[flowmap.Tally](f, f.tallies); err != nil {
		return err
	}
	if f.ended, err = mapMemory[flowmap.Ends](f, f.ends); err != nil {
		return err
	}
	f.idents, err = mapMemory[flowmap.Identifiers](f, f.numbers)
	return err
}

// all are the maps by their names.
func (f *flows) all() map[string]**ebpf.Map {
	list := f.rowsBy()
	list[programsMapVswAskers], list[programsMapVswStations] = &f.askers, &f.stations
	list[programsMapVswFlowEnds], list[programsMapVswIdentifiers] = &f.ends, &f.numbers
	list[programsMapVswStationKeys], list[programsMapVswStationRows], list[programsMapVswStationFlows] = &f.stationKeys, &f.stationRows, &f.stationFlows
	return list
}

// rowsBy are the maps by which a row is found and counted.
func (f *flows) rowsBy() map[string]**ebpf.Map {
	return map[string]**ebpf.Map{
		programsMapVswFlowKeys: &f.keys, programsMapVswFlowEntries: &f.entries,
		programsMapVswFlowPorts: &f.ports, programsMapVswFlowTally: &f.tallies,
		programsMapVswSaid: &f.said,
	}
}

func mapMemory[T any](f *flows, m *ebpf.Map) ([]T, error) {
	n := int(m.MaxEntries())
	mem, err := unix.Mmap(m.FD(), 0, n*int(m.ValueSize()), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("%v: mmap: %w", m, err)
	}
	f.memory = append(f.memory, mem)
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(mem))), n), nil
}

func (f *flows) close() {
	for _, m := range f.all() {
		(*m).Close() // a nil map is allowed
	}
	f.wait.close()
	f.clock.Close()
	for _, mem := range f.memory {
		_ = unix.Munmap(mem)
	}
	f.memory, f.rows, f.at, f.shared, f.ended, f.idents = nil, nil, nil, nil, nil, nil
}

// AddFlowPort begins to count the frames of an interface, from zero, on the tally of
// a number, 0 to flowmap.MaxPorts-1; one that is in use otherwise is an error. It comes
// before DecideFD or FilterFD is attached to the interface's socket, which then keeps
// the tally. Without a flow table there is none, and no error.
func (k *Kernel) AddFlowPort(ifindex, number int) (*flowmap.Tally, error) {
	f := k.flows
	if f == nil {
		return nil, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if number < 0 || number >= len(f.shared) {
		return nil, fmt.Errorf("flow table: tally %d: numbers end at %d", number, len(f.shared)-1)
	}
	index, n := uint32(ifindex), uint32(number)
	if other, ok := f.owner[n]; ok && other != index {
		return nil, fmt.Errorf("flow table: tally %d is kept for interface %d: remove it first", n, other)
	}
	if other, ok := f.used[index]; ok && other != n {
		return nil, fmt.Errorf("flow table: interface %d has tally %d: remove it first", index, other)
	}
	f.shared[n] = flowmap.Tally{}
	f.forget(n, index)
	if err := f.ports.Put(index, n); err != nil {
		return nil, fmt.Errorf("flow table: interface %d: %w", index, err)
	}
	f.used[index], f.owner[n] = n, index
	return &f.shared[n], nil
}

// readPorts notes the interfaces that a process before has counted. Their numbers stay: as long as
// nobody is there, and during a start, the programs find by them who sends to another station.
func (f *flows) readPorts() error {
	f.left = make(map[uint32]uint32)
	var index, number uint32
	it := f.ports.Iterate()
	for it.Next(&index, &number) {
		f.left[number] = index
	}
	return it.Err()
}

// forget takes a number from the interface that had it with a process before, if that is another
// one than now. It needs mu.
func (f *flows) forget(number, now uint32) {
	index, ok := f.left[number]
	if !ok {
		return
	}
	delete(f.left, number)
	if _, used := f.used[index]; !used && index != now {
		_ = f.ports.Delete(index)
	}
}

// settle takes the numbers of all interfaces that nobody counts again.
func (f *flows) settle() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for number := range f.left {
		f.forget(number, 0)
	}
}

// RemoveFlowPort ends the counting. The port is closed by then.
func (k *Kernel) RemoveFlowPort(ifindex int) {
	f := k.flows
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if n, ok := f.used[uint32(ifindex)]; ok {
		_ = f.ports.Delete(uint32(ifindex))
		delete(f.used, uint32(ifindex))
		delete(f.owner, n)
	}
}

// Flows is the kernel's side of the flow table, borrowed until Close; zero without one.
func (k *Kernel) Flows() bpfmap.FlowDescriptor {
	f := k.flows
	if f == nil {
		return bpfmap.FlowDescriptor{}
	}
	var idents *flowmap.Identifiers
	if fetchesAdd() {
		idents = &f.idents[0]
	}
	return bpfmap.FlowDescriptor{
		Identifiers: idents,
		Kind:        bpfmap.KindKernel, Entries: f.rows, Made: f.chunks.Made(), Chunks: f.entries.FD(), Ends: &f.ended[0], Keys: f.keys.FD(), Outer: f.wait.outer.FD(), Inner: f.wait.inner.FD(), Clock: f.clock.FD(),
		Askers: f.askers.FD(), Stations: f.stations.FD(),
		Rows: f.at, StationKeys: f.stationKeys.FD(), StationFlows: f.stationFlows.FD(),
	}
}

// DecideFD is the socket filter for a container's port: it keeps frames of the flow table's
// active flows, and those that station rows speak for, from the socket, and marks them for the seal. It is
// borrowed until Close; -1 without a flow table.
func (k *Kernel) DecideFD() int {
	if k.flows == nil {
		return -1
	}
	return k.decide.FD()
}
