package control

import (
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/kernel"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// unseal removes the seal of a cable, whatever it is.
func (r *rig) unseal(veth string) {
	r.t.Helper()
	index, err := r.world.Host.Index(veth)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, filter := r.sealKind(veth); filter {
		r.run("tc", "qdisc", "del", "dev", veth, "clsact")
		return
	}
	if err := r.world.Host.Do(func() error { return kernel.Seal{}.Detach(index) }); err != nil {
		r.t.Fatal(err)
	}
}

// sealKind is how a cable is sealed.
func (r *rig) sealKind(veth string) (tcx, filter bool) {
	r.t.Helper()
	index, err := r.world.Host.Index(veth)
	if err != nil {
		r.t.Fatal(err)
	}
	err = r.world.Host.Do(func() (err error) {
		tcx, err = kernel.Seal{}.Attached(index)
		return err
	})
	if err != nil && hasTCX(r.t) {
		r.t.Fatal(err)
	}
	out, err := r.world.Host.Command("tc", "filter", "show", "dev", veth, "ingress").CombinedOutput()
	return tcx, err == nil && strings.Contains(string(out), "vswitch_seal")
}

// wantSealed sends what the host's stack would take from an open cable.
func (r *rig) wantSealed(ns *netlab.NS, ct api.Container) {
	r.t.Helper()
	veth, err := header.ParseMAC(hostMAC(r.t, r, ct.Endpoints[0].HostInterface))
	if err != nil {
		r.t.Fatal(err)
	}
	before := nstat(r.t, r.world.Host)
	for range 10 {
		inject(r.t, ns, "eth0", switchtest.Bytes(switchtest.Packet{
			EthSrc: ownMAC(r.t, ns, "eth0"), EthDst: veth, Src: addr(ct) + ":5000", Dst: netlab.HostAddr + ":7000", Proto: header.ProtoUDP,
		}))
	}
	wantUnchanged(r.t, before, nstat(r.t, r.world.Host), "IpInReceives", "IpInDelivers")
}

// The seal leaves the ingress qdisc of a cable to others, stands in front of it, and
// stays when the daemon is killed. A daemon of before, or an older kernel, has sealed by
// a filter: the next start changes that, either way.
func TestSealOfEitherKind(t *testing.T) {
	labtest.NeedProgram(t, "tc")
	labtest.NeedBPF(t)
	if !hasTCX(t) {
		t.Skip("the kernel has no TCX (Linux 6.6): there is one kind of seal")
	}
	r := newRig(t)
	r.cfg.NoTCX = true
	r.start()
	c1, ct := r.attach("c1", api.Attach{})
	c2, ct2 := r.attach("c2", api.Attach{})
	serve(t, c2, ":80", "c2")
	veth := ct.Endpoints[0].HostInterface
	want := func(wantTCX, wantFilter bool) {
		t.Helper()
		if tcx, filter := r.sealKind(veth); tcx != wantTCX || filter != wantFilter {
			t.Errorf("sealed by TCX: %v, by a filter: %v", tcx, filter)
		}
		r.wantSealed(c1, ct)
	}
	want(false, true)
	for _, noTCX := range []bool{false, true, false} {
		r.kill()
		want(noTCX, !noTCX) // still that of the process that died
		r.cfg.NoTCX = noTCX
		r.start()
		want(!noTCX, noTCX)
		wantFetch(t, c1, addr(ct2)+":80", "c2", addr(ct))
		if err := r.Check(t.Context(), "c1"); err != nil {
			t.Error(err)
		}
	}
	if out := command(t, r.world.Host, "tc", "qdisc", "show", "dev", veth); strings.Contains(out, "clsact") {
		t.Errorf("the clsact of the filter is still there:\n%s", out)
	}
	r.run("tc", "qdisc", "add", "dev", veth, "ingress")
	r.run("tc", "filter", "add", "dev", veth, "ingress", "protocol", "all", "bpf", "bytecode", "1,6 0 0 0")
	want(true, false)
	wantFetch(t, c1, addr(ct2)+":80", "c2", addr(ct))

	r.unseal(veth)
	if err := r.Check(t.Context(), "c1"); err == nil || !strings.Contains(err.Error(), "lost its seal") {
		t.Errorf("check of an open cable: %v", err)
	}
	r.kill()
	r.start()
	want(true, false)
}
