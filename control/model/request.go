package model

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

// AttachPlan is a request that was found well formed.
type AttachPlan struct {
	Rec     state.Container
	Joins   []JoinPlan
	Publish []PublishSpec
}

// JoinPlan is one network to join.
type JoinPlan struct {
	Network string
	IPs     [2]netip.Addr // by family; invalid: the next free one
	MAC     header.MAC    // zero: derived
	Ifname  string        // "": the first free ethN
	// RuntimeNet is the runtime's name of the network.
	RuntimeNet string

	Layer2 Layer2
	Quota  Quota
	Egress string // as Egress.String writes it
	Routes []state.Route
	// Aliases are names in the network.
	Aliases []string
}

// Covers reports whether j gives all that another request to join asks for.
func (j JoinPlan) Covers(o JoinPlan) bool {
	for _, f := range Families {
		if o.IPs[f].IsValid() && o.IPs[f] != j.IPs[f] {
			return false
		}
	}
	return o.Network == j.Network && (o.Ifname == "" || o.Ifname == j.Ifname) && (o.MAC.IsZero() || o.MAC == j.MAC)
}

// CheckAttach looks at the request alone. bootID names the run of the kernel.
func CheckAttach(in api.Attach, bootID string) (p AttachPlan, err error) {
	id := NewID()
	if in.Name == "" {
		in.Name = id[:12]
	}
	if err := CheckName("container", in.Name); err != nil {
		return p, err
	}
	fail := func(format string, a ...any) (AttachPlan, error) {
		return p, Invalidf("container %s: %w", in.Name, fmt.Errorf(format, a...))
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
	p.Rec = state.Container{
		ID: id, Name: in.Name, Runtime: in.Runtime, RuntimeID: in.RuntimeID, Mode: mode, Peer: in.Peer, Netns: in.Netns, PID: in.PID, Handover: in.Handover,
		Bound: in.Ephemeral || mode != api.ModeBridge, BootID: bootID,
		Created: time.Now().UTC().Truncate(time.Millisecond),
		Labels:  in.Labels, Expose: in.Expose, Hostname: in.Hostname, Digest: digest(in),
	}
	if err := CheckLabels("container "+in.Name, in.Labels); err != nil {
		return p, err
	}
	if err := CheckRuntime(in.Runtime, in.RuntimeID); err != nil {
		return fail("%w", err)
	}
	if err := checkHostname(in.Hostname); err != nil {
		return fail("%w", err)
	}
	if p.Rec.DNS, err = checkDNS(in.DNS); err != nil {
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
	if p.Rec.Bound && in.PID == 0 {
		return fail("no process to be bound to: give its pid")
	}
	for _, s := range in.Publish {
		spec, err := ParsePublish(s)
		if err != nil {
			return fail("%w", err)
		}
		p.Publish = append(p.Publish, spec)
	}
	for _, s := range in.Expose {
		spec, err := parseExpose(s)
		if err != nil {
			return fail("%w", err)
		}
		if in.PublishAll {
			p.Publish = append(p.Publish, spec)
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
		if len(p.Publish) > 0 {
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
		jp, err := CheckJoin(j)
		if err != nil {
			return fail("%w", err)
		}
		if in.Handover && jp.Ifname != "" {
			return fail("interface name %s: the runtime that moves the interface names it: leave it out", jp.Ifname)
		}
		p.Joins = append(p.Joins, jp)
	}
	return p, nil
}

// CheckJoin looks at what a request says of one network to join.
func CheckJoin(j api.Connect) (p JoinPlan, err error) {
	p.Network, p.Ifname, p.RuntimeNet = j.Network, j.Ifname, j.RuntimeNetwork
	if len(p.RuntimeNet) > maxRuntimeID {
		return p, fmt.Errorf("runtime network %.20q... is %d bytes long: at most %d are kept", p.RuntimeNet, len(p.RuntimeNet), maxRuntimeID)
	}
	if p.Network == "" {
		p.Network = DefaultNetwork
	}
	if p.IPs, err = byFamily("address", slices.Concat(listOf(j.IP), listOf(j.IP6)), ParseAddr, addrItself); err != nil {
		return p, err
	}
	if a := p.IPs[IPv6]; j.IP6 != "" && (!a.IsValid() || a != netip.MustParseAddr(j.IP6)) {
		return p, fmt.Errorf("address %s is not IPv6: give it as --ip", j.IP6)
	}
	if p.Layer2, err = ParseLayer2(j.Guard, j.VLAN, j.Trunk); err != nil {
		return p, err
	}
	if p.Quota, err = checkQuota(j); err != nil {
		return p, err
	}
	way, err := ParseEgress(j.Egress)
	if err != nil {
		return p, err
	}
	p.Egress = way.String()
	if p.Routes, err = checkRoutes(j.Routes); err != nil {
		return p, err
	}
	if p.Aliases = j.Aliases; checkAliases(j.Aliases) != nil {
		return p, checkAliases(j.Aliases)
	}
	if j.MAC != "" {
		if p.MAC, err = parseMAC(j.MAC); err != nil {
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

// maxRuntimeID is what a runtime's identifier may have: runc and crun use it as
// the name of a directory (NAME_MAX).
const maxRuntimeID = 255

// CheckRuntime accepts a word and an identifier, both or neither.
func CheckRuntime(runtime, id string) error {
	if (runtime == "") != (id == "") {
		return Invalidf("runtime %q and runtime id %q: give both or neither", runtime, id)
	}
	for i, b := range []byte(runtime) {
		if !(b >= 'a' && b <= 'z' || i > 0 && (b >= '0' && b <= '9' || b == '-')) || len(runtime) > maxName {
			return Invalidf("runtime %.20q: use a short word of a-z, 0-9 and -", runtime)
		}
	}
	if len(id) > maxRuntimeID {
		return Invalidf("runtime id %.20q... is %d bytes long: at most %d are kept", id, len(id), maxRuntimeID)
	}
	for _, b := range []byte(id) {
		if b <= ' ' || b >= 0x7f || b == '/' {
			return Invalidf("runtime id %.40q: use printable ASCII without blanks and /", id)
		}
	}
	return nil
}

// DefaultNetwork is the network of containers that name none. It cannot be
// removed.
const DefaultNetwork = "bridge"
