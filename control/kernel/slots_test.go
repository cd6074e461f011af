package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestSlots(t *testing.T) {
	k := open(t)
	addr := func(i int) string { return fmt.Sprintf("198.51.100.%d", i) }
	seen := map[int]bool{flowmap.WildcardSlot: true, flowmap.WildcardSlot6: true}
	for i := 1; i < flowmap.ClaimSlots-1; i++ {
		slot := mustSlot(t, k, addr(i))
		if slot < 0 || slot >= flowmap.WildcardSlot6 || seen[slot] {
			t.Fatalf("slot of %s: got %d, want one of 1-%d that is free", addr(i), slot, flowmap.WildcardSlot6-1)
		}
		seen[slot] = true
		if again := mustSlot(t, k, "::ffff:"+addr(i)); again != slot {
			t.Errorf("slot of %s: got %d as IPv4-mapped, %d before", addr(i), again, slot)
		}
	}
	slot := mustSlot(t, k, addr(7))
	if err := k.ClaimSlot(netip.MustParseAddr(addr(200)), slot); err == nil || !strings.Contains(err.Error(), addr(7)) {
		t.Errorf("slot of another: got %v, want a refusal that names it", err)
	}
	for _, bad := range []int{-1, flowmap.WildcardSlot, flowmap.WildcardSlot6, slot + 1} {
		if err := k.ClaimSlot(netip.MustParseAddr(addr(7)), bad); err == nil {
			t.Errorf("%s has slot %d beside %d", addr(7), bad, slot)
		}
	}
	below, above := slot-1, slot+1
	for _, s := range []int{below, slot, above} {
		for _, p := range []flowmap.ClaimPlane{k.Opened(), k.Published()} {
			p.Set(s, header.ProtoTCP, 0)
			p.Set(s, header.ProtoICMP, 65535)
		}
	}
	if err := k.DropSlot(netip.MustParseAddr(addr(7))); err != nil {
		t.Fatal(err)
	}
	for _, p := range []flowmap.ClaimPlane{k.Opened(), k.Published()} {
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
		if err := k.ClaimSlot(bad, slot); err == nil {
			t.Errorf("slot of %v: want a refusal", bad)
		}
	}
}

// TestFlowsOfADroppedSlot: the claims of an address's flows go with its slot, whoever has
// the slot next, and those of other slots stay.
func TestFlowsOfADroppedSlot(t *testing.T) {
	k := open(t)
	addrs := []string{"198.51.100.1", "198.51.100.2", "198.51.100.3"}
	for i, a := range addrs[:2] {
		if err := k.ClaimSlot(netip.MustParseAddr(a), i+1); err != nil {
			t.Fatal(err)
		}
	}
	peers := openPeers(t, k)
	const flows = 9000 // more than one reading of the map has
	for n := range 2 * flows {
		p := flowmap.Peer{Addr: header.AddrFrom(netip.MustParseAddr("203.0.113.9")), Slot: uint8(1 + n%2), Proto: header.ProtoUDP, Port: uint16(1000 + n/2), PeerPort: 443}
		if err := peers.Claim(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.DropSlot(netip.MustParseAddr(addrs[0])); err != nil {
		t.Fatal(err)
	}
	for _, next := range []string{addrs[2], addrs[0]} {
		if err := k.ClaimSlot(netip.MustParseAddr(next), 1); err != nil {
			t.Fatal(err)
		}
		for n := range flows {
			packet := func(to string) []byte { return eth(ip4("203.0.113.9", to, udp(443, uint16(1000+n)))) }
			if got := judge(t, k, k.shield, packet(next)); got != theirs {
				t.Fatalf("flow %d of the address before, at %s: %s", n, next, got)
			}
			if got := judge(t, k, k.shield, packet(addrs[1])); got != ours {
				t.Fatalf("flow %d of another slot: %s", n, got)
			}
		}
		if err := k.DropSlot(netip.MustParseAddr(next)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPlanesAreTheMaps reads by system call what was written to memory.
func TestPlanesAreTheMaps(t *testing.T) {
	k := open(t)
	k.Published().Set(31, header.ProtoSCTP, 65535)
	var word uint64
	if err := k.planes.published.Lookup(uint32(flowmap.ClaimWords-1), &word); err != nil || word != 1<<63 {
		t.Errorf("last word: got %#x, %v, want the top bit", word, err)
	}
	if n := len(k.Opened()); n != flowmap.ClaimWords {
		t.Errorf("masquerade: got %d words, want %d", n, flowmap.ClaimWords)
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
			p.Set(flowmap.WildcardSlot, header.ProtoTCP, uint16(port))
		}
	}
}
