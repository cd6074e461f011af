package kernel

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestVerdictOutlivesCB: a program of somebody else between the filter and the shield uses
// the five words that the kernel keeps with a packet. What the filter has decided holds all
// the same: a frame is carried once, or is the switch's, and never the host's as well.
func TestVerdictOutlivesCB(t *testing.T) { bothWays(t, testVerdictOutlivesCB) }

func testVerdictOutlivesCB(t *testing.T, u *uplink, attach func() (io.Closer, error)) {
	if _, err := attach(); err != nil {
		t.Fatal(err)
	}
	wipeCB(t, u)

	in := labtest.New(t, "in")
	if err := errors.Join(netlab.Veth(u.Host, "cable", in, "eth0", 1500), u.Host.SetUp("cable"), in.SetUp("eth0")); err != nil {
		t.Fatal(err)
	}
	cable, err := u.Host.Index("cable")
	if err != nil {
		t.Fatal(err)
	}
	tap := u.tap
	var inside int
	if err := in.Do(func() (err error) {
		inside, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0x0300)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(inside) })
	if err := unix.SetsockoptTimeval(inside, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 300_000}); err != nil {
		t.Fatal(err)
	}

	// The host would hear, and the flow is claimed.
	host, err := u.Host.ListenPacket("udp", netlab.HostAddr+":8053")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	from, err := u.Outside.DialFrom("udp", netlab.OutsideAddr+":5000", netlab.HostAddr+":8053", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	u.k.Published().Set(mustSlot(t, u.k, netlab.HostAddr), header.ProtoUDP, 8053)
	const words = "carried or not"
	if _, err := from.Write([]byte(words)); err != nil { // the neighbours know each other then
		t.Fatal(err)
	}
	first := u.await(t)
	for ; first != nil && !strings.Contains(string(first), words); first = u.await(t) {
	}
	if first == nil {
		t.Fatal("the tap got nothing")
	}
	if _, err := u.k.AddFlowPort(u.ifindex, 1); err != nil {
		t.Fatal(err)
	}
	key := *keyOf(first, programsProgVswFilter)
	row := &u.k.flows.rows[7]
	row.Begin(&flowmap.Decision{Key: key, MTU: 1500, In: uint32(u.ifindex), Out: uint32(cable), Match: [12]byte(first)})
	if err := u.k.flows.insert(key, 7); err != nil {
		t.Fatal(err)
	}
	const frames = 20
	for _, carried := range []bool{true, false, true} {
		state := uint32(flowmap.Off)
		if carried {
			state = flowmap.Active
		}
		atomic.StoreUint32(&row.State, state)
		for range frames {
			if _, err := from.Write([]byte(words)); err != nil {
				t.Fatal(err)
			}
		}
		want := map[bool]int{carried: frames}
		toSwitch, through, toHost := told(t, tap, words, want[false]), told(t, inside, words, want[true]), 0
		for b := make([]byte, 64); ; toHost++ {
			_ = host.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if _, _, err := host.ReadFrom(b); err != nil {
				break
			}
		}
		if carried && (through != frames || toSwitch != 0) || !carried && (through != 0 || toSwitch != frames) || toHost != 0 {
			t.Errorf("carried %v: of %d frames %d went through, %d came to the switch, %d to the host", carried, frames, through, toSwitch, toHost)
		}
	}
}

// told is how often a packet socket gets some words. It waits for so many, and then for more.
func told(t *testing.T, fd int, words string, want int) (n int) {
	t.Helper()
	deadline := time.Now().Add(answer)
	for b := make([]byte, 2048); ; {
		got, err := unix.Read(fd, b)
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN && (n >= want || time.Now().After(deadline)):
			return n
		case err == unix.EAGAIN:
		case err != nil:
			t.Fatal(err)
		case strings.Contains(string(b[:got]), words):
			n++
		}
	}
}

// wipeCB attaches a program that comes before ours.
func wipeCB(t *testing.T, u *uplink) {
	t.Helper()
	list := asm.Instructions{asm.Mov.Imm(asm.R0, 0)}
	for i := range int16(5) {
		list = append(list, asm.StoreMem(asm.R1, 48+4*i, asm.R0, asm.Word))
	}
	list = append(list, asm.Mov.Imm(asm.R0, -1), asm.Return()) // TC_ACT_UNSPEC: the next one decides
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "wipe_cb", Type: ebpf.SchedCLS, License: "Dual BSD/GPL", Instructions: list})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	err = u.Host.Do(func() error {
		l, err := link.AttachTCX(link.TCXOptions{Interface: u.ifindex, Program: p, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
	if errors.Is(err, ebpf.ErrNotSupported) {
		labtest.SkipOldKernel(t, 6, 6, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
}
