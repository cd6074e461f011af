package observe

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
)

// probeHost is a packet of the host's own: to a container, or to one of its own addresses.
func (d prober) probeHost(to whyTarget) (p *probe, stuck string, err error) {
	if to.name != "" {
		if to.addr, err = d.addrOf(to.name, nil); err != nil {
			return nil, "", err
		}
	}
	p = &probe{from: directory.HostName, dst: to, hopLimit: 64}
	if d.own(to.addr) {
		return p, "", nil
	}
	f := model.FamilyOf(to.addr)
	for n := range d.Networks() {
		s := n.Subnet(f)
		if s == nil || !s.Prefix.Contains(to.addr) {
			continue
		}
		if s.Isolated {
			return p, fmt.Sprintf("the gateway of network %s is isolated: the host is not in it", n.Name), nil
		}
		p.fromGateway(n, s)
		return p, "", nil
	}
	return p, "", nil
}

// fromGateway is where a packet of the host's own comes in that goes to a network.
func (p *probe) fromGateway(n *directory.Network, s *directory.Subnet) {
	p.in, p.srcMAC, p.network = n.Port, n.MAC, n.Name
	p.src = netip.AddrPortFrom(s.Gateway, ephemeral())
	if mac, ok := groupMAC(p.dst.addr, s); ok {
		p.dstMAC = mac
	} else {
		p.resolve = p.dst.addr
	}
	p.from = fmt.Sprintf("host (%s, %s)", s.Gateway, n.TAP)
}

// own reports whether packets of the host to an address stay in the host.
func (d prober) own(a netip.Addr) bool {
	name, _ := d.Name(a)
	return a.IsLoopback() || name == directory.HostName
}

// whyOwn is the way of a packet of the host's own that does not come to the switch as it
// is: to a published port, to the host's own service, or to somewhere that the host's routes lead to.
func (o *Observer) whyOwn(ctx context.Context, d prober, p *probe) (out api.Why, err error) {
	out = api.Why{From: p.from, To: p.dst.text(), Steps: []api.WhyStep{}}
	tell := func(stage, table, format string, a ...any) {
		out.Steps = append(out.Steps, api.WhyStep{Stage: stage, Table: table, Text: fmt.Sprintf(format, a...)})
	}
	if !d.own(p.dst.addr) {
		tell("host", "routes", "%s is in none of the networks: the host's own routes lead there", p.dst.addr)
		out.Verdict, out.Explanation = api.VerdictHost, "the switch takes no part: ip route get "+p.dst.addr.String()+" says by which interface the host sends"
		if directed(d.Directory, p.dst.addr) {
			out.Explanation = "the switch takes no part: a broadcast reaches the stations of one link, and is not forwarded to containers"
		}
		return out, nil
	}
	tell("host", "routes", "%s is the host's own: the packet leaves by no interface", p.dst.addr)
	to, published := netip.AddrPort{}, false
	if o.led != nil && p.dst.port != 0 {
		to, published = o.led(p.dst.proto, netip.AddrPortFrom(p.dst.addr, p.dst.port))
	}
	if !published {
		tell("steer", "published ports", "%s is not published", p.dst.where())
		out.Verdict = api.VerdictHost
		out.Explanation, out.Fix = ownService(p.dst)
		return out, nil
	}
	owner, _ := d.Name(to.Addr())
	inside := *p
	inside.dst.name, inside.dst.addr, inside.dst.port = owner, to.Addr(), to.Port()
	for n := range d.Networks() {
		if s := n.Subnet(model.FamilyOf(to.Addr())); s != nil && s.Prefix.Contains(to.Addr()) {
			inside.fromGateway(n, s)
		}
	}
	if !inside.src.IsValid() {
		return out, model.Conflictf("container %s is just being attached: ask again", owner)
	}
	if why := o.whyRelayed(p.dst.addr, to.Addr()); why != "" {
		tell("steer", "published ports", "%s leads to %s: sk_lookup hands it to the relay, not to a socket of the host (%s)", p.dst.where(), owner, why)
		tell("relay", "relay", "connects to %s from %s, by the device of network %s, and copies both ways", to, inside.src.Addr(), inside.network)
	} else {
		tell("connect", "published ports", "%s leads to %s: what a program connects or sends there goes to %s itself, from %s, by the device of network %s", p.dst.where(), owner, to, inside.src.Addr(), inside.network)
		tell("relay", "relay", "takes no part, unless the socket is bound to loopback or to an interface, has a mark, or is older than the hooks: then it connects to the same in its place")
	}
	rest, err := o.walk(d, &inside)
	if err != nil {
		return out, err
	}
	rest.From, rest.To, rest.Steps = out.From, out.To, append(out.Steps, rest.Steps...)
	return rest, nil
}

// whyRelayed is why a connection of the host to a published port at an address is relayed to the
// container's, "" where it is made to that (ADR 41).
func (o *Observer) whyRelayed(at, to netip.Addr) string {
	if at.Is4() != to.Is4() {
		return fmt.Sprintf("from %s to %s, as the container has no %[1]s address", model.FamilyOf(at), model.FamilyOf(to))
	}
	if o.relayed == nil {
		return "the daemon leads no connections"
	}
	if err := o.relayed(); err != nil {
		return err.Error()
	}
	return ""
}

// where is the target's port as it is published.
func (t *whyTarget) where() string {
	if t.port == 0 {
		return "a ping"
	}
	return fmt.Sprintf("%s/%s", netip.AddrPortFrom(t.addr, t.port), model.ProtoName(t.proto))
}

// ownService says what is next for a packet to the host that is nobody else's.
func ownService(t whyTarget) (explanation, fix string) {
	if t.port == 0 {
		return "the host's own stack answers a ping, where its firewall and net.ipv4.icmp_echo_ignore_all let it", ""
	}
	return "the host's own stack decides about it: a service must listen there, and the host's firewall let it in",
		fmt.Sprintf("if a container is meant, publish its port: vswitch port add CONTAINER %d:PORT/%s", t.port, model.ProtoName(t.proto))
}

// whyUnclaimed mends what was told of a packet from outside that the switch would drop as
// nobody's: it does not even get it. What no claim names the programs on the uplink leave
// to the host's own stack.
func whyUnclaimed(d prober, out *api.Why, p *probe, ex *dataplane.Explanation) {
	group := p.dst.addr.IsMulticast() || directed(d.Directory, p.dst.addr)
	forHost := ex.Reason == dataplane.DropUnclaimed && d.own(p.dst.addr) || group && (ex.Reason == dataplane.DropUnclaimed || ex.Reason == dataplane.DropMartian)
	if p.ct != "" || p.network != "" || !forHost {
		return
	}
	out.Steps = []api.WhyStep{{
		Stage: "shield", Table: "claims",
		Text: fmt.Sprintf("%s is neither a published port nor an answer to a container: the packet goes on to the host's stack", p.dst.where()),
	}}
	out.Verdict, out.Reason, out.Rule, out.Output = api.VerdictHost, "", "", directory.HostName
	out.Explanation, out.Fix = ownService(p.dst)
	if group {
		out.Explanation, out.Fix = "what is for all stations of a link is for the host as one of them, and is not forwarded to containers", ""
	}
}

// directed reports whether an address is the broadcast of a link that the host is on.
func directed(d *directory.Directory, a netip.Addr) bool {
	if a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return true
	}
	is := func(p netip.Prefix) bool {
		return a.Is4() && p.Bits() < 31 && p.Contains(a) && a == model.LastAddr(p.Masked())
	}
	for n := range d.Networks() {
		if s := n.Subnet(model.IPv4); s != nil && is(s.Prefix) {
			return true
		}
	}
	return slices.ContainsFunc(d.Uplinks(), func(u directory.Uplink) bool { return slices.ContainsFunc(u.Addrs, is) })
}

// whyGroup says of a packet for many stations how far it goes.
func whyGroup(d *directory.Directory, out *api.Why, p *probe) {
	switch {
	case p.network == "" && p.ct == "" && p.dstMAC == header.Broadcast && out.Verdict == api.VerdictSent:
		out.Explanation = "a broadcast of the link to a port that is published at every address: the container hears it, and the host's stack as well"
	case out.Verdict != api.VerdictFlooded && out.Verdict != api.VerdictSent && out.Verdict != api.VerdictHost, p.network == "":
	case p.dstMAC == header.Broadcast:
		out.Explanation = fmt.Sprintf("a broadcast reaches the stations of network %s, and is not forwarded to any other", p.network)
	case p.dst.addr.IsMulticast():
		out.Explanation = fmt.Sprintf("the group's members in network %s get it; groups are not forwarded to other networks", p.network)
	}
}
