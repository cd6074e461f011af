package model

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vswitch/vswitch/dataplane/header"
)

// PublishSpec is one -p rule as it was asked for.
type PublishSpec struct {
	Proto  uint8      // header.ProtoTCP, ProtoUDP or ProtoSCTP
	HostIP netip.Addr // invalid: every address of the host; unspecified: of its family
	// HostFirst and HostLast are the host ports, both 0: any that are free. A
	// range in front of one container port means the first free one of it.
	HostFirst, HostLast           uint16
	ContainerFirst, ContainerLast uint16
}

// Once leaves out rules that others of the list fulfil: what is said twice, and a rule that
// leaves the host's port open beside one that names it.
func Once(list []PublishSpec) (once []PublishSpec) {
	for i, s := range list {
		again := false
		for j, o := range list {
			again = again || j != i && o.fulfils(s) && (j < i || !s.fulfils(o))
		}
		if !again {
			once = append(once, s)
		}
	}
	return once
}

// fulfils reports whether s publishes what o asks for.
func (s PublishSpec) fulfils(o PublishSpec) bool {
	return s.Proto == o.Proto && s.HostIP == o.HostIP && s.ContainerFirst == o.ContainerFirst && s.ContainerLast == o.ContainerLast &&
		(o.HostFirst == 0 || o.HostFirst <= s.HostFirst && s.HostLast <= o.HostLast)
}

// maxPublish bounds the length of a rule's text: the longest IPv6 address,
// four ports and a protocol fit.
const maxPublish = 128

// ParsePublish reads [HOSTIP:][HOSTPORT[-END]:]PORT[-END][/tcp|udp|sctp]. An IPv6
// host address stands in brackets.
func ParsePublish(s string) (PublishSpec, error) {
	spec, err := parsePublish(s)
	if err != nil {
		return PublishSpec{}, Invalidf("publish %.*q: %w", maxPublish, s, err)
	}
	return spec, nil
}

func parsePublish(s string) (p PublishSpec, err error) {
	if len(s) > maxPublish {
		return p, fmt.Errorf("%d bytes are too many: write [HOSTIP:][HOSTPORT:]PORT[/tcp|udp|sctp]", len(s))
	}
	rest, proto, err := cutProto(s)
	if err != nil {
		return p, err
	}
	p.Proto = proto

	var ports []string
	hostIP := ""
	if strings.HasPrefix(rest, "[") {
		end := strings.Index(rest, "]:")
		if end < 0 {
			return p, fmt.Errorf("no ]: after the IPv6 address: write [2001:db8::1]:8080:80")
		}
		hostIP = rest[1:end]
		ports = strings.Split(rest[end+2:], ":")
		if len(ports) > 2 {
			return p, fmt.Errorf("too many colons: write [HOSTIP]:HOSTPORT:PORT")
		}
		if !strings.Contains(hostIP, ":") {
			return p, fmt.Errorf("brackets are for IPv6 addresses: %q is none", hostIP)
		}
	} else {
		ports = strings.Split(rest, ":")
		switch {
		case len(ports) > 3:
			return p, fmt.Errorf("too many colons: put an IPv6 address in brackets")
		case len(ports) == 3:
			hostIP, ports = ports[0], ports[1:]
			if hostIP == "" {
				return p, fmt.Errorf("the host address in front of the first colon is empty: leave the colon out")
			}
		case len(ports) == 2 && strings.Contains(ports[0], "."):
			// HOSTIP:PORT: with a free host port of that address.
			hostIP, ports = ports[0], ports[1:]
		}
	}
	if hostIP != "" {
		a, err := netip.ParseAddr(hostIP)
		if err != nil || a.Zone() != "" {
			return p, fmt.Errorf("%q is not an IP address of the host", hostIP)
		}
		p.HostIP = a.Unmap() // 0.0.0.0 and [::] mean one family, no address both
	}
	if p.ContainerFirst, p.ContainerLast, err = parsePorts("container port", ports[len(ports)-1]); err != nil {
		return p, err
	}
	if len(ports) == 2 && ports[0] != "" {
		if p.HostFirst, p.HostLast, err = parsePorts("host port", ports[0]); err != nil {
			return p, err
		}
		host, inner := int(p.HostLast-p.HostFirst)+1, int(p.ContainerLast-p.ContainerFirst)+1
		if host != inner && inner != 1 {
			return p, fmt.Errorf("%d host ports for %d container ports: make the ranges of one length", host, inner)
		}
	}
	return p, nil
}

// parseExpose reads PORT[-END][/tcp|udp|sctp], a port that -P publishes.
func parseExpose(s string) (PublishSpec, error) {
	if len(s) > maxPublish || strings.ContainsAny(s, ":[") {
		return PublishSpec{}, Invalidf("expose %.*q: write PORT[-END][/tcp|udp|sctp]", maxPublish, s)
	}
	rest, proto, err := cutProto(s)
	if err != nil {
		return PublishSpec{}, Invalidf("expose %q: %w", s, err)
	}
	first, last, err := parsePorts("port", rest)
	if err != nil {
		return PublishSpec{}, Invalidf("expose %q: %w", s, err)
	}
	return PublishSpec{Proto: proto, ContainerFirst: first, ContainerLast: last}, nil
}

func cutProto(s string) (rest string, proto uint8, err error) {
	rest, name, ok := strings.Cut(s, "/")
	if !ok {
		return rest, header.ProtoTCP, nil
	}
	switch name {
	case "tcp":
		return rest, header.ProtoTCP, nil
	case "udp":
		return rest, header.ProtoUDP, nil
	case "sctp":
		return rest, header.ProtoSCTP, nil
	}
	return rest, 0, fmt.Errorf("protocol %q is not carried: use tcp, udp or sctp", name)
}

func parsePorts(what, s string) (first, last uint16, err error) {
	a, b, isRange := strings.Cut(s, "-")
	if first, err = parsePort(what, a); err != nil {
		return 0, 0, err
	}
	if !isRange {
		return first, first, nil
	}
	if last, err = parsePort(what, b); err != nil {
		return 0, 0, err
	}
	if last < first {
		return 0, 0, fmt.Errorf("%s range %s ends before it starts", what, s)
	}
	return first, last, nil
}

func parsePort(what, s string) (uint16, error) {
	if s == "" {
		return 0, fmt.Errorf("the %s is missing", what)
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%s %q is not a number: use 1 to 65535", what, s)
		}
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%s %s is out of range: use 1 to 65535", what, s)
	}
	return uint16(n), nil
}

// String writes the rule the way ParsePublish reads it.
func (p PublishSpec) String() string {
	var b strings.Builder
	if p.HostIP.IsValid() {
		if p.HostIP.Is4() {
			b.WriteString(p.HostIP.String())
		} else {
			b.WriteString("[" + p.HostIP.String() + "]")
		}
		b.WriteByte(':')
	}
	if p.HostFirst != 0 {
		b.WriteString(PortsText(p.HostFirst, p.HostLast))
		b.WriteByte(':')
	} else if p.HostIP.IsValid() {
		b.WriteByte(':')
	}
	b.WriteString(PortsText(p.ContainerFirst, p.ContainerLast))
	b.WriteString("/" + ProtoName(p.Proto))
	return b.String()
}

// PortsText writes an interval of ports: "80", "80-89".
func PortsText(first, last uint16) string {
	if first == last {
		return strconv.Itoa(int(first))
	}
	return fmt.Sprintf("%d-%d", first, last)
}

// ProtoName is the word for an IP protocol, or its number.
func ProtoName(proto uint8) string {
	switch proto {
	case header.ProtoTCP:
		return "tcp"
	case header.ProtoUDP:
		return "udp"
	case header.ProtoSCTP:
		return "sctp"
	case header.ProtoICMP:
		return "icmp"
	case header.ProtoICMPv6:
		return "icmpv6"
	}
	return strconv.Itoa(int(proto))
}
