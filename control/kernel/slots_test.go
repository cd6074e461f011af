package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestSlots(t *testing.T) {
	k := open(t)
	addr := func(i int) string { return fmt.Sprintf("198.51.100.%d", i) }
	seen := map[int]bool{dataplane.WildcardSlot: true, dataplane.WildcardSlot6: true}
	for i := 1; i < dataplane.ClaimSlots-1; i++ {
		slot := mustSlot(t, k, addr(i))
		if slot < 0 || slot >= dataplane.WildcardSlot6 || seen[slot] {
			t.Fatalf("slot of %s: got %d, want one of 1-%d that is free", addr(i), slot, dataplane.WildcardSlot6-1)
		}
		seen[slot] = true
		if again := mustSlot(t, k, "::ffff:"+addr(i)); again != slot {
			t.Errorf("slot of %s: got %d as IPv4-mapped, %d before", addr(i), again, slot)
		}
	}
	if _, err := k.Slot(netip.MustParseAddr(addr(200))); !errors.Is(err, ErrSlotsFull) {
		t.Errorf("one too many: got %v, want %v", err, ErrSlotsFull)
	}

	slot := mustSlot(t, k, addr(7))
	below, above := slot-1, slot+1
	for _, s := range []int{below, slot, above} {
		for _, p := range []dataplane.ClaimPlane{k.Masquerade(), k.Published()} {
			p.Set(s, header.ProtoTCP, 0)
			p.Set(s, header.ProtoICMP, 65535)
		}
	}
	if err := k.DropSlot(netip.MustParseAddr(addr(7))); err != nil {
		t.Fatal(err)
	}
	for _, p := range []dataplane.ClaimPlane{k.Masquerade(), k.Published()} {
		if p.Test(slot, header.ProtoTCP, 0) || p.Test(slot, header.ProtoICMP, 65535) {
			t.Error("claims of a dropped slot still stand")
		}
		for _, s := range []int{below, above} {
			if !p.Test(s, header.ProtoTCP, 0) || !p.Test(s, header.ProtoICMP, 65535) {
				t.Errorf("claims of slot %d went with those of slot %d", s, slot)
			}
		}
	}
	if got := mustSlot(t, k, addr(200)); got != slot {
		t.Errorf("slot after a drop: got %d, want %d again", got, slot)
	}
	if err := k.DropSlot(netip.MustParseAddr(addr(7))); err != nil {
		t.Errorf("drop of an address without a slot: %v", err)
	}
	for _, bad := range []netip.Addr{{}, netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		if _, err := k.Slot(bad); err == nil || errors.Is(err, ErrSlotsFull) {
			t.Errorf("slot of %v: got %v, want a refusal", bad, err)
		}
	}
}

// TestPlanesAreTheMaps reads by system call what was written to memory.
func TestPlanesAreTheMaps(t *testing.T) {
	k := open(t)
	k.Published().Set(31, header.ProtoSCTP, 65535)
	var word uint64
	if err := k.planes.published.Lookup(uint32(dataplane.ClaimWords-1), &word); err != nil || word != 1<<63 {
		t.Errorf("last word: got %#x, %v, want the top bit", word, err)
	}
	if n := len(k.Masquerade()); n != dataplane.ClaimWords {
		t.Errorf("masquerade: got %d words, want %d", n, dataplane.ClaimWords)
	}
}

func TestHeartbeat(t *testing.T) {
	k := open(t)
	claim(t, k)
	fd, err := k.GuardFD()
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := k.GuardFD(); again != fd {
		t.Errorf("second call: got descriptor %d, want %d", again, fd)
	}
	frame := eth(ip4(peer4, host4, tcp(5555, 8006)))
	check := func(when string, want verdict) {
		t.Helper()
		if got := judge(t, k, k.beat.guard, frame); got != want {
			t.Errorf("%s: got %s, want %s", when, got, want)
		}
	}
	check("alive", ours)
	atomic.StoreUint64(k.beat.deadline, 1) // the process was stopped for long
	check("dead", fragment)
	k.beat.extend()
	check("alive again", ours)
	for _, tt := range packetTests {
		if got := judge(t, k, k.beat.guard, tt.frame); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
}

const forbiddenEnv = "KERNEL_TEST_FORBIDDEN"

// TestForbidden opens in a user namespace, where BPF is not permitted.
func TestForbidden(t *testing.T) {
	if os.Getenv(forbiddenEnv) != "" {
		k, err := Open(Config{})
		if err == nil {
			k.Close()
		}
		if !errors.Is(err, os.ErrPermission) {
			t.Fatalf("got %v, want %v", err, os.ErrPermission)
		}
		t.Log(err)
		return
	}
	labtest.Need(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestForbidden$", "-test.v")
	cmd.Env = append(os.Environ(), forbiddenEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in a user namespace: %v\n%s", err, out)
	} else {
		t.Logf("%s", out)
	}
}

func BenchmarkPublish50000(b *testing.B) {
	k := open(b)
	p := k.Published()
	for b.Loop() {
		for port := 10000; port < 60000; port++ {
			p.Set(dataplane.WildcardSlot, header.ProtoTCP, uint16(port))
		}
	}
}
