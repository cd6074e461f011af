package kernel

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Kernel is the set of loaded programs and maps of one switch. All methods are
// safe for concurrent use.
type Kernel struct {
	planes              *planes
	masquerade, publish dataplane.ClaimPlane
	memory              [][]byte
	flows               *flows // nil: no flow table
	flowTableError      error
	seal, filter, guard *ebpf.Program
	decide, host        *ebpf.Program // nil without a flow table

	mu    sync.Mutex // guards what follows
	slots map[header.Addr]int
	beat  *heartbeat // nil until GuardFD or HostFD
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
}

// Open loads maps and programs. The flow table is left out where the kernel cannot
// load it, too; FlowTableError then says why. Without the right to use BPF (CAP_BPF and
// CAP_NET_ADMIN of the initial user namespace) the error is os.ErrPermission.
func Open(cfg Config) (*Kernel, error) {
	// Before Linux 5.11 maps count as locked memory. A failure shows below.
	_ = rlimit.RemoveMemlock()
	k := &Kernel{slots: make(map[header.Addr]int)}
	err := k.load(!cfg.NoFlowTable)
	if err != nil && !cfg.NoFlowTable && !errors.Is(err, os.ErrPermission) {
		_ = k.Close()
		k = &Kernel{slots: make(map[header.Addr]int), flowTableError: err}
		err = k.load(false)
	}
	if err != nil {
		_ = k.Close()
		if errors.Is(err, os.ErrPermission) {
			return nil, errNotPermitted
		}
		return nil, fmt.Errorf("bpf: %w", err)
	}
	return k, nil
}

func (k *Kernel) load(withFlows bool) (err error) {
	// The seal first: unlike maps and socket filters, tc programs need
	// privileges everywhere, so a lack of them shows as such.
	if withFlows {
		if k.flows, err = newFlows(); err != nil {
			return err
		}
	}
	if k.seal, err = ebpf.NewProgram(sealProgram(k.flows)); err != nil {
		return err
	}
	if k.flows != nil {
		if k.decide, err = ebpf.NewProgram(decideProgram(k.flows)); err != nil {
			return err
		}
		if k.host, err = ebpf.NewProgram(hostProgram(k.flows, nil)); err != nil {
			return err
		}
	}
	if k.planes, err = newPlanes(); err != nil {
		return err
	}
	if k.masquerade, err = k.mapWords(k.planes.masquerade); err != nil {
		return err
	}
	if k.publish, err = k.mapWords(k.planes.published); err != nil {
		return err
	}
	if k.filter, err = ebpf.NewProgram(filterProgram(k.planes, k.flows)); err != nil {
		return err
	}
	k.guard, err = ebpf.NewProgram(guardProgram(k.planes, k.flows, nil))
	return err
}

func (k *Kernel) mapWords(m *ebpf.Map) ([]uint64, error) {
	mem, words, err := mapWords(m)
	if err == nil {
		k.memory = append(k.memory, mem)
	}
	return words, err
}

// Close frees the programs and maps. What still holds one of them, an attached
// guard or a socket with the filter, keeps it until it is closed itself. The
// planes must not be touched afterwards.
func (k *Kernel) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.beat != nil {
		k.beat.close()
		k.beat = nil
	}
	for _, p := range []*ebpf.Program{k.seal, k.decide, k.host, k.filter, k.guard} {
		p.Close() // a nil program is allowed
	}
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
	k.memory, k.masquerade, k.publish = nil, nil, nil
	return err
}

// FlowTableError is why the kernel could not load the flow table, nil when it did or
// was not asked to.
func (k *Kernel) FlowTableError() error { return k.flowTableError }

// SealFD is the tc program (direct action) that keeps every packet from the host's
// stack, for where Seal is not supported. It is borrowed until Close.
func (k *Kernel) SealFD() int { return k.seal.FD() }

// FilterFD is the socket filter (SO_ATTACH_BPF) that accepts what is ours and
// every later fragment of a packet to an address with a slot. Frames must start
// with an Ethernet header (SOCK_RAW). It is borrowed until Close.
func (k *Kernel) FilterFD() int { return k.filter.FD() }

// Masquerade is the plane of live masquerade mappings, in the memory the
// programs read. It is borrowed until Close.
func (k *Kernel) Masquerade() dataplane.ClaimPlane { return k.masquerade }

// Published is the plane of published ports, in the memory the programs read.
// It is borrowed until Close.
func (k *Kernel) Published() dataplane.ClaimPlane { return k.publish }
