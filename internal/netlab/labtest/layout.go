package labtest

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/cilium/ebpf"
)

// OtherLayout has the maps that a daemon with an identity has left say that its flow table is of
// another version. Their version of claims stays as it is.
func OtherLayout(t testing.TB, identity string) {
	t.Helper()
	changed := 0
	for id := ebpf.ProgramID(0); ; {
		var err error
		if id, err = ebpf.ProgramGetNextID(id); errors.Is(err, os.ErrNotExist) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue // gone meanwhile
		}
		info, err := p.Info()
		p.Close()
		if err != nil || info.Name != "vsw_seal" {
			continue
		}
		maps := make(map[string]*ebpf.Map)
		ids, _ := info.MapIDs()
		for _, id := range ids {
			if m, err := ebpf.NewMapFromID(id); err == nil {
				if info, err := m.Info(); err == nil {
					maps[info.Name] = m
				}
				defer m.Close()
			}
		}
		var owner []byte
		if m := maps["vsw_owner"]; m == nil || m.Lookup(uint32(0), &owner) != nil || !bytes.HasPrefix(owner, []byte(identity)) {
			continue // of another daemon
		}
		if err := maps["vsw_layout"].Put(uint32(0), uint32(1<<31)); err != nil {
			t.Error(err)
		}
		changed++
	}
	if changed == 0 {
		t.Error("no seal is found")
	}
}
