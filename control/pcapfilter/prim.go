package pcapfilter

import "golang.org/x/net/bpf"

// equal compares a field with a value.
func equal(off uint32, size int, v uint32) node {
	return test{pre: []bpf.Instruction{bpf.LoadAbsolute{Off: off, Size: size}}, cond: bpf.JumpEqual, val: v}
}

// field compares a field under a mask.
func field(off uint32, size int, v, mask uint32) node {
	if mask == ^uint32(0) {
		return equal(off, size, v)
	}
	return test{
		pre:  []bpf.Instruction{bpf.LoadAbsolute{Off: off, Size: size}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask}},
		cond: bpf.JumpEqual, val: v,
	}
}

// masked compares an IPv4 address, or a quarter of an IPv6 one.
func masked(off uint32, v, mask uint32) node {
	if mask == 0 {
		return constant(true)
	}
	return field(off, 4, v, mask)
}

func directed(d dir, src, dst node) node {
	switch d {
	case srcOnly:
		return src
	case dstOnly:
		return dst
	case srcAndDst:
		return both{src, dst}
	}
	return either{src, dst}
}

// etherType matches what the link header says of its payload.
func (l *layout) etherType(v uint32) node {
	off := uint32(l.linkType)
	switch {
	case l.labels > 0:
		// Behind MPLS nothing says so but the version, behind the last label.
		version := map[uint32]uint32{etherIP: 0x40, etherIPv6: 0x60}[v]
		if version == 0 {
			return constant(false)
		}
		return both{field(l.net()-2, 1, 1, 1), field(l.net(), 1, version, 0xf0)}
	case l.ppp:
		ppp := map[uint32]uint32{etherIP: 0x21, etherIPv6: 0x57, etherMPLS: 0x281}[v]
		if ppp == 0 {
			ppp = v
		}
		return equal(off, 2, ppp)
	case v <= maxLength: // a SAP of 802.2, behind a length
		isLength := test{pre: []bpf.Instruction{bpf.LoadAbsolute{Off: off, Size: 2}}, cond: bpf.JumpGreaterThan, val: maxLength}
		return both{opposite{isLength}, equal(uint32(l.payload), 1, v)}
	}
	return equal(off, 2, v)
}

// protocol matches a word alone: "arp", "tcp".
func (l *layout) protocol(name string) node {
	if v, ok := etherTypes[name]; ok {
		return l.etherType(v)
	}
	p := ipProtocols[name]
	var n node
	if p.v4 {
		n = l.ip4Protocol(p.num)
	}
	if p.v6 {
		n = oneOf(n, l.ip6Protocol(p.num))
	}
	return n
}

func (l *layout) ip4Protocol(v uint32) node {
	return both{l.etherType(etherIP), equal(l.net()+9, 1, v)}
}

// ip6Protocol looks at the next header, past a fragment header too.
func (l *layout) ip6Protocol(v uint32) node {
	return allOf(l.etherType(etherIPv6), oneOf(
		equal(l.net()+6, 1, v),
		allOf(equal(l.net()+6, 1, protoFrag), equal(l.net()+40, 1, v))))
}

// byNumber is "proto 17" and "protochain 17".
func (p *parser) byNumber(t *token, v uint32, q quals) node {
	l := &p.at
	chain := q.what == "protochain"
	switch {
	case q.proto == "ether" && !chain:
		return l.etherType(v)
	case q.proto == "ip" && chain:
		return both{l.etherType(etherIP), chain4(l.net(), v)}
	case q.proto == "ip6" && chain:
		return both{l.etherType(etherIPv6), chain6(l.net(), v)}
	case q.proto == "" && chain:
		return either{both{l.etherType(etherIP), chain4(l.net(), v)}, both{l.etherType(etherIPv6), chain6(l.net(), v)}}
	case q.proto == "ip":
		return l.ip4Protocol(v)
	case q.proto == "ip6":
		return l.ip6Protocol(v)
	case q.proto == "":
		return either{l.ip4Protocol(v), l.ip6Protocol(v)}
	}
	p.fail(t, "cannot follow %s %s: only ether, ip and ip6 have protocols", q.proto, q.what)
	return nil
}

// notLater matches what is no later fragment of IPv4, which has no ports.
func (l *layout) notLater() node {
	return test{pre: []bpf.Instruction{bpf.LoadAbsolute{Off: l.net() + 6, Size: 2}}, cond: bpf.JumpBitsNotSet, val: 0x1fff}
}

// ports matches ports from first to last; proto 0 is each that has ports.
func (l *layout) ports(first, last, proto uint32, d dir) node {
	protos := func(off uint32) node {
		if proto != 0 {
			return equal(off, 1, proto)
		}
		return oneOf(equal(off, 1, protoSCTP), equal(off, 1, protoTCP), equal(off, 1, protoUDP))
	}
	within := func(pre ...bpf.Instruction) node {
		if first == last {
			return test{pre: pre, cond: bpf.JumpEqual, val: first}
		}
		return both{test{pre: pre, cond: bpf.JumpGreaterOrEqual, val: first}, opposite{test{pre: pre, cond: bpf.JumpGreaterThan, val: last}}}
	}
	v6 := func(off uint32) node { return within(bpf.LoadAbsolute{Off: l.net() + 40 + off, Size: 2}) }
	v4 := func(off uint32) node {
		return within(bpf.LoadMemShift{Off: l.net()}, bpf.LoadIndirect{Off: l.net() + off, Size: 2})
	}
	return oneOf(
		allOf(l.etherType(etherIPv6), protos(l.net()+6), directed(d, v6(0), v6(2))),
		allOf(l.etherType(etherIP), protos(l.net()+9), l.notLater(), directed(d, v4(0), v4(2))))
}

// cast is "broadcast" and "multicast" behind a protocol.
func (p *parser) cast(t *token, proto string) node {
	l := &p.at
	if t.text == "broadcast" {
		switch proto {
		case "", "ether":
			return etherHost([6]byte{255, 255, 255, 255, 255, 255}, dstOnly)
		case "ip": // of which network is not asked: the limited one, old and new
			return allOf(l.etherType(etherIP), oneOf(equal(l.net()+16, 4, 0), equal(l.net()+16, 4, 0xffffffff)))
		}
		p.fail(t, "is no word for %s: only ether and ip have it", proto)
	}
	switch proto {
	case "", "ether":
		return test{pre: []bpf.Instruction{bpf.LoadAbsolute{Off: 0, Size: 1}}, cond: bpf.JumpBitsSet, val: 1}
	case "ip":
		group := test{pre: []bpf.Instruction{bpf.LoadAbsolute{Off: l.net() + 16, Size: 1}}, cond: bpf.JumpGreaterOrEqual, val: 224}
		return both{l.etherType(etherIP), group}
	case "ip6":
		return both{l.etherType(etherIPv6), equal(l.net()+24, 1, 255)}
	}
	p.fail(t, "is no word for %s: only ether, ip and ip6 have it", proto)
	return nil
}

// alone is a primitive that begins with a word of its own; nil when it is none.
func (p *parser) alone() node {
	t := p.peek()
	l := &p.at
	switch t.text {
	case "broadcast", "multicast":
		p.pos++
		return p.cast(t, "")
	case "less":
		p.pos++
		return length(bpf.JumpLessOrEqual, p.number("a length"))
	case "greater":
		p.pos++
		return length(bpf.JumpGreaterOrEqual, p.number("a length"))
	case "inbound", "outbound":
		p.pos++
		return direction(t.text == "outbound")
	case "vlan":
		p.pos++
		return p.vlan()
	case "mpls":
		p.pos++
		return p.mpls()
	case "pppoed":
		p.pos++
		return l.etherType(etherPPPD)
	case "pppoes":
		p.pos++
		return p.pppoes()
	case "atalk", "aarp", "ipx":
		p.fail(t, `is no word here: write ether proto \%s`, t.text)
	case "src", "dst":
		return nil
	}
	if !isProto(t.text) && !isWhat(t.text) {
		p.fail(t, "is no word for Ethernet")
	}
	return nil
}

// outgoing is the packet type of what goes out (linux/if_packet.h).
const outgoing = 4

// direction is "inbound" and "outbound": what comes in at a port, what goes out.
func direction(out bool) node {
	n := node(test{pre: []bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtType}}, cond: bpf.JumpEqual, val: outgoing})
	if !out {
		n = opposite{n}
	}
	return n
}

// length compares the length of the frame on the wire.
func length(cond bpf.JumpTest, v uint32) node {
	return test{pre: []bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtLen}}, cond: cond, val: v}
}

// argument is the number behind "vlan" and its like, if there is one.
func (p *parser) argument(limit uint32) (v uint32, given bool) {
	t := p.peek()
	if t.kind != number || operates(p.ahead(1)) {
		return 0, false
	}
	p.pos++
	if t.num > limit {
		p.fail(t, "is too large: at most %d", limit)
	}
	return t.num, true
}

func (p *parser) vlan() node {
	l := &p.at
	if l.labels > 0 {
		p.fail(&p.tokens[p.pos-1], "cannot follow mpls")
	}
	n := oneOf(l.etherType(etherQ), l.etherType(etherAD), l.etherType(etherQinQ))
	if id, ok := p.argument(4095); ok {
		n = both{n, field(uint32(l.payload), 2, id, 0xfff)}
	}
	l.linkType += 4
	l.payload += 4
	return n
}

func (p *parser) mpls() node {
	l := &p.at
	var n node
	if l.labels > 0 {
		n = field(l.net()-2, 1, 0, 1) // the label before is not the last
	} else {
		n = l.etherType(etherMPLS)
	}
	if id, ok := p.argument(1<<20 - 1); ok {
		n = both{n, field(l.net(), 4, id<<12, 0xfffff000)}
	}
	l.labels += 4
	return n
}

// pppoes finds PPP behind six bytes of PPPoE (RFC 2516).
func (p *parser) pppoes() node {
	l := &p.at
	n := l.etherType(etherPPPS)
	if id, ok := p.argument(65535); ok {
		n = both{n, field(l.net(), 4, id, 0xffff)}
	}
	at := int(l.net()) + 6
	*l = layout{linkType: at, payload: at + 2, ppp: true}
	return n
}
