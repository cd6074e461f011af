package pcapfilter

import "golang.org/x/net/bpf"

// scratch is how many places a BPF program has to keep numbers in.
const scratch = 16

// value is a number that a program computes: a constant, a field or an
// operation. It holds only of packets that have what it reads.
type value struct {
	isConst bool
	num     uint32
	guard   node
	// code leaves the value in A and may use the scratch places from depth on.
	code func(c *parser, depth int) []bpf.Instruction
	at   *token
}

func literal(v uint32, t *token) value {
	return value{isConst: true, num: v, at: t, code: func(*parser, int) []bpf.Instruction {
		return []bpf.Instruction{bpf.LoadConstant{Dst: bpf.RegA, Val: v}}
	}}
}

// relation compares two numbers.
func (p *parser) relation() node {
	a := p.sum(0)
	op := p.next()
	b := value{}
	n := test{}
	negate := false
	switch op.text {
	case "=", "==":
		n.cond = bpf.JumpEqual
	case "!=":
		n.cond, negate = bpf.JumpEqual, true
	case ">":
		n.cond = bpf.JumpGreaterThan
	case ">=":
		n.cond = bpf.JumpGreaterOrEqual
	case "<":
		n.cond, negate = bpf.JumpGreaterOrEqual, true
	case "<=":
		n.cond, negate = bpf.JumpGreaterThan, true
	default:
		p.fail(op, "was found where a comparison is expected: = != < > <= >=")
	}
	b = p.sum(0)
	switch {
	case b.isConst:
		n.pre, n.val = a.code(p, 0), b.num
	default:
		n.byX = true
		n.pre = p.pair(a, b, 0)
	}
	out := node(n)
	if negate {
		out = opposite{out}
	}
	return allOf(b.guard, a.guard, out)
}

// pair leaves a in A and b in X.
func (p *parser) pair(a, b value, depth int) []bpf.Instruction {
	if depth >= scratch {
		p.fail(b.at, "is nested too deep: a program keeps %d numbers at most", scratch)
	}
	code := append(b.code(p, depth), bpf.StoreScratch{Src: bpf.RegA, N: depth})
	code = append(code, a.code(p, depth+1)...)
	return append(code, bpf.LoadScratch{Dst: bpf.RegX, N: depth})
}

// levels are the operators as in C, those that bind looser first.
var levels = []map[string]bpf.ALUOp{
	{"|": bpf.ALUOpOr},
	{"^": bpf.ALUOpXor},
	{"&": bpf.ALUOpAnd},
	{"<<": bpf.ALUOpShiftLeft, ">>": bpf.ALUOpShiftRight},
	{"+": bpf.ALUOpAdd, "-": bpf.ALUOpSub},
	{"*": bpf.ALUOpMul, "/": bpf.ALUOpDiv, "%": bpf.ALUOpMod},
}

// sum reads operations of a level and of those that bind closer.
func (p *parser) sum(level int) value {
	if level == len(levels) {
		return p.factor()
	}
	a := p.sum(level + 1)
	for {
		t := p.peek()
		op, ok := levels[level][t.text]
		if !ok || t.kind != sign {
			return a
		}
		p.pos++
		a = p.operate(op, t, a, p.sum(level+1))
	}
}

// operate joins two numbers, at once when both are known.
func (p *parser) operate(op bpf.ALUOp, t *token, a, b value) value {
	if b.isConst {
		switch {
		case b.num == 0 && (op == bpf.ALUOpDiv || op == bpf.ALUOpMod):
			p.fail(b.at, "divides by zero")
		case b.num > 31 && (op == bpf.ALUOpShiftLeft || op == bpf.ALUOpShiftRight):
			p.fail(b.at, "shifts by more than 31 bits")
		}
		if a.isConst {
			return literal(compute(op, a.num, b.num), a.at)
		}
	}
	// As in libpcap, what reads the right side need not have what it reads: write
	// "tcp and ip[2:2] - tcp[12] > 3". A load from behind the frame still fails.
	return value{guard: a.guard, at: t, code: func(p *parser, depth int) []bpf.Instruction {
		if b.isConst {
			return append(a.code(p, depth), bpf.ALUOpConstant{Op: op, Val: b.num})
		}
		return append(p.pair(a, b, depth), bpf.ALUOpX{Op: op})
	}}
}

func compute(op bpf.ALUOp, a, b uint32) uint32 {
	switch op {
	case bpf.ALUOpAdd:
		return a + b
	case bpf.ALUOpSub:
		return a - b
	case bpf.ALUOpMul:
		return a * b
	case bpf.ALUOpDiv:
		return a / b
	case bpf.ALUOpMod:
		return a % b
	case bpf.ALUOpAnd:
		return a & b
	case bpf.ALUOpOr:
		return a | b
	case bpf.ALUOpXor:
		return a ^ b
	case bpf.ALUOpShiftLeft:
		return a << b
	}
	return a >> b
}

// factor is a number, a field, the length, or a sum in parentheses.
func (p *parser) factor() value {
	t := p.next()
	if p.deep++; p.deep > maxDepth {
		p.fail(t, "is nested too deep")
	}
	defer func() { p.deep-- }()
	switch {
	case t.kind == number:
		return literal(t.num, t)
	case t.kind == sign && t.text == "-":
		v := p.factor()
		if v.isConst {
			return literal(-v.num, t)
		}
		return value{guard: v.guard, at: t, code: func(p *parser, depth int) []bpf.Instruction {
			return append(v.code(p, depth), bpf.NegateA{})
		}}
	case t.kind == sign && t.text == "(":
		v := p.sum(0)
		p.expect(")")
		return v
	case t.kind == word && t.text == "len":
		return value{at: t, code: func(*parser, int) []bpf.Instruction {
			return []bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtLen}}
		}}
	case t.kind == word && isProto(t.text):
		return p.field(t)
	}
	if v, ok := constants[t.text]; ok && t.kind == word {
		return literal(v, t)
	}
	p.fail(t, "was found where a number is expected")
	return value{}
}

// field is "proto [ offset : size ]", a number of 1, 2 or 4 bytes.
func (p *parser) field(t *token) value {
	p.expect("[")
	index := p.sum(0)
	size := 1
	if p.accept(":") {
		s := p.next()
		if s.kind != number || s.num != 1 && s.num != 2 && s.num != 4 {
			p.fail(s, "is no size of a field: 1, 2 or 4 bytes")
		}
		size = int(s.num)
	}
	p.expect("]")
	l := p.at
	v := value{at: t, guard: index.guard}
	base := l.net()
	switch ip, behind := ipProtocols[t.text]; {
	case links[t.text]:
		base = 0
	case !behind:
		v.guard = allOf(v.guard, l.etherType(etherTypes[t.text]))
	case t.text == "icmp6":
		v.guard = allOf(v.guard, l.etherType(etherIPv6), equal(l.net()+6, 1, protoICMP6))
		base += 40
	default:
		// Behind the options of IPv4; IPv6 has no such offset.
		v.guard = allOf(v.guard, l.etherType(etherIP), equal(l.net()+9, 1, ip.num), l.notLater())
		v.code = func(p *parser, depth int) []bpf.Instruction {
			if index.isConst {
				return []bpf.Instruction{bpf.LoadMemShift{Off: base}, bpf.LoadIndirect{Off: base + index.num, Size: size}}
			}
			return append(index.code(p, depth), bpf.LoadMemShift{Off: base}, bpf.ALUOpX{Op: bpf.ALUOpAdd}, bpf.TAX{},
				bpf.LoadIndirect{Off: base, Size: size})
		}
		return v
	}
	v.code = func(p *parser, depth int) []bpf.Instruction {
		if index.isConst {
			off := base + index.num
			if off < base {
				off = ^uint32(0) // no frame has it
			}
			return []bpf.Instruction{bpf.LoadAbsolute{Off: off, Size: size}}
		}
		return append(index.code(p, depth), bpf.TAX{}, bpf.LoadIndirect{Off: base, Size: size})
	}
	return v
}
