package kernel

import (
	"errors"
	"os"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/vswitch/vswitch/dataplane/bpfmap"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestFlowTableLoads: every kernel that is served takes the flow table; Open goes on
// without where one does not, which nobody would notice.
func TestFlowTableLoads(t *testing.T) {
	labtest.NeedBPF(t)
	k, err := Open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if err := k.FlowTableError(); err != nil {
		t.Errorf("no flow table: %+v", err)
	}
	if k.Flows().Kind == 0 || k.DecideFD() < 0 {
		t.Error("no flow table, and no reason")
	}
}

// TestRefusedIsNotForbidden: what the verifier refuses is no want of rights, so that Open
// goes on without the flow table, and says why.
func TestRefusedIsNotForbidden(t *testing.T) {
	k := open(t)
	k.spec.Programs[programsProgVswDecide].Instructions = asm.Instructions{asm.Mov.Reg(asm.R0, asm.R5), asm.Return()}
	_, err := k.program(programsProgVswDecide)
	if !errors.Is(err, os.ErrPermission) || forbidden(err) {
		t.Errorf("forbidden %v: %v", forbidden(err), err)
	}
}

func TestNoFlowTable(t *testing.T) {
	labtest.NeedBPF(t)
	k, err := Open(Config{NoFlowTable: true})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if a, err := k.AddFlowPort(1, 1); k.Flows().Kind != 0 || k.DecideFD() >= 0 || k.FlowTableError() != nil || a != nil || err != nil {
		t.Errorf("flows %+v, filter %d, %v, tally %v, %v", k.Flows(), k.DecideFD(), k.FlowTableError(), a, err)
	}
}

// TestFlowPorts: an interface has one tally, from zero each time.
func TestFlowPorts(t *testing.T) {
	labtest.NeedBPF(t)
	k, err := Open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	a, err := k.AddFlowPort(7, 70)
	if err != nil {
		t.Fatal(err)
	}
	a.Taken = 5
	if b, err := k.AddFlowPort(7, 70); err != nil || b != a || b.Taken != 0 {
		t.Errorf("again: %p, %p, taken %d, %v", a, b, b.Taken, err)
	}
	if k.flows.tally(7) != a || k.flows.tally(8) != nil {
		t.Errorf("ports 7 and 8: %p, %p", k.flows.tally(7), k.flows.tally(8))
	}
	k.RemoveFlowPort(7)
	k.RemoveFlowPort(7)
	if k.flows.tally(7) != nil {
		t.Error("a removed port has a tally")
	}
	for i := range flowmap.MaxPorts {
		if b, err := k.AddFlowPort(100+i, i); err != nil || i == 70 && b != a {
			t.Fatalf("port %d: %v", i, err)
		}
	}
	for _, bad := range [][2]int{{99, 70}, {170, 71}, {99, -1}, {99, flowmap.MaxPorts}} {
		if _, err := k.AddFlowPort(bad[0], bad[1]); err == nil {
			t.Errorf("interface %d took tally %d", bad[0], bad[1])
		}
	}
	if k.flows.tally(170) != a || k.flows.tally(99) != nil {
		t.Error("what was refused changed something")
	}
}

func TestFlowLayout(t *testing.T) {
	for name, got := range map[string][2]uintptr{
		"row":   {unsafe.Sizeof(flowmap.Entry{}), 256},
		"key":   {unsafe.Sizeof(flowmap.Key{}), 48},
		"tally": {unsafe.Sizeof(flowmap.Tally{}), 192},
	} {
		if got[0] != got[1] {
			t.Errorf("a %s has %d bytes, want %d: whole cache lines, and what the programs put together", name, got[0], got[1])
		}
	}
}

// TestDescribesFlows: the data path opens what Flows describes, and has the programs' memory.
func TestDescribesFlows(t *testing.T) {
	f := openFlows(t, open(t))
	key := flowmap.Key{Side: 3, Proto: 6}
	if err := f.Insert(key, 9); err != nil {
		t.Fatal(err)
	}
	if err := f.Insert(key, 9); err == nil {
		t.Error("a key was entered twice")
	}
	if err := f.Delete([]flowmap.Key{key}); err != nil {
		t.Error(err)
	}
	f.Wait()
	if n := f.InJiffies(time.Second); n < 100 {
		t.Errorf("%d jiffies a second", n)
	}
}

// openFlows opens the flow table as the data path does.
func openFlows(t testing.TB, k *Kernel) bpfmap.Flows {
	t.Helper()
	d := k.Flows()
	if len(d.Entries) != flowmap.MaxEntries {
		t.Fatalf("%d entries", len(d.Entries))
	}
	f, err := bpfmap.OpenFlows(d)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// openPeers opens the maps of peers as the data path does.
func openPeers(t testing.TB, k *Kernel) bpfmap.Peers {
	t.Helper()
	p, err := bpfmap.OpenPeers(k.Peers())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// tally is that of an interface, nil when it has none.
func (f *flows) tally(ifindex uint32) *flowmap.Tally {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n, ok := f.used[ifindex]; ok {
		return &f.shared[n]
	}
	return nil
}

func (f *flows) insert(key flowmap.Key, entry uint32) error {
	return f.keys.Update(&key, entry, ebpf.UpdateNoExist)
}

func (f *flows) remove(key flowmap.Key) error { return f.keys.Delete(&key) }
