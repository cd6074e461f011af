package kernel

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/bpfmap"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Kernel is the set of loaded programs and maps of one switch. All methods are
// safe for concurrent use.
type Kernel struct {
	holder   Holder // nil: the programs are loaded by each process
	edition  string
	stamp    stamp // of the programs
	maxPeers int   // see Config.MaxFlows
	adopted  bool  // the programs of a process before

	specMu sync.Mutex           // guards what follows; see object
	spec   *ebpf.CollectionSpec // nil: nobody has asked for it

	planes               *planes
	opened, publish      flowmap.ClaimPlane
	memory               [][]byte
	flows                *flows // nil: no flow table
	flowTableError       error
	seal, filter, shield *ebpf.Program
	enter                *enter
	forwarded            *ebpf.Program
	decide, host         *ebpf.Program // nil without a flow table
	living               *living       // likewise
	owner                string        // of the shields
	bound                *boundPorts   // in the memory of the programs

	recounting sync.Mutex // guards what follows
	differ     map[udpPort]recount
	unused     map[uint16]uint32 // notes of TCP ports that nobody had last

	goesOn bool // see GoesOn

	mu      sync.Mutex // guards what follows
	packets *Packets   // nil: nobody has asked for them
	slots   map[header.Addr]int
	// Of a process before, until somebody claims them again or Settle.
	leftSlots   map[header.Addr]int
	leftSubnets map[flowmap.SubnetKey]bool
	binds       *binds // nil: nobody hears of ports when they are bound
}

// errNotPermitted hides the library's advice about RLIMIT_MEMLOCK, which is raised
// already.
var errNotPermitted error = notPermitted{}

type notPermitted struct{}

func (notPermitted) Error() string {
	return "bpf is not permitted: run as root outside of user namespaces, or with CAP_BPF and CAP_NET_ADMIN"
}

func (notPermitted) Unwrap() error { return os.ErrPermission }

// Config says what Open loads.
type Config struct {
	// NoFlowTable leaves the flow table out: every frame is the daemon's.
	NoFlowTable bool
	// MaxFlows is how many flows may hold claims at a time, 0: flowmap.MaxPeers.
	MaxFlows int
	// Left are the numbers of programs that a process before may have left. The maps of the
	// first that is a seal of Owner are used on, as far as they are of this layout. See SetOwner.
	Left  []uint32
	Owner string
	// Holder, if not nil, has the programs of a process before, which are used on if they are of
	// this edition and owner. It gets those that are loaded.
	Holder Holder
}

// Open loads maps and programs. The flow table is left out where the kernel cannot
// load it, too; FlowTableError then says why. Without the right to use BPF (CAP_BPF and
// CAP_NET_ADMIN of the initial user namespace) the error is os.ErrPermission.
func Open(cfg Config) (*Kernel, error) {
	// Before Linux 5.11 maps count as locked memory. A failure shows below.
	_ = rlimit.RemoveMemlock()
	k, err := begin(cfg, !cfg.NoFlowTable)
	if err != nil && !cfg.NoFlowTable && !forbidden(err) {
		why := err
		if k, err = begin(cfg, false); err == nil {
			k.flowTableError = why
		}
	}
	if err != nil {
		if forbidden(err) {
			return nil, errNotPermitted
		}
		return nil, fmt.Errorf("bpf: %w", err)
	}
	return k, nil
}

// begin goes on with the programs that were kept, or loads them.
func begin(cfg Config, withFlows bool) (*Kernel, error) {
	with := func(open func(*Kernel) error) (*Kernel, error) {
		k := &Kernel{slots: make(map[header.Addr]int), holder: cfg.Holder, edition: cfg.edition(withFlows), maxPeers: cfg.MaxFlows}
		err := open(k)
		if err == nil {
			err = k.begin()
		}
		if err != nil {
			_ = k.Close()
			return nil, err
		}
		return k, nil
	}
	if cfg.Holder != nil {
		if k, err := with(func(k *Kernel) error { return k.adopt(cfg, withFlows) }); err == nil {
			return k, nil
		}
	}
	return with(func(k *Kernel) error { return k.load(cfg, withFlows) })
}

// Allowed is an error that is os.ErrPermission where Open would return one.
func Allowed() error {
	_ = rlimit.RemoveMemlock()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil && forbidden(err) {
		return errNotPermitted
	}
	p.Close() // a nil program is allowed
	return nil
}

// forbidden says whether an error is for want of rights. The verifier refuses programs with
// EACCES, too, and says why.
func forbidden(err error) bool {
	var refused *ebpf.VerifierError
	return errors.Is(err, os.ErrPermission) && (!errors.As(err, &refused) || len(refused.Log) == 0)
}

func (k *Kernel) load(cfg Config, withFlows bool) (err error) {
	k.stamp = newStamp()
	if k.spec, err = spec(k.stamp); err != nil {
		return err
	}
	before, err := openLeft(k.spec, cfg.Left, cfg.Owner)
	if err != nil {
		return err
	}
	defer before.close()
	if withFlows {
		if k.flows, err = loadFlows(k.spec, before); err != nil {
			return err
		}
		if k.living, err = openLiving(k.spec); err != nil {
			return err
		}
	}
	if k.planes, err = newPlanes(k.spec, cfg.MaxFlows, before); err != nil {
		return err
	}
	// The seal first: unlike maps and socket filters, tc programs need
	// privileges everywhere, so a lack of them shows as such.
	programs := &loading{k: k}
	programs.load(&k.seal, k.variant(programsProgVswSeal))
	programs.load(&k.forwarded, k.variant(programsProgVswForwarded))
	programs.load(&k.filter, k.variant(programsProgVswFilter))
	programs.load(&k.shield, k.variant(programsProgVswShield))
	if k.flows != nil {
		programs.load(&k.decide, programsProgVswDecide)
		programs.load(&k.host, programsProgVswHost, k.living.maps())
		programs.load(&k.living.there, programsProgVswThere)
		programs.load(&k.living.drop, programsProgVswSeal+bare)
	}
	if err = programs.wait(); err != nil {
		return err
	}
	if k.living != nil {
		if err = k.living.fill(); err != nil {
			return err
		}
	}
	k.goesOn = before != nil && (k.flows == nil || k.flows.goesOn)
	if before != nil {
		if err = k.readLeft(); err != nil {
			return err
		}
	}
	k.enter, err = newEnter(k.spec, k.filter)
	return err
}

// begin maps what the process shares with its programs into memory.
func (k *Kernel) begin() (err error) {
	if k.opened, err = k.mapWords(k.planes.opened); err != nil {
		return err
	}
	if k.publish, err = k.mapWords(k.planes.published); err != nil {
		return err
	}
	return k.mapBound()
}

// object is what the programs are loaded from.
func (k *Kernel) object() (_ *ebpf.CollectionSpec, err error) {
	k.specMu.Lock()
	defer k.specMu.Unlock()
	if k.spec != nil {
		return k.spec, nil
	}
	s, err := spec(k.stamp)
	if err != nil {
		return nil, err
	}
	roomFor(s, k.maxPeers)
	k.spec = s
	return s, nil
}

// variant is the name of a program that does with or without a flow table.
func (k *Kernel) variant(name string) string {
	if k.flows == nil {
		return name + bare
	}
	return name
}

// program loads a program with the maps that there are, and one that only it has.
func (k *Kernel) program(name string, own ...map[string]**ebpf.Map) (*ebpf.Program, error) {
	s, err := k.object()
	if err != nil {
		return nil, err
	}
	if k.flows != nil {
		own = append(own, k.flows.all())
	}
	if k.planes != nil {
		own = append(own, k.planes.all())
	}
	return newProgram(s, name, own...)
}

func (k *Kernel) mapWords(m *ebpf.Map) ([]uint64, error) {
	mem, words, err := mapWords(m)
	if err == nil {
		k.memory = append(k.memory, mem)
	}
	return words, err
}

// Close frees the programs and maps. What is attached to an interface keeps its own; a
// socket with the filter accepts nothing any more. The planes must not be touched
// afterwards.
func (k *Kernel) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.binds != nil {
		k.binds.close()
		k.binds = nil
	}
	for _, p := range []*ebpf.Program{k.seal, k.decide, k.host, k.forwarded, k.filter, k.shield} {
		p.Close() // a nil program is allowed
	}
	if k.enter != nil {
		k.enter.close()
	}
	k.packets.close()
	k.packets = nil
	k.living.close()
	if k.planes != nil {
		k.planes.close()
	}
	if k.flows != nil {
		k.flows.close()
	}
	var err error
	for _, mem := range k.memory {
		err = errors.Join(err, unix.Munmap(mem))
	}
	k.memory, k.opened, k.publish, k.bound = nil, nil, nil, nil
	return err
}

// FlowTableError is why the kernel could not load the flow table, nil when it did or
// was not asked to.
func (k *Kernel) FlowTableError() error { return k.flowTableError }

// SealFD is the tc program (direct action) that keeps every packet from the host's
// stack, for where Seal is not supported. It is borrowed until Close.
func (k *Kernel) SealFD() int { return k.seal.FD() }

// SealID is the kernel's number of it.
func (k *Kernel) SealID() uint32 { return uint32(id(k.seal)) }

// FilterFD is the socket filter (SO_ATTACH_BPF) that accepts what is ours and
// every later fragment of a packet to an address with a slot. Frames must start
// with an Ethernet header (SOCK_RAW). It is borrowed until Close.
func (k *Kernel) FilterFD() int { return k.enter.program.FD() }

// Opened is the plane of masquerade mappings that are open to strangers, in the memory
// the programs read. It is borrowed until Close.
func (k *Kernel) Opened() flowmap.ClaimPlane { return k.opened }

// Peers is the maps of claimed peers and of strangers, borrowed until Close.
func (k *Kernel) Peers() bpfmap.PeerDescriptor {
	return bpfmap.PeerDescriptor{Kind: bpfmap.KindKernel, Claimed: k.planes.peers.FD(), Strangers: k.planes.strangers.FD()}
}

// Published is the plane of published ports, in the memory the programs read.
// It is borrowed until Close.
func (k *Kernel) Published() flowmap.ClaimPlane { return k.publish }
