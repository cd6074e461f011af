package doctor

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/kernel"
	"github.com/vswitch/vswitch/dataplane/port"
)

// The oldest kernel that has all that is needed.
const oldestMajor, oldestMinor = 5, 10

func (x *exam) kernel() {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		x.add(Note, "kernel", "", "uname: %v", err)
		return
	}
	x.kernelRelease(unix.ByteSliceToString(u.Release[:]))
}

func (x *exam) kernelRelease(release string) {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		x.add(Note, "kernel", "", "Linux %s: the version cannot be read", release)
		return
	}
	if major < oldestMajor || major == oldestMajor && minor < oldestMinor {
		x.add(Fail, "kernel", "run Linux 5.10 or later", "Linux %s is older than %d.%d", release, oldestMajor, oldestMinor)
		return
	}
	x.add(OK, "kernel", "", "Linux %s", release)
}

// capabilities are those that the daemon needs, by their bits.
var capabilities = []struct {
	bit  uint
	name string
	why  string
}{
	{12, "CAP_NET_ADMIN", "links and filters"},
	{13, "CAP_NET_RAW", "packet sockets"},
	{21, "CAP_SYS_ADMIN", "containers' namespaces"},
	{39, "CAP_BPF", "BPF programs"},
}

func (x *exam) rights() {
	b, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		x.add(Note, "rights", "", "%v", err)
		return
	}
	_, text, _ := strings.Cut(string(b), "\nCapEff:")
	var caps uint64
	if _, err := fmt.Sscanf(strings.TrimSpace(text), "%x", &caps); err != nil {
		x.add(Note, "rights", "", "the capabilities cannot be read: %v", err)
		return
	}
	x.capabilities(caps)
}

func (x *exam) capabilities(caps uint64) {
	before := len(x.list)
	for _, c := range capabilities {
		// CAP_SYS_ADMIN includes CAP_BPF.
		if caps&(1<<c.bit) == 0 && !(c.bit == 39 && caps&(1<<21) != 0) {
			x.add(Fail, "rights", "run as root: sudo vswitch doctor, and the daemon likewise", "%s is missing, for %s", c.name, c.why)
		}
	}
	x.fine(before, "rights", "all capabilities that a daemon needs")
}

// features tries what a daemon asks of the kernel, in a network namespace of its
// own.
func (x *exam) features() {
	before := len(x.list)
	k, err := kernel.Open(kernel.Config{})
	if err != nil {
		fix := "the kernel needs CONFIG_BPF_SYSCALL"
		if errors.Is(err, os.ErrPermission) {
			fix = "run as root outside of user namespaces: sudo vswitch doctor"
		}
		x.add(Fail, "features", fix, "BPF programs cannot be loaded: %v", err)
		return
	}
	defer k.Close()
	if err := k.FlowTableError(); err != nil {
		x.add(Note, "features", "", "the kernel cannot hold the flow table, and bulk traffic stays in the daemon: %v", err)
	}
	x.carries = k.FlowTableError() == nil
	err = apart(func() error { x.try(k); return nil })
	if err != nil {
		x.add(Note, "features", "run as root: sudo vswitch doctor", "veth, TAP and filters were not tried: %v", err)
	}
	x.fine(before, "features", "BPF, veth, cls_bpf, TCX, sk_lookup, packet rings and TAP work")
}

// checksums says who looks where a container lets a checksum be written (PACKET_VNET_HDR), which
// no field of a program's context tells: in carried flows the program proves it on every
// kernel, see control/kernel/bpf/prove.h.
func (x *exam) checksums() {
	if x.carries {
		x.add(OK, "checksums", "", "where containers let a checksum be written is proved in flows of every container that the kernel carries")
		return
	}
	x.add(OK, "checksums", "", "the kernel carries no flow, and the daemon itself finishes the checksums of containers")
}

// apart runs fn on a thread in a new network namespace, which ends with it.
func apart(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("a network namespace cannot be made: %w", err)
			return
		}
		done <- fn()
	}()
	return <-done
}

// try makes a sealed cable, opens its packet socket, shields it, steers a socket
// and opens a TAP.
func (x *exam) try(k *kernel.Kernel) {
	h, err := host.New()
	if err != nil {
		x.add(Fail, "features", "run as root in a namespace that may use netlink: sudo vswitch doctor", "netlink: %v", err)
		return
	}
	defer h.Close()
	index, err := h.AddWaitingVeth(host.VethSpec{
		Name: "vsdoctor0", Ifname: "vsdoctor1", Alias: "vswitch:doctor", MAC: []byte{2, 0, 0, 0, 0, 1}, MTU: 1500, Seal: h.FilterSeal(k.SealFD()),
	})
	if err != nil {
		x.add(Fail, "features", "modprobe veth sch_ingress cls_bpf", "a sealed veth cannot be made: %v", err)
	} else {
		x.tryCable(k, index)
	}
	if t, err := port.OpenTAP(port.TAPConfig{Name: "vsdoctor2"}); err != nil {
		x.add(Fail, "features", "modprobe tun, and give the daemon /dev/net/tun", "a TAP cannot be opened: %v", err)
	} else {
		t.Close()
	}
	if s, err := k.Steer(-1, -1, -1, -1, -1); err != nil {
		x.add(Fail, "features", "the kernel needs CONFIG_BPF_SYSCALL and Linux 5.9", "sk_lookup, which published ports on the host's own addresses need, does not work: %v", err)
	} else {
		s.Close()
	}
}

func (x *exam) tryCable(k *kernel.Kernel, index int) {
	p, err := port.OpenPacket(port.PacketConfig{Ifindex: index, Name: "vsdoctor0", Slots: 32, FilterFD: k.FilterFD()})
	if err != nil {
		x.add(Fail, "features", "the kernel needs CONFIG_PACKET", "a packet ring cannot be opened: %v", err)
	} else {
		p.Close()
	}
	err = k.ShieldUplink(index)
	switch {
	case errors.Is(err, kernel.ErrNoTCX):
		x.add(Note, "features", "Linux 6.6 has TCX", "the kernel has no TCX: the uplink is shielded by cls_bpf, and whoever removes its clsact removes the shield")
	case err != nil:
		x.add(Fail, "features", "modprobe sch_ingress cls_bpf, or run Linux 6.6, which has TCX", "an uplink cannot be shielded: %v", err)
	}
}
