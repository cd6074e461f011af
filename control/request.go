package control

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane/header"
)

// attachPlan is a request that was found well formed.
type attachPlan struct {
	rec     state.Container
	joins   []joinPlan
	publish []PublishSpec
}

// joinPlan is one network to join.
type joinPlan struct {
	network string
	ips     [2]netip.Addr // by family; invalid: the next free one
	mac     header.MAC    // zero: derived
	ifname  string        // "": the first free ethN
	// runtimeNet is the runtime's name of the network.
	runtimeNet string

	layer2 layer2
	quota  quota
	routes []state.Route
}

// checkAttach looks at the request alone.
func (c *Controller) checkAttach(in api.Attach) (p attachPlan, err error) {
	id := newID()
	if in.Name == "" {
		in.Name = id[:12]
	}
	if err := checkName("container", in.Name); err != nil {
		return p, err
	}
	fail := func(format string, a ...any) (attachPlan, error) {
		return p, invalidf("container %s: %w", in.Name, fmt.Errorf(format, a...))
	}
	mode := in.Mode
	if mode == "" {
		mode = api.ModeBridge
	}
	switch mode {
	case api.ModeBridge, api.ModeHost, api.ModeNone, api.ModeContainer:
	default:
		return fail("mode %q: use bridge, host, none or container", mode)
	}
	p.rec = state.Container{
		ID: id, Name: in.Name, Runtime: in.Runtime, RuntimeID: in.RuntimeID, Mode: mode, Peer: in.Peer, Netns: in.Netns, PID: in.PID, Handover: in.Handover,
		Bound: in.Ephemeral || mode != api.ModeBridge, BootID: c.bootID,
		Created: time.Now().UTC().Truncate(time.Millisecond),
		Labels:  in.Labels, Expose: in.Expose, Digest: digest(in),
	}
	if err := checkLabels("container "+in.Name, in.Labels); err != nil {
		return p, err
	}
	if err := checkRuntime(in.Runtime, in.RuntimeID); err != nil {
		return fail("%w", err)
	}
	if in.Netns != "" && in.PID != 0 && !in.Ephemeral {
		return fail("a namespace path and a process are given: leave one out")
	}
	if in.Handover && (in.Netns != "" || in.PID != 0 || mode != api.ModeBridge) {
		return fail("a namespace, a process or a mode is given for interfaces that wait for their runtime: leave it out")
	}
	if in.PID < 0 {
		return fail("process %d: a process number is positive", in.PID)
	}
	if p.rec.Bound && in.PID == 0 {
		return fail("no process to be bound to: give its pid")
	}
	for _, s := range in.Publish {
		spec, err := ParsePublish(s)
		if err != nil {
			return fail("%w", err)
		}
		p.publish = append(p.publish, spec)
	}
	for _, s := range in.Expose {
		spec, err := ParseExpose(s)
		if err != nil {
			return fail("%w", err)
		}
		if in.PublishAll {
			p.publish = append(p.publish, spec)
		}
	}
	switch mode {
	case api.ModeBridge:
		if in.Netns == "" && in.PID == 0 && !in.Handover {
			return fail("no namespace: give --netns PATH or --pid N")
		}
		if in.Peer != "" {
			return fail("a peer is for mode container: leave it out")
		}
	case api.ModeHost, api.ModeNone, api.ModeContainer:
		if len(in.Networks) > 0 {
			return fail("--network %s joins no other network: leave them out", mode)
		}
		if len(p.publish) > 0 {
			return fail("ports cannot be published with --network %s: leave -p and -P out", mode)
		}
		if (in.Peer != "") != (mode == api.ModeContainer) {
			return fail("--network container:NAME needs a container's name, the other modes none")
		}
		return p, nil
	}
	joins := in.Networks
	if len(joins) == 0 {
		joins = []api.Connect{{Network: DefaultNetwork}}
	}
	for _, j := range joins {
		jp, err := checkJoin(j)
		if err != nil {
			return fail("%w", err)
		}
		if in.Handover && jp.ifname != "" {
			return fail("interface name %s: the runtime that moves the interface names it: leave it out", jp.ifname)
		}
		p.joins = append(p.joins, jp)
	}
	return p, nil
}

func checkJoin(j api.Connect) (p joinPlan, err error) {
	p.network, p.ifname, p.runtimeNet = j.Network, j.Ifname, j.RuntimeNetwork
	if len(p.runtimeNet) > maxRuntimeID {
		return p, fmt.Errorf("runtime network %.20q... is %d bytes long: at most %d are kept", p.runtimeNet, len(p.runtimeNet), maxRuntimeID)
	}
	if p.network == "" {
		p.network = DefaultNetwork
	}
	if p.ips, err = byFamily("address", slices.Concat(listOf(j.IP), listOf(j.IP6)), parseAddr, addrItself); err != nil {
		return p, err
	}
	if a := p.ips[ipv6]; j.IP6 != "" && (!a.IsValid() || a != netip.MustParseAddr(j.IP6)) {
		return p, fmt.Errorf("address %s is not IPv6: give it as --ip", j.IP6)
	}
	if p.layer2, err = parseLayer2(j.Guard, j.VLAN, j.Trunk); err != nil {
		return p, err
	}
	if p.quota, err = checkQuota(j); err != nil {
		return p, err
	}
	if p.routes, err = checkRoutes(j.Routes); err != nil {
		return p, err
	}
	if j.MAC != "" {
		if p.mac, err = parseMAC(j.MAC); err != nil {
			return p, err
		}
	}
	if j.Ifname != "" {
		err = checkIfname(j.Ifname)
	}
	return p, err
}

// digest recognises a repeated request. The namespace is compared by its
// identity, not by the path or process that named it.
func digest(in api.Attach) string {
	in.Netns = ""
	if in.Mode == "" {
		in.Mode = api.ModeBridge
	}
	if in.Mode == api.ModeBridge && !in.Ephemeral {
		in.PID = 0
	}
	b, _ := json.Marshal(in) // strings, numbers and maps with sorted keys: cannot fail
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
