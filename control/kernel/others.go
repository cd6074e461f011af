package kernel

import (
	"bytes"
	"errors"
	"os"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Another is the switch of another owner at an uplink of ours.
type Another struct {
	Owner string
	Ports [len(OthersProtos)]Ports // that it publishes, has open or has flows from
}

// OthersProtos are the protocols of Another.Ports, as flowmap.ClaimProto counts them.
var OthersProtos = [...]uint8{header.ProtoTCP, header.ProtoUDP}

// Ports has a bit for each port.
type Ports [1024]uint64

// Others are the switches of other owners that have a shield on an interface of the calling
// thread's network namespace, too.
func (k *Kernel) Others(ifindex int) (list []Another, err error) {
	own := id(k.shield)
	shields, err := hook{ifindex, ebpf.AttachTCXIngress}.ours(shieldName, func(p *ebpf.ProgramInfo) (bool, error) {
		if id, ok := p.ID(); ok && id == own {
			return false, nil
		}
		own, err := k.owned(p)
		return !own, err
	})
	if err != nil {
		return nil, err
	}
	defer closeAll(shields)
	for _, p := range shields {
		a, err := another(p)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

func another(p *ebpf.Program) (a Another, err error) {
	info, err := p.Info()
	if err != nil {
		return a, err
	}
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = a.read(m)
			m.Close()
		}
		if err != nil {
			return a, err
		}
	}
	return a, nil
}

// read takes what one of its maps says. One of another layout says nothing.
func (a *Another) read(m *ebpf.Map) error {
	info, err := m.Info()
	if err != nil {
		return err
	}
	switch info.Name {
	case ownerSpec.Name:
		var owner []byte
		if err := m.Lookup(uint32(0), &owner); err != nil {
			return err
		}
		a.Owner = string(bytes.TrimRight(owner, "\x00"))
	case programsMapVswPeers[:min(len(programsMapVswPeers), maxName)]:
		if m.KeySize() == uint32(unsafe.Sizeof(flowmap.PeerKey{})) && m.ValueSize() == 1 {
			return a.readPeers(m)
		}
	case programsMapVswOpened[:min(len(programsMapVswOpened), maxName)], programsMapVswPublished[:min(len(programsMapVswPublished), maxName)]:
		if m.MaxEntries() != flowmap.ClaimWords || m.ValueSize() != 8 {
			return nil
		}
		mem, words, err := mapWords(m)
		if err != nil {
			return err
		}
		defer unix.Munmap(mem)
		for slot := range flowmap.ClaimSlots {
			for proto := range a.Ports {
				for i, w := range words[(slot*flowmap.ClaimProtos+proto)*1024:][:1024] {
					a.Ports[proto][i] |= w
				}
			}
		}
	}
	return nil
}

func (a *Another) readPeers(m *ebpf.Map) error {
	keys, values := make([]flowmap.PeerKey, 1024), make([]uint8, 1024)
	for at := new(ebpf.MapBatchCursor); ; {
		n, err := m.BatchLookup(at, keys, values, nil)
		for _, k := range keys[:n] {
			p := k.Peer()
			if i := flowmap.ClaimProto(p.Proto); i < len(a.Ports) {
				a.Ports[i][p.Port>>6] |= 1 << (p.Port & 63)
			}
		}
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
