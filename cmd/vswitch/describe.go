package main

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// describe puts an Ethernet frame into a line, in the words of tcpdump. size is
// the frame's length on the wire; data may be less of it.
func (h *hostNames) describe(data []byte, size int) string {
	p := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.DecodeOptions{NoCopy: true})
	if tag, ok := p.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q); ok {
		return fmt.Sprintf("vlan %d, %s", tag.VLANIdentifier, h.describePacket(p, size))
	}
	return h.describePacket(p, size)
}

func (h *hostNames) describePacket(p gopacket.Packet, size int) string {
	if arp, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
		return h.describeARP(arp)
	}
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4:
		if ip.FragOffset != 0 {
			return fmt.Sprintf("IP %s > %s: %s, fragment at %d, length %d", h.ip(ip.SrcIP), h.ip(ip.DstIP),
				ip.Protocol, int(ip.FragOffset)*8, len(ip.Payload))
		}
		return "IP " + h.describeTransport(p, ip.SrcIP, ip.DstIP, int(ip.Length)-int(ip.IHL)*4, ip.Protocol.String())
	case *layers.IPv6:
		return "IP6 " + h.describeTransport(p, ip.SrcIP, ip.DstIP, int(ip.Length), ip.NextHeader.String())
	}
	if eth, ok := p.LinkLayer().(*layers.Ethernet); ok {
		return fmt.Sprintf("%s > %s, ethertype %#04x, length %d", eth.SrcMAC, eth.DstMAC, uint16(eth.EthernetType), size)
	}
	return fmt.Sprintf("malformed, length %d", size)
}

func (h *hostNames) describeARP(a *layers.ARP) string {
	sender, target := h.ip(a.SourceProtAddress), h.ip(a.DstProtAddress)
	switch a.Operation {
	case layers.ARPRequest:
		return fmt.Sprintf("ARP, Request who-has %s tell %s", target, sender)
	case layers.ARPReply:
		return fmt.Sprintf("ARP, Reply %s is-at %s", sender, net.HardwareAddr(a.SourceHwAddress))
	}
	return fmt.Sprintf("ARP, operation %d", a.Operation)
}

// describeTransport describes what an IP packet carries; n is its length.
func (h *hostNames) describeTransport(p gopacket.Packet, src, dst net.IP, n int, proto string) string {
	switch l := p.TransportLayer().(type) {
	case *layers.TCP:
		return fmt.Sprintf("%s > %s: Flags [%s], %s", h.endpoint(src, int(l.SrcPort)), h.endpoint(dst, int(l.DstPort)),
			tcpFlags(l), describeTCP(l, n-int(l.DataOffset)*4))
	case *layers.UDP:
		return fmt.Sprintf("%s > %s: UDP, length %d", h.endpoint(src, int(l.SrcPort)), h.endpoint(dst, int(l.DstPort)), int(l.Length)-8)
	}
	if l, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
		what := strings.ToLower(l.TypeCode.String())
		switch l.TypeCode.Type() {
		case layers.ICMPv4TypeEchoRequest:
			what = fmt.Sprintf("echo request, id %d, seq %d", l.Id, l.Seq)
		case layers.ICMPv4TypeEchoReply:
			what = fmt.Sprintf("echo reply, id %d, seq %d", l.Id, l.Seq)
		}
		return fmt.Sprintf("%s > %s: ICMP %s, length %d", h.ip(src), h.ip(dst), what, n)
	}
	if l, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok {
		return fmt.Sprintf("%s > %s: ICMP6, %s, length %d", h.ip(src), h.ip(dst), strings.ToLower(l.TypeCode.String()), n)
	}
	return fmt.Sprintf("%s > %s: %s, length %d", h.ip(src), h.ip(dst), proto, n)
}

func describeTCP(l *layers.TCP, payload int) string {
	var b strings.Builder
	if payload > 0 || l.SYN || l.FIN || l.RST {
		fmt.Fprintf(&b, "seq %d", l.Seq)
		if payload > 0 {
			fmt.Fprintf(&b, ":%d", l.Seq+uint32(payload))
		}
		b.WriteString(", ")
	}
	if l.ACK {
		fmt.Fprintf(&b, "ack %d, ", l.Ack)
	}
	fmt.Fprintf(&b, "win %d, length %d", l.Window, payload)
	if line := httpLine(l.Payload); line != "" {
		b.WriteString(": HTTP: " + line)
	}
	return b.String()
}

func tcpFlags(l *layers.TCP) string {
	var b strings.Builder
	for _, f := range []struct {
		set  bool
		name byte
	}{{l.SYN, 'S'}, {l.FIN, 'F'}, {l.RST, 'R'}, {l.PSH, 'P'}, {l.URG, 'U'}, {l.ECE, 'E'}, {l.CWR, 'W'}, {l.ACK, '.'}} {
		if f.set {
			b.WriteByte(f.name)
		}
	}
	if b.Len() == 0 {
		return "none"
	}
	return b.String()
}

// httpLine returns the first line of an HTTP message, "" for anything else.
func httpLine(payload []byte) string {
	line, _, ok := strings.Cut(string(payload[:min(len(payload), 200)]), "\r\n")
	if !ok || !strings.HasPrefix(line, "HTTP/1.") && !strings.HasSuffix(line, " HTTP/1.1") && !strings.HasSuffix(line, " HTTP/1.0") {
		return ""
	}
	for _, r := range line {
		if !strconv.IsPrint(r) {
			return ""
		}
	}
	return line
}

// endpoint joins an address and a port as tcpdump does.
func (h *hostNames) endpoint(ip net.IP, port int) string { return h.ip(ip) + "." + strconv.Itoa(port) }

func (h *hostNames) ip(ip net.IP) string { return h.of(ip.String()) }
