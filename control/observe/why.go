package observe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// outsideName is the world where a container's name could stand.
const outsideName = "outside"

// Made-up senders in the world, of the ranges for documentation (RFC 5737, 3849).
var outsiders = [2]netip.Addr{netip.MustParseAddr("203.0.113.77"), netip.MustParseAddr("2001:db8::77")}

// whyTarget is where a packet is to go.
type whyTarget struct {
	name  string // as it was given, unless an address
	addr  netip.Addr
	port  uint16
	proto uint8
}

// parseWhy reads ADDRESS or NAME, [:PORT], [/PROTO]. Without a port and a
// protocol it is a ping.
func parseWhy(to string) (t whyTarget, err error) {
	rest, proto, hasProto := strings.Cut(to, "/")
	host, port := rest, ""
	bad := model.Invalidf("destination %q: write ADDRESS or CONTAINER, then :PORT, then /tcp, /udp or /icmp; [ADDRESS]:PORT for IPv6", to)
	switch {
	case strings.HasPrefix(rest, "["):
		end := strings.Index(rest, "]")
		if end < 0 {
			return t, bad
		}
		host, port = rest[1:end], rest[end+1:]
		if port != "" && port[0] != ':' {
			return t, bad
		}
		port = strings.TrimPrefix(port, ":")
	case strings.Contains(rest, ":") && !isAddr(rest): // NAME:PORT, KIND:NAME or KIND:NAME:PORT
		i := strings.LastIndex(rest, ":")
		host, port = rest[:i], rest[i+1:]
		if port == "" {
			return t, bad
		}
		if w, err := directory.ParseWord(rest); err == nil && knownWord(w) && !strings.Contains(host, ":") && strings.Trim(port, "0123456789") != "" {
			host, port = rest, ""
		}
	}
	if host == "" {
		return t, bad
	}
	if t.addr, err = netip.ParseAddr(host); err != nil {
		w, err := directory.ParseWord(host)
		if err != nil || !knownWord(w) || model.CheckName("container", host[strings.LastIndex(host, ":")+1:]) != nil {
			return t, bad
		}
		t.name, t.addr = host, netip.Addr{}
	}
	t.addr = t.addr.Unmap().WithZone("")
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return t, model.Invalidf("destination %q: port %q: must be from 1 to 65535", to, port)
		}
		t.port = uint16(n)
	}
	if !hasProto {
		proto = "tcp"
		if port == "" {
			proto = "icmp"
		}
	}
	switch proto {
	case "tcp":
		t.proto = header.ProtoTCP
	case "udp":
		t.proto = header.ProtoUDP
	case "icmp", "icmpv6", "ping":
		t.proto = header.ProtoICMP
	default:
		return t, model.Invalidf("destination %q: protocol %q: use tcp, udp or icmp", to, proto)
	}
	switch {
	case t.proto == header.ProtoICMP && port != "":
		return t, model.Invalidf("destination %q: icmp has no ports: leave the port out", to)
	case t.proto != header.ProtoICMP && port == "":
		return t, model.Invalidf("destination %q: %s needs a port: write it after a colon", to, proto)
	}
	return t, nil
}

// knownWord refuses what names a runtime that does not come with the switch: it is something
// else, mistyped.
func knownWord(w directory.Word) bool {
	return w.Runtime() == "" || slices.Contains(api.Runtimes, w.Runtime())
}

func isAddr(word string) bool {
	_, err := netip.ParseAddr(word)
	return err == nil
}

// probe is a packet that is made up, and where it comes in.
type probe struct {
	in       frame.PortID
	from     string // in words
	src      netip.AddrPort
	srcMAC   header.MAC
	dstMAC   header.MAC
	dst      whyTarget
	resolve  netip.Addr // asked for in ARP or neighbour discovery; invalid: dstMAC is known
	network  string
	ct       string // container that sends
	hopLimit uint8
}

// Why walks the stages of the switch with a made-up packet. Nothing is sent and
// nothing changes.
func (o *Observer) Why(ctx context.Context, q api.WhyQuery) (api.Why, error) {
	to, err := parseWhy(q.To)
	if err != nil {
		return api.Why{}, err
	}
	names := prober{o.dir.Now()}
	p, stuck, err := names.probe(q.From, to)
	if err != nil {
		return api.Why{}, err
	}
	out := api.Why{From: p.from, To: p.dst.text(), Steps: []api.WhyStep{}}
	if stuck != "" {
		out.Verdict, out.Explanation, out.Fix = api.VerdictNotSent, stuck, names.explainStuck(p)
		if at := names.ownGateway(p); at != "" {
			if there, err := o.Why(ctx, api.WhyQuery{From: q.From, To: at}); err == nil && there.Verdict == api.VerdictSent {
				out.Fix = "use its own gateway, which has the published port as well: " + at
			}
		}
		return out, nil
	}
	if !p.src.IsValid() {
		return o.whyOwn(ctx, names, p)
	}
	return o.walk(names, p)
}

// walk tells the way of a packet through the stages.
func (o *Observer) walk(names prober, p *probe) (api.Why, error) {
	out := api.Why{From: p.from, To: p.dst.text(), Steps: []api.WhyStep{}}
	if p.resolve.IsValid() {
		if done, err := o.whyResolve(names.Directory, &out, p); err != nil || done {
			return out, err
		}
	}
	data, err := p.frame()
	if err != nil {
		return out, err
	}
	out.Packet = describeFrame(data)
	ex, err := o.sw.Explain(p.in, data)
	if err != nil {
		return out, fmt.Errorf("why: %w", err)
	}
	whyTell(names.Directory, &out, p, ex)
	whyUnclaimed(names, &out, p, &ex)
	whyGroup(names.Directory, &out, p)
	return out, nil
}

// whyResolve walks the question for the next hop's MAC address first. done says
// that nobody answers.
func (o *Observer) whyResolve(names *directory.Directory, out *api.Why, p *probe) (done bool, err error) {
	question, err := p.question()
	if err != nil {
		return false, err
	}
	ex, err := o.sw.Explain(p.in, question)
	if err != nil {
		return false, fmt.Errorf("why: %w", err)
	}
	how := "ARP"
	if p.resolve.Is6() {
		how = "neighbour discovery"
	}
	answered := slices.IndexFunc(ex.Steps, func(s dataplane.Step) bool { return s.Kind == dataplane.StepAnswered })
	switch {
	case ex.Reason != dataplane.NotDropped:
		out.Packet = describeFrame(question)
		whyTell(names, out, p, ex)
		return true, nil
	case answered >= 0:
		p.dstMAC = ex.Steps[answered].MAC
		out.Steps = append(out.Steps, api.WhyStep{Stage: "answer", Table: "addresses", Text: fmt.Sprintf("%s for %s is answered by the switch: %s", how, p.resolve, p.dstMAC)})
		return false, nil
	}
	out.Packet, out.Verdict = describeFrame(question), api.VerdictFlooded
	text := fmt.Sprintf("%s was handed out to no container: %s for it is flooded in network %s", p.resolve, how, p.network)
	out.Explanation = fmt.Sprintf("nobody is known to answer for %s: unless a station behind an unguarded port does, the sender hears \"no route to host\"", p.resolve)
	out.Fix = "see who has which address: vswitch ps"
	if owner, _ := names.Name(p.resolve); owner != "" {
		text = fmt.Sprintf("%s belongs to %s, which is not in the sender's VLAN: %s for it is flooded there", p.resolve, owner, how)
		out.Fix = "see who is in which VLAN: vswitch inspect " + owner
	}
	out.Steps = append(out.Steps, api.WhyStep{Stage: "answer", Table: "addresses", Text: text})
	return true, nil
}

// prober makes packets up under the names of one directory.
type prober struct{ *directory.Directory }

// probe finds out how a packet would reach the switch. stuck says why its
// sender would not even send it.
func (d prober) probe(from string, to whyTarget) (p *probe, stuck string, err error) {
	name, addr, hasAddr := strings.Cut(from, ":")
	switch {
	case from == "":
		return nil, "", model.Invalidf("why: no sender: name a container, outside:ADDRESS or host")
	case d.Named(from) == nil && name == outsideName:
		return d.probeOutside(addr, to)
	case d.Named(from) == nil && from == directory.HostName:
		return d.probeHost(to)
	}
	ct, err := d.One(from)
	if w, _ := directory.ParseWord(from); errors.Is(err, api.ErrNotFound) && hasAddr && !knownWord(w) {
		err = model.Invalidf("sender %q: name a container, outside:ADDRESS or host", from)
	}
	if err != nil {
		return nil, "", err
	}
	if len(ct.Endpoints) == 0 {
		return nil, "", model.Invalidf("container %s runs with --network %s and has no port of its own: ask about %s", ct.Name, ct.Mode, cmp.Or(ct.Peer, directory.HostName))
	}
	return d.probeContainer(ct, to)
}

// subnet is what an endpoint's network has of a family.
func (d prober) subnet(e *directory.Endpoint, f model.Family) *directory.Subnet {
	if n := d.NetworkNamed(e.Network); n != nil {
		return n.Subnet(f)
	}
	return nil
}

// probeContainer takes the way that the container's kernel takes: to a
// neighbour in one of its subnets, or else to the gateway.
func (d prober) probeContainer(ct *directory.Container, to whyTarget) (p *probe, stuck string, err error) {
	p = &probe{from: ct.Name, ct: ct.Name, dst: to, hopLimit: 64}
	if to.name != "" {
		if to.addr, err = d.addrOf(to.name, ct); err != nil {
			return nil, "", err
		}
		p.dst.addr = to.addr
	}
	f := model.FamilyOf(to.addr)
	var e *directory.Endpoint
	onLink := false
	for i := range ct.Endpoints {
		if s := d.subnet(&ct.Endpoints[i], f); s != nil && s.Prefix.Contains(to.addr) {
			e, onLink = &ct.Endpoints[i], true
			break
		}
	}
	if e == nil {
		e = ct.Gateway(f)
	}
	if e == nil {
		p.network = ct.Endpoints[0].Network
		if ct.Endpoints[0].Addr(f).IsValid() {
			return p, fmt.Sprintf("%s has no default route: none of its networks has a way out, and its kernel says \"network is unreachable\"", ct.Name), nil
		}
		return p, fmt.Sprintf("%s has no address of the family of %s: its kernel says \"network is unreachable\"", ct.Name, to.addr), nil
	}
	subnet := d.subnet(e, f)
	if !e.Live || subnet == nil {
		return nil, "", model.Conflictf("container %s is just being attached: ask again", ct.Name)
	}
	src := e.Addr(f)
	if src == to.addr {
		return p, fmt.Sprintf("%s is %s's own address: the packet does not leave the container", to.addr, ct.Name), nil
	}
	p.in, p.srcMAC, p.network = e.Port, e.MAC, e.Network
	p.src = netip.AddrPortFrom(src, ephemeral())
	p.from = fmt.Sprintf("%s (%s, %s)", ct.Name, src, e.Network)
	if mac, ok := groupMAC(to.addr, subnet); ok {
		p.dstMAC = mac // nobody is asked for it
		return p, "", nil
	}
	if p.resolve = to.addr; !onLink {
		p.resolve = subnet.Gateway
	}
	return p, "", nil
}

// groupMAC is the MAC address that stands for a broadcast or a group (RFC 1112
// section 6.4, RFC 2464 section 7).
func groupMAC(a netip.Addr, s *directory.Subnet) (header.MAC, bool) {
	b := a.As16()
	switch {
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}), a.Is4() && s != nil && s.Prefix.Contains(a) && a == model.LastAddr(s.Prefix):
		return header.Broadcast, true
	case a.Is4() && a.IsMulticast():
		return header.MAC{1, 0, 0x5e, b[13] & 0x7f, b[14], b[15]}, true
	case a.IsMulticast():
		return header.MAC{0x33, 0x33, b[12], b[13], b[14], b[15]}, true
	}
	return header.MAC{}, false
}

// addrOf is the address of a container that another one would use: in a
// network of both, or else its first.
func (d prober) addrOf(name string, from *directory.Container) (netip.Addr, error) {
	if d.Named(name) == nil && name == directory.HostName {
		if a := d.hostAddr(from); a.IsValid() {
			return a, nil
		}
	}
	to, err := d.One(name)
	if err != nil {
		return netip.Addr{}, err
	}
	var first netip.Addr
	for _, e := range to.Endpoints {
		for _, a := range e.Addrs {
			if !first.IsValid() {
				first = a
			}
			if from != nil && slices.ContainsFunc(from.Endpoints, func(o directory.Endpoint) bool { return o.Network == e.Network }) {
				return a, nil
			}
		}
	}
	if !first.IsValid() {
		return first, model.Invalidf("container %s runs with --network %s and has no address of its own: give one", to.Name, to.Mode)
	}
	return first, nil
}

// probeOutside is a packet of the world: it comes in by the uplink that has
// the address it is for, or else by the first.
func (d prober) probeOutside(from string, to whyTarget) (p *probe, stuck string, err error) {
	if to.name != "" {
		if to.addr, err = d.addrOf(to.name, nil); err != nil {
			return nil, "", err
		}
	}
	p = &probe{dst: to, srcMAC: header.MAC{2, 0, 0, 0, 0, 1}, hopLimit: 60}
	src := outsiders[model.FamilyOf(to.addr)]
	if from != "" {
		if src, err = netip.ParseAddr(strings.Trim(from, "[]")); err != nil {
			return nil, "", model.Invalidf("sender outside:%s: %q is no address", from, from)
		}
	}
	if src = src.Unmap(); model.FamilyOf(src) != model.FamilyOf(to.addr) {
		return nil, "", model.Invalidf("sender %s and destination %s are of two address families: name a sender of the other one", src, to.addr)
	}
	ups := d.Uplinks()
	if len(ups) == 0 {
		return nil, "", model.NotFoundf("why: no uplink is open: nothing comes in from outside")
	}
	u := ups[0]
	for _, o := range ups {
		if slices.ContainsFunc(o.Addrs, func(a netip.Prefix) bool { return a.Addr() == to.addr }) {
			u = o
			break
		}
	}
	p.in, p.dstMAC, p.src = u.Port, u.MAC, netip.AddrPortFrom(src, ephemeral())
	if directed(d.Directory, to.addr) {
		p.dstMAC = header.Broadcast
	}
	p.from = fmt.Sprintf("outside %s (by %s)", src, u.Name)
	return p, "", nil
}

// ephemeral is a port that a client would take.
func ephemeral() uint16 { return uint16(32768 + rand.IntN(60999-32768)) }
