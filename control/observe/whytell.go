package observe

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/control/reasons"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// text is the target as it was understood.
func (t *whyTarget) text() string {
	s := t.addr.String()
	if t.port != 0 {
		s = netip.AddrPortFrom(t.addr, t.port).String()
	}
	if s += "/" + model.ProtoName(t.proto); t.name != "" {
		s = t.name + " (" + s + ")"
	}
	return s
}

// frame is the first packet of what the sender wants: SYN, datagram or echo
// request.
func (p *probe) frame() ([]byte, error) {
	return p.build(p.dstMAC, func(ip gopacket.NetworkLayer) []gopacket.SerializableLayer {
		switch {
		case p.dst.proto == header.ProtoTCP:
			l := &layers.TCP{SrcPort: layers.TCPPort(p.src.Port()), DstPort: layers.TCPPort(p.dst.port), SYN: true, Seq: 1, Window: 64240}
			_ = l.SetNetworkLayerForChecksum(ip) // fails for other families only
			return []gopacket.SerializableLayer{l}
		case p.dst.proto == header.ProtoUDP:
			l := &layers.UDP{SrcPort: layers.UDPPort(p.src.Port()), DstPort: layers.UDPPort(p.dst.port)}
			_ = l.SetNetworkLayerForChecksum(ip)
			return []gopacket.SerializableLayer{l, gopacket.Payload("why")}
		case p.dst.addr.Is4():
			l := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: p.src.Port(), Seq: 1}
			return []gopacket.SerializableLayer{l, gopacket.Payload("why")}
		}
		l := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)}
		_ = l.SetNetworkLayerForChecksum(ip)
		return []gopacket.SerializableLayer{l, &layers.ICMPv6Echo{Identifier: p.src.Port(), SeqNumber: 1}, gopacket.Payload("why")}
	})
}

func (p *probe) build(dst header.MAC, payload func(gopacket.NetworkLayer) []gopacket.SerializableLayer) ([]byte, error) {
	eth := &layers.Ethernet{SrcMAC: p.srcMAC[:], DstMAC: dst[:], EthernetType: layers.EthernetTypeIPv4}
	src, to := net.IP(p.src.Addr().AsSlice()), net.IP(p.dst.addr.AsSlice())
	protos := map[uint8]layers.IPProtocol{header.ProtoTCP: layers.IPProtocolTCP, header.ProtoUDP: layers.IPProtocolUDP}
	all := []gopacket.SerializableLayer{eth}
	var ip gopacket.NetworkLayer
	if p.dst.addr.Is4() {
		proto, ok := protos[p.dst.proto]
		if !ok {
			proto = layers.IPProtocolICMPv4
		}
		l := &layers.IPv4{Version: 4, TTL: p.hopLimit, Flags: layers.IPv4DontFragment, Protocol: proto, SrcIP: src, DstIP: to}
		ip, all = l, append(all, l)
	} else {
		proto, ok := protos[p.dst.proto]
		if !ok {
			proto = layers.IPProtocolICMPv6
		}
		eth.EthernetType = layers.EthernetTypeIPv6
		l := &layers.IPv6{Version: 6, HopLimit: p.hopLimit, NextHeader: proto, SrcIP: src, DstIP: to}
		ip, all = l, append(all, l)
	}
	return serialize(append(all, payload(ip)...))
}

// question asks for the MAC address of the next hop.
func (p *probe) question() ([]byte, error) {
	src := p.src.Addr()
	if p.resolve.Is4() {
		eth := &layers.Ethernet{SrcMAC: p.srcMAC[:], DstMAC: header.Broadcast[:], EthernetType: layers.EthernetTypeARP}
		return serialize([]gopacket.SerializableLayer{eth, &layers.ARP{
			AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
			SourceHwAddress: p.srcMAC[:], SourceProtAddress: src.AsSlice(), DstHwAddress: make([]byte, 6), DstProtAddress: p.resolve.AsSlice(),
		}})
	}
	t := p.resolve.As16()
	group := netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]})
	q := *p
	q.dst.addr, q.dst.proto, q.hopLimit = group, header.ProtoICMPv6, 255
	return q.build(header.MAC{0x33, 0x33, 0xff, t[13], t[14], t[15]}, func(ip gopacket.NetworkLayer) []gopacket.SerializableLayer {
		l := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeNeighborSolicitation, 0)}
		_ = l.SetNetworkLayerForChecksum(ip)
		return []gopacket.SerializableLayer{l, &layers.ICMPv6NeighborSolicitation{
			TargetAddress: t[:], Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: p.srcMAC[:]}},
		}}
	})
}

func serialize(all []gopacket.SerializableLayer) ([]byte, error) {
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...)
	if err != nil {
		return nil, fmt.Errorf("why: make a packet: %w", err)
	}
	return buf.Bytes(), nil
}

// describeFrame is a packet in a line: "tcp 10.88.0.2:40000 > 1.1.1.1:443 SYN,
// 02:.. > 02:..".
func describeFrame(b []byte) string {
	p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
	eth, ok := p.Layer(layers.LayerTypeEthernet).(*layers.Ethernet)
	if !ok {
		return fmt.Sprintf("%d bytes", len(b))
	}
	macs := fmt.Sprintf("%s > %s", eth.SrcMAC, eth.DstMAC)
	if a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
		return fmt.Sprintf("arp who has %s, tell %s; %s", net.IP(a.DstProtAddress), net.IP(a.SourceProtAddress), macs)
	}
	n := p.NetworkLayer()
	if n == nil {
		return macs
	}
	src, dst := n.NetworkFlow().Endpoints()
	switch t := p.TransportLayer().(type) {
	case *layers.TCP:
		flags := ""
		if t.SYN {
			flags = " SYN"
		}
		return fmt.Sprintf("tcp %s > %s%s; %s", hostPort(src, uint16(t.SrcPort)), hostPort(dst, uint16(t.DstPort)), flags, macs)
	case *layers.UDP:
		return fmt.Sprintf("udp %s > %s; %s", hostPort(src, uint16(t.SrcPort)), hostPort(dst, uint16(t.DstPort)), macs)
	}
	what := "ip"
	if l, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
		what = "icmp " + l.TypeCode.String()
	} else if l, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok {
		what = "icmpv6 " + l.TypeCode.String()
	}
	return fmt.Sprintf("%s %s > %s; %s", what, src, dst, macs)
}

func hostPort(e gopacket.Endpoint, port uint16) string {
	return net.JoinHostPort(e.String(), fmt.Sprint(port))
}

// whyTell turns an explanation into words.
func whyTell(names *directory.Directory, out *api.Why, p *probe, ex dataplane.Explanation) {
	for i := range ex.Steps {
		if st, ok := whyStep(names, &ex.Steps[i]); ok {
			out.Steps = append(out.Steps, st)
		}
	}
	out.Rule = policy.Describe(ex.Rule, names.NetworkName, func(uint32) string { return "" })
	var waits *dataplane.Step
	if n := len(ex.Steps); n > 0 && ex.Steps[n-1].Kind == dataplane.StepWaits {
		waits = &ex.Steps[n-1]
	}
	switch {
	case ex.Reason != dataplane.NotDropped:
		out.Verdict, out.Reason = api.VerdictDropped, ex.Reason.String()
		f := reasons.Facts{
			Container: p.ct, Network: p.network, Proto: model.ProtoName(p.dst.proto), Source: p.src.Addr().String(), Destination: p.dst.addr.String(),
		}
		if p.dst.port != 0 {
			f.Port = fmt.Sprint(p.dst.port)
		}
		if n, ok := names.Port(p.in); ok {
			f.Iface = n.Name
		}
		f.Peer, f.PeerNetwork = names.Name(p.dst.addr)
		out.Explanation, out.Fix = reasons.Explain(ex.Reason, f)
	case waits != nil:
		n, _ := names.Port(waits.Port)
		out.Verdict, out.Output = api.VerdictWaits, n.Title()
		out.Explanation = fmt.Sprintf("the MAC address of next hop %s is not known yet: the packet waits up to 3 s while the kernel asks", waits.Via)
		out.Fix = fmt.Sprintf("if it stays so: ip neigh show dev %s", n.Name)
	case len(ex.Out) == 0:
		out.Verdict = api.VerdictAnswered
	default:
		whyOut(names, out, ex)
	}
}

func whyOut(names *directory.Directory, out *api.Why, ex dataplane.Explanation) {
	var outs []string
	kind := ""
	for _, id := range ex.Out {
		n, _ := names.Port(id)
		outs = append(outs, n.Title())
		kind = n.Kind
	}
	out.Output, out.Sent = strings.Join(outs, ", "), describeFrame(ex.Sent)
	switch {
	case len(outs) > 1:
		out.Verdict = api.VerdictFlooded
	case kind == directory.KindHost:
		out.Verdict = api.VerdictHost
		out.Explanation = "the host's own stack decides about it: a service must listen there, and the host's firewall let it in"
	default:
		out.Verdict = api.VerdictSent
	}
}

// whyStep is one step in words; ok is false for what says nothing.
func whyStep(names *directory.Directory, s *dataplane.Step) (st api.WhyStep, ok bool) {
	st.Stage = s.Stage
	at := func(id frame.PortID) string {
		n, _ := names.Port(id)
		return cmp.Or(n.Title(), "a port that is gone")
	}
	pinned := func() string {
		if s.Static {
			return "pinned to"
		}
		return "learned at"
	}
	tell := func(table, format string, a ...any) {
		st.Table, st.Text = table, fmt.Sprintf(format, a...)
	}
	from, to := flowText(&s.From), flowText(&s.To)
	switch s.Kind {
	case dataplane.StepGuarded:
		tell("guard", "%s is held to %s and its own addresses, and keeps to them", at(s.Port), s.MAC)
	case dataplane.StepUnguarded:
		tell("guard", "off at %s: any address may come from it", at(s.Port))
	case dataplane.StepVLAN:
		tell("VLAN", "%d", s.VLAN)
	case dataplane.StepSource:
		tell("FDB", "source %s is %s %s", s.MAC, pinned(), at(s.Port))
	case dataplane.StepLearned:
		if s.Other == frame.NoPort {
			tell("FDB", "source %s is new and would be learned at %s", s.MAC, at(s.Port))
		} else {
			tell("FDB", "source %s would move from %s to %s", s.MAC, at(s.Other), at(s.Port))
		}
	case dataplane.StepAnswered:
		tell("addresses", "the switch answers itself: %s", s.MAC)
	case dataplane.StepBridged:
		tell("FDB", "destination %s is %s %s", s.MAC, pinned(), at(s.Port))
	case dataplane.StepFlooded:
		if s.MAC == header.Broadcast {
			tell("FDB", "destination %s is a broadcast: to all ports of the network", s.MAC)
			break
		}
		tell("FDB", "destination %s is not known: to all ports of the network", s.MAC)
	case dataplane.StepStorm:
		tell("storm control", "%s has spent %d of the %d frames that it may flood at once", at(s.Port), s.Used, s.Limit)
	case dataplane.StepQuota:
		if s.Limit > 0 {
			tell("quota", "%s has %d of the %d flows that it may begin", at(s.Port), s.Used, s.Limit)
		}
	case dataplane.StepGroup:
		tell("groups", "to the members of %s", s.To.Dst)
	case dataplane.StepGateway:
		tell("FDB", "destination %s is the gateway of network %s: routed", s.MAC, cmp.Or(names.NetworkName(s.Network), "that is gone"))
	case dataplane.StepFromUplink:
		tell("ports", "came in by %s: routed", at(s.Port))
	case dataplane.StepTracked:
		tell("conntrack", "%s flow, %s: %s becomes %s", s.Conn, s.State, from, to)
	case dataplane.StepPublished:
		owner, _ := names.Name(s.Publish.ContainerAddr.NetIP())
		tell("published ports", "%s leads to %s: %s becomes %s", publishText(&s.Publish), cmp.Or(owner, s.Publish.ContainerAddr.String()), s.From.Dst.NetIP(), Side(s.To.Dst, s.To.DstPort))
	case dataplane.StepWelcomed:
		tell("published ports", "strangers may come in to %s", Side(s.To.Dst, s.To.DstPort))
	case dataplane.StepHost:
		tell("routes", "%s is the host's own: to its stack by %s", s.Prefix, at(s.Port))
	case dataplane.StepNew:
		tell("conntrack", "no flow, and no published port: a new connection to %s", Side(s.From.Dst, s.From.DstPort))
	case dataplane.StepContainer:
		tell("addresses", "%s was handed out to %s, %s", s.To.Dst, at(s.Port), s.MAC)
	case dataplane.StepRoute:
		tell("routes", "%s via %s by %s", s.Prefix, s.Via, at(s.Port))
	case dataplane.StepNeighbor:
		tell("neighbours", "%s is at %s", s.Via, s.MAC)
	case dataplane.StepWaits:
		tell("neighbours", "%s has no MAC address yet: the kernel is asked", s.Via)
	case dataplane.StepTranslated:
		tell("NAT", "%s: source %s becomes %s", s.Conn, Side(s.From.Src, s.From.SrcPort), Side(s.To.Src, s.To.SrcPort))
	case dataplane.StepTurned:
		tell("NAT", "%s is a port of masquerade: the packet turns back as %s to %s", Side(s.From.Dst, s.From.DstPort), Side(s.To.Src, s.To.SrcPort), Side(s.To.Dst, s.To.DstPort))
	case dataplane.StepPlain:
		tell("NAT", "the addresses stay as they are")
	case dataplane.StepRefused:
		tell("reply", "the sender is told by an ICMP error")
	case dataplane.StepDropped:
		tell("drop", "%s", s.Reason)
	}
	return st, st.Text != ""
}

func flowText(t *header.Tuple) string {
	return Side(t.Src, t.SrcPort) + " > " + Side(t.Dst, t.DstPort)
}

func publishText(p *dataplane.PublishConfig) string {
	return model.PortsText(p.HostFirst, p.HostLast) + "/" + model.ProtoName(p.Proto)
}
