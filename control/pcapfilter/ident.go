package pcapfilter

import (
	"net/netip"
	"strings"
)

// id is a name, number or address with the qualifiers that hold for it.
func (p *parser) id(q quals) node {
	t := p.next()
	switch {
	case t.kind == end:
		p.fail(t, "was found where a condition is expected")
	case t.kind == sign:
		p.fail(t, "was found where a condition is expected")
	case !q.set:
		p.fail(t, "does not say what it is: %s", p.guess(t))
	}
	switch q.what {
	case "port", "portrange":
		return p.ports(t, q)
	case "proto", "protochain":
		return p.protocolNumber(t, q)
	case "gateway":
		return p.gateway(t, q)
	}
	return p.address(t, q)
}

// guess is advice for a word without qualifiers.
func (p *parser) guess(t *token) string {
	switch t.kind {
	case ipv4, ipv6:
		return "write host " + t.text + ", or net"
	case mac:
		return "write ether host " + t.text
	case number:
		return "write port " + t.text + ", or a comparison"
	}
	if len(p.lookup(t.text)) > 0 {
		return "write host " + t.text + "; more containers to capture are named in one word, web,db"
	}
	return "a filter is made of words like tcp, host, port, and"
}

func (p *parser) lookup(s string) []netip.Addr {
	if p.names == nil {
		return nil
	}
	return p.names.Host(s)
}

// address is a host or a network.
func (p *parser) address(t *token, q quals) node {
	if t.kind == mac {
		if q.proto != "ether" || q.what == "net" {
			p.fail(t, "is an Ethernet address: write ether host %s", t.text)
		}
		return etherHost(t.mac, q.dir)
	}
	if q.proto == "ether" {
		p.fail(t, "is no Ethernet address, which ether host wants: leave ether out, or write one like 02:00:00:00:00:01")
	}
	if _, ok := ipProtocols[q.proto]; ok || q.proto != "" && q.proto != "ip" && q.proto != "ip6" && q.proto != "arp" && q.proto != "rarp" {
		p.fail(t, "is an address, but %s has none: write %s and host %s", q.proto, q.proto, t.text)
	}
	switch t.kind {
	case number:
		v, mask := t.num, uint32(0xffffffff)
		if q.what == "net" { // "net 10"
			for v != 0 && v&0xff000000 == 0 {
				v, mask = v<<8, mask<<8
			}
			if p.peek().text == "/" {
				return p.prefix4(t, v, q)
			}
		}
		return p.net4(t, v, mask, q)
	case ipv4:
		if s := p.peek().text; s == "/" || s == "mask" {
			return p.prefix4(t, t.num, q)
		}
		return p.net4(t, t.num, ^uint32(0)<<(32-t.bits), q)
	case ipv6:
		bits := 128
		if p.peek().text == "/" {
			slash := p.next()
			n := p.peek()
			bits = int(p.number("the length of a prefix"))
			if q.what == "host" && bits != 128 {
				p.fail(slash, "makes a network: write net")
			}
			if bits > 128 {
				p.fail(n, "is longer than an IPv6 address: at most 128")
			}
		}
		return p.net6(t, netip.PrefixFrom(t.addr, bits), q)
	}
	return p.named(t, q)
}

// named is a container or a network of the switch.
func (p *parser) named(t *token, q quals) node {
	var list []netip.Prefix
	if q.what == "net" {
		list = p.net(t)
	} else {
		for _, a := range p.host(t) {
			list = append(list, netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()))
		}
	}
	var n node
	for _, pre := range list {
		switch a := pre.Addr(); {
		case a.Is4() && q.proto != "ip6":
			b := a.As4()
			v, m := uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8|uint32(b[3]), ^uint32(0)<<(32-pre.Bits())
			n = oneOf(n, p.net4(t, v&m, m, q))
		case a.Is6() && (q.proto == "" || q.proto == "ip6"):
			n = oneOf(n, p.net6(t, pre.Masked(), q))
		}
	}
	if n == nil {
		p.fail(t, "has no address of %s", q.proto)
	}
	return n
}

// gateway is what has the MAC address of something and not its own address: what
// was sent through it.
func (p *parser) gateway(t *token, q quals) node {
	switch {
	case q.dir != srcOrDst:
		p.fail(t, "is a gateway, which has no direction: leave src or dst out")
	case q.proto != "" && q.proto != "ip" && q.proto != "ip6":
		p.fail(t, "is a gateway, but not of %s: write %s and gateway %s", q.proto, q.proto, t.text)
	case t.kind != word && t.kind != escape:
		p.fail(t, "has a MAC address that is not known here: name a container or a network, or write ether host MAC and not host %s", t.text)
	}
	var macs [][6]byte
	var addrs []netip.Addr
	if p.names != nil {
		macs, addrs = p.names.Gateway(t.text)
	}
	if len(macs) == 0 {
		p.fail(t, "is no container and no network: see vswitch ps, vswitch network ls")
	}
	var through, own node
	for _, m := range macs {
		through = oneOf(through, etherHost(m, srcOrDst))
	}
	host := quals{proto: q.proto, what: "host", set: true}
	for _, a := range addrs {
		switch a = a.Unmap(); {
		case a.Is4() && q.proto != "ip6":
			b := a.As4()
			own = oneOf(own, p.net4(t, uint32(b[0])<<24|uint32(b[1])<<16|uint32(b[2])<<8|uint32(b[3]), ^uint32(0), host))
		case a.Is6() && q.proto != "ip":
			own = oneOf(own, p.net6(t, netip.PrefixFrom(a, 128), host))
		}
	}
	if q.proto != "" {
		through = both{p.at.protocol(q.proto), through}
	}
	if own == nil {
		return through
	}
	return both{through, opposite{own}}
}

// prefix4 reads "/8" or "mask 255.0.0.0".
func (p *parser) prefix4(t *token, v uint32, q quals) node {
	sep := p.next()
	var mask uint32
	switch m := p.peek(); {
	case sep.text == "/":
		n := p.number("the length of a prefix")
		if n > 32 {
			p.fail(m, "is longer than an IPv4 address: at most 32")
		}
		mask = ^uint32(0) << (32 - n)
		if n == 0 {
			mask = 0
		}
	case m.kind == ipv4:
		mask = p.next().num
	default:
		p.fail(m, "was found where a mask like 255.255.0.0 is expected")
	}
	if q.what == "host" {
		p.fail(sep, "makes a network: write net")
	}
	if v&^mask != 0 {
		p.fail(t, "has bits set after its prefix: the network's own address is expected")
	}
	return p.net4(t, v, mask, q)
}

// net4 matches IPv4 addresses, in ARP too.
func (p *parser) net4(t *token, v, mask uint32, q quals) node {
	l := &p.at
	in := func(etherType, src, dst uint32) node {
		return allOf(l.etherType(etherType), directed(q.dir, masked(l.net()+src, v, mask), masked(l.net()+dst, v, mask)))
	}
	switch q.proto {
	case "ip":
		return in(etherIP, 12, 16)
	case "arp":
		return in(etherARP, 14, 24)
	case "rarp":
		return in(etherRARP, 14, 24)
	case "ip6":
		p.fail(t, "is no IPv6 address")
	}
	n := in(etherIP, 12, 16)
	if l.labels == 0 {
		n = oneOf(n, in(etherARP, 14, 24), in(etherRARP, 14, 24))
	}
	return n
}

func (p *parser) net6(t *token, pre netip.Prefix, q quals) node {
	if q.proto != "" && q.proto != "ip6" {
		p.fail(t, "is an IPv6 address, which %s does not carry", q.proto)
	}
	if pre.Masked().Addr() != pre.Addr() {
		p.fail(t, "has bits set after its prefix: the network's own address is expected")
	}
	a, l := pre.Addr().As16(), &p.at
	at := func(off uint32) node {
		var list []node
		for i := 0; i*32 < pre.Bits(); i++ {
			v := uint32(a[4*i])<<24 | uint32(a[4*i+1])<<16 | uint32(a[4*i+2])<<8 | uint32(a[4*i+3])
			list = append(list, masked(l.net()+off+uint32(4*i), v, ^uint32(0)<<max(0, 32-(pre.Bits()-32*i))))
		}
		if len(list) == 0 {
			return constant(true)
		}
		return allOf(list...)
	}
	return allOf(l.etherType(etherIPv6), directed(q.dir, at(8), at(24)))
}

// etherHost matches a MAC address.
func etherHost(m [6]byte, d dir) node {
	at := func(off uint32) node {
		return allOf(
			equal(off+2, 4, uint32(m[2])<<24|uint32(m[3])<<16|uint32(m[4])<<8|uint32(m[5])),
			equal(off, 2, uint32(m[0])<<8|uint32(m[1])))
	}
	return directed(d, at(6), at(0))
}

// ports is a port or a range of them, by number or by a service's name.
func (p *parser) ports(t *token, q quals) node {
	proto := uint32(0)
	if q.proto != "" {
		ip, ok := ipProtocols[q.proto]
		if !ok || !ip.ports {
			p.fail(t, "is a port, which %s does not have: only tcp, udp and sctp", q.proto)
		}
		proto = ip.num
	}
	from, to := t.text, t.text
	if t.kind == word && q.what == "portrange" {
		if _, ok := services[t.text]; !ok {
			var found bool
			if from, to, found = strings.Cut(t.text, "-"); !found {
				from, to = t.text, t.text
			}
		}
	}
	first, of := p.port(t, from, proto)
	last, of2 := p.port(t, to, proto)
	if first > last {
		first, last = last, first
	}
	switch {
	case proto != 0:
	case of == of2:
		proto = of
	}
	return p.at.ports(first, last, proto, q.dir)
}

// port reads one port, and the protocol that its name belongs to.
func (p *parser) port(t *token, s string, proto uint32) (port, of uint32) {
	if t.kind == ipv4 || t.kind == ipv6 || t.kind == mac {
		p.fail(t, "is an address, where a port is expected: write host %s", t.text)
	}
	if t.kind == number {
		port = t.num
	} else if s != "" && len(s) <= 5 && isDigits(s) {
		for _, c := range s {
			port = port*10 + uint32(c-'0')
		}
	} else {
		sv, ok := services[s]
		if !ok {
			p.fail(t, "names no service known here: write the port's number")
		}
		if proto != 0 && sv.proto != 0 && proto != sv.proto {
			p.fail(t, "is a port of another protocol: leave the qualifier out, or write the number %d", sv.port)
		}
		return sv.port, sv.proto
	}
	if port > 65535 {
		p.fail(t, "is no port: at most 65535")
	}
	return port, 0
}

// protocolNumber is what follows "proto" and "protochain".
func (p *parser) protocolNumber(t *token, q quals) node {
	if q.dir != srcOrDst {
		p.fail(t, "is a protocol, which has no direction: leave src or dst out")
	}
	var v uint32
	known := true
	switch ip, isIP := ipProtocols[t.text]; {
	case t.kind == number:
		v = t.num
	case q.proto == "ether":
		if v, known = etherTypes[t.text]; !known {
			v, known = escapedTypes[t.text]
		}
	case isIP:
		v = ip.num
	default:
		v, known = namedProtocols[t.text]
	}
	if !known || t.kind != number && t.kind != word && t.kind != escape {
		p.fail(t, "names no protocol known here: write its number")
	}
	return p.byNumber(t, v, q)
}
