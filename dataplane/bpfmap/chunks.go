package bpfmap

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/flowmap"
)

// Chunks are the entries of a flow table of the kernel: arrays of an array of maps, each made when those
// before are nearly full. They stay, since a program may still hold an entry that has ended. All are mapped
// one after the other into addresses that are reserved for them: to who has the entries they are one slice.
type Chunks struct {
	array   *ebpf.Map
	entries []flowmap.Entry
	made    int
}

// ChunkSpec is what the array of maps has to be made for. Until Linux 6.2 the kernel takes a map with types
// (BTF) and one without for two kinds, and a process that goes on with programs has read no types.
func ChunkSpec() *ebpf.MapSpec { return chunkSpec.Copy() }

// chunkSpec is a chunk as the programs know it.
var chunkSpec = ebpf.MapSpec{
	Name: "vsw_flow_chunk", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(unsafe.Sizeof(flowmap.Entry{})),
	MaxEntries: flowmap.ChunkEntries, Flags: unix.BPF_F_MMAPABLE,
}

// ReserveChunks returns addresses for all entries that there may be. Nothing is mapped there yet.
func ReserveChunks() (memory []byte, entries []flowmap.Entry, err error) {
	const size = flowmap.MaxEntries * int(unsafe.Sizeof(flowmap.Entry{}))
	memory, err = unix.Mmap(-1, 0, size, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, nil, fmt.Errorf("reserve %d bytes: %w", size, err)
	}
	return memory, unsafe.Slice((*flowmap.Entry)(unsafe.Pointer(unsafe.SliceData(memory))), flowmap.MaxEntries), nil
}

// MapChunks maps those that an array of maps holds, and makes the first. array is borrowed.
func MapChunks(array *ebpf.Map, entries []flowmap.Entry) (*Chunks, error) {
	c := &Chunks{array: array, entries: entries}
	for c.made < len(entries) {
		var chunk *ebpf.Map
		err := array.Lookup(c.next(), &chunk)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			break
		}
		if err == nil {
			err = errors.Join(c.add(chunk), chunk.Close()) // the array holds it
		}
		if err != nil {
			return nil, fmt.Errorf("%v: %w", array, err)
		}
	}
	if c.made > 0 {
		return c, nil
	}
	_, err := c.Grow()
	return c, err
}

func (c *Chunks) next() uint32 { return uint32(c.made / flowmap.ChunkEntries) }

// Made is how many entries there are.
func (c *Chunks) Made() int { return c.made }

// Grow makes a chunk and returns how many entries there are then. No key leads to one of it yet.
func (c *Chunks) Grow() (made int, err error) {
	if c.made >= len(c.entries) {
		return c.made, fmt.Errorf("%v: there are all", c.array)
	}
	m, err := ebpf.NewMap(&chunkSpec)
	if err != nil {
		return c.made, fmt.Errorf("%v: %w", c.array, err)
	}
	defer m.Close()
	if err = c.array.Update(c.next(), m, ebpf.UpdateAny); err == nil {
		err = c.add(m)
	}
	if err != nil {
		return c.made, fmt.Errorf("%v: %w", c.array, err)
	}
	return c.made, nil
}

// add maps a chunk into its place.
func (c *Chunks) add(m *ebpf.Map) error {
	const size = flowmap.ChunkEntries * unsafe.Sizeof(flowmap.Entry{})
	if _, err := unix.MmapPtr(m.FD(), 0, unsafe.Pointer(&c.entries[c.made]), size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED); err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	c.made += flowmap.ChunkEntries
	return nil
}
