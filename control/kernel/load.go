package kernel

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/cilium/ebpf"

	"github.com/vswitch/vswitch/dataplane/bpfmap"
)

// The programs are in C, in bpf; make generate compiles them. The headers of an
// architecture lie in a place of their own on Debian, and the programs are the same for
// each. They take network order for the reverse of the machine's, as does amd64 and
// arm64, so there is no object for the others.
//
//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -target bpfel -no-global-types -output-stem programs programs bpf/vswitch.bpf.c -- -mcpu=v3 -Wall -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu

// bare ends the name of the variant of a program that does without the flow table.
const bare = "_bare"

// packets ends the name of the variant for interfaces that speak IP without a header of the link.
const packets = "_ip"

// spec is what the object holds, with the stamp that tells the marks of these programs
// from others, and knows the kernel's packets. To the kernel all variants of a program have its
// name.
func spec(stamp [2]uint32) (*ebpf.CollectionSpec, error) {
	s, err := loadPrograms()
	if err != nil {
		return nil, err
	}
	for name, p := range s.Programs {
		p.Name = strings.TrimSuffix(strings.TrimSuffix(name, bare), packets)
		if !fetchesAdd() {
			withoutFetch(p.Instructions)
		}
	}
	s.Maps[programsMapVswFlowEntries].InnerMap = bpfmap.ChunkSpec()
	at := packetFields()
	return s, errors.Join(s.Variables[programsVarStamp].Set(stamp), s.Variables[programsVarSkBuffAt].Set(at.sum), s.Variables[programsVarIpSummedAt].Set(at.summed))
}

// newMap makes a map as the object describes it.
func newMap(s *ebpf.CollectionSpec, name string) (*ebpf.Map, error) {
	m, err := ebpf.NewMap(s.Maps[name])
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", name, err)
	}
	return m, nil
}

// newProgram loads a program that uses the given maps.
func newProgram(s *ebpf.CollectionSpec, name string, maps ...map[string]**ebpf.Map) (*ebpf.Program, error) {
	one := &ebpf.CollectionSpec{
		Programs: map[string]*ebpf.ProgramSpec{name: s.Programs[name]},
		Maps:     map[string]*ebpf.MapSpec{rodata: s.Maps[rodata]},
		Variables: map[string]*ebpf.VariableSpec{
			programsVarStamp: s.Variables[programsVarStamp], programsVarNetnsCookie: s.Variables[programsVarNetnsCookie],
			programsVarSkBuffAt: s.Variables[programsVarSkBuffAt], programsVarIpSummedAt: s.Variables[programsVarIpSummedAt],
		},
		Types: s.Types, ByteOrder: s.ByteOrder,
	}
	use := make(map[string]*ebpf.Map)
	for _, list := range maps {
		for name, m := range list {
			one.Maps[name], use[name] = s.Maps[name], *m
		}
	}
	c, err := ebpf.NewCollectionWithOptions(one, ebpf.CollectionOptions{MapReplacements: use})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.DetachProgram(name), nil
}

// loading loads programs beside each other: the verifier takes tens of milliseconds for some.
type loading struct {
	k      *Kernel
	all    sync.WaitGroup
	errors []*error
}

// load begins with a program. It is there after wait.
func (l *loading) load(p **ebpf.Program, name string, own ...map[string]**ebpf.Map) {
	var failed error
	l.errors = append(l.errors, &failed)
	l.all.Go(func() { *p, failed = l.k.program(name, own...) })
}

// wait returns what has failed of what was begun with first.
func (l *loading) wait() error {
	l.all.Wait()
	for _, err := range l.errors {
		if *err != nil {
			return *err
		}
	}
	return nil
}

// rodata is the map of the programs' constants.
const rodata = ".rodata"
