package control

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/kernel"
	"github.com/vswitch/vswitch/control/model"
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
	err = r.world.Host.Do(func() error {
		programs, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return err
		}
		p, err := ebpf.NewProgramFromID(programs.Programs[0].ID)
		if err != nil {
			return err
		}
		defer p.Close()
		return link.RawDetachProgram(link.RawDetachProgramOptions{Target: index, Program: p, Attach: ebpf.AttachTCXIngress})
	})
	if err != nil {
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

// The seal of CNI's containers leaves the ingress qdisc of the cable to other plugins,
// stands in front of it, and stays when the daemon is killed. A cable that was sealed by
// a filter, by a daemon or kernel of before, stays so.
func TestSealOfEitherKind(t *testing.T) {
	labtest.NeedProgram(t, "tc")
	labtest.NeedBPF(t)
	if !hasTCX(t) {
		labtest.SkipOldKernel(t, 6, 6, "no TCX: there is one kind of seal")
	}
	r := newRig(t)
	r.cfg.NoTCX = true
	r.start()
	web, webct := r.attach("web", api.Attach{})
	serve(t, web, ":80", "web")
	want := func(ns *netlab.NS, ct api.Container, wantTCX bool) {
		t.Helper()
		tcx, filter := r.sealKind(ct.Endpoints[0].HostInterface)
		if tcx != wantTCX || filter == wantTCX {
			t.Errorf("%s is sealed by TCX: %v, by a filter: %v", ct.Name, tcx, filter)
		}
		r.wantSealed(ns, ct)
	}
	add := func(id string) (*netlab.NS, api.Container) {
		t.Helper()
		ns := labtest.New(t, id)
		ct, err := r.attachAs(ns, id, model.DefaultNetwork, "eth0")
		if err != nil {
			t.Fatal(err)
		}
		return ns, ct
	}
	old, oldct := add("old")
	want(old, oldct, false)
	r.kill()
	r.cfg.NoTCX = false
	r.start()
	pod, podct := add("pod")
	for range 2 {
		want(web, webct, false)
		want(old, oldct, false)
		want(pod, podct, true)
		for _, ns := range []*netlab.NS{old, pod} {
			wantFetch(t, ns, addr(webct)+":80", "web", "")
		}
		if err := r.Check(t.Context(), podct.Name); err != nil {
			t.Error(err)
		}
		r.kill()
		want(pod, podct, true)
		r.start()
	}

	veth := podct.Endpoints[0].HostInterface
	r.run("tc", "qdisc", "add", "dev", veth, "ingress")
	r.run("tc", "filter", "add", "dev", veth, "ingress", "protocol", "all", "bpf", "bytecode", "1,6 0 0 0")
	want(pod, podct, true)
	wantFetch(t, pod, addr(webct)+":80", "web", "")

	r.unseal(veth)
	if err := r.Check(t.Context(), podct.Name); err == nil || !strings.Contains(err.Error(), "lost its seal") {
		t.Errorf("check of an open cable: %v", err)
	}
	r.kill()
	r.start()
	want(pod, podct, true)
}
