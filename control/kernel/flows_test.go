package kernel

import (
	"testing"
	"unsafe"

	"github.com/vswitch/vswitch/dataplane"
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
	if k.Flows() == nil || k.DecideFD() < 0 {
		t.Error("no flow table, and no reason")
	}
}

func TestNoFlowTable(t *testing.T) {
	labtest.NeedBPF(t)
	k, err := Open(Config{NoFlowTable: true})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	if a, err := k.AddFlowPort(1); k.Flows() != nil || k.DecideFD() >= 0 || k.FlowTableError() != nil || a != nil || err != nil {
		t.Errorf("flows %v, filter %d, %v, account %v, %v", k.Flows(), k.DecideFD(), k.FlowTableError(), a, err)
	}
}

// TestFlowPorts: an interface has one account, from zero each time.
func TestFlowPorts(t *testing.T) {
	labtest.NeedBPF(t)
	k, err := Open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	a, err := k.AddFlowPort(7)
	if err != nil {
		t.Fatal(err)
	}
	a.Taken = 5
	if b, err := k.AddFlowPort(7); err != nil || b != a || b.Taken != 0 {
		t.Errorf("again: %p, %p, taken %d, %v", a, b, b.Taken, err)
	}
	if k.Flows().Port(7) != a || k.Flows().Port(8) != nil {
		t.Errorf("ports 7 and 8: %p, %p", k.Flows().Port(7), k.Flows().Port(8))
	}
	k.RemoveFlowPort(7)
	k.RemoveFlowPort(7)
	if k.Flows().Port(7) != nil {
		t.Error("a removed port has an account")
	}
	for i := range dataplane.MaxPorts {
		if _, err := k.AddFlowPort(100 + i); err != nil {
			t.Fatalf("port %d: %v", i, err)
		}
	}
	if _, err := k.AddFlowPort(99); err == nil {
		t.Error("one more than there is room for")
	}
}

func TestFlowLayout(t *testing.T) {
	for name, got := range map[string][2]uintptr{
		"row":     {unsafe.Sizeof(dataplane.FlowSlot{}), 128},
		"key":     {unsafe.Sizeof(dataplane.FlowKey{}), 56},
		"account": {unsafe.Sizeof(dataplane.FlowAccount{}), 192},
	} {
		if got[0] != got[1] {
			t.Errorf("a %s has %d bytes, want %d: whole cache lines, and what the programs put together", name, got[0], got[1])
		}
	}
}

func TestFlowKeysInsertDelete(t *testing.T) {
	labtest.NeedBPF(t)
	k, err := Open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	key := dataplane.FlowKey{Ifindex: 3, Proto: 6, Ports: [4]byte{1, 2, 3, 4}}
	if err := k.Flows().Insert(key, 9); err != nil {
		t.Fatal(err)
	}
	if err := k.Flows().Delete(key); err != nil {
		t.Error(err)
	}
	if err := k.Flows().Delete(key); err == nil {
		t.Error("deleted twice")
	}
	if len(k.Flows().Slots()) != maxFlows {
		t.Errorf("%d rows", len(k.Flows().Slots()))
	}
}
