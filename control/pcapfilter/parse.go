package pcapfilter

import (
	"net/netip"
	"slices"
)

type dir uint8

const (
	srcOrDst dir = iota // the default
	srcOnly
	dstOnly
	srcAndDst
)

// quals are the qualifiers of a name or number. Behind "and" and "or" those of
// the one before hold: "port 80 or 443".
type quals struct {
	proto string // "", "ether", or a word of etherTypes or ipProtocols
	dir   dir
	what  string // "", host, net, port, portrange, proto, protochain, gateway
	set   bool   // there is a qualifier at all
}

// layout is where the headers are. "vlan", "mpls" and "pppoes" move what comes
// after them in the expression, wherever they are in it.
type layout struct {
	linkType int // of the EtherType
	payload  int // of what follows the link header
	labels   int // bytes of MPLS labels in front of the network header
	ppp      bool
}

func (l *layout) net() uint32 { return uint32(l.payload + l.labels) }

type parser struct {
	tokens []token
	pos    int
	names  Names
	at     layout
	deep   int // of nested numbers
}

// maxDepth bounds nesting, of a hostile expression.
const maxDepth = 200

func (p *parser) peek() *token { return &p.tokens[p.pos] }

func (p *parser) ahead(n int) *token { return &p.tokens[min(p.pos+n, len(p.tokens)-1)] }

func (p *parser) next() *token {
	t := p.peek()
	if t.kind != end {
		p.pos++
	}
	return t
}

func (p *parser) fail(t *token, format string, a ...any) {
	panic(wrong(t.at, t.text, format, a...))
}

// accept takes the next token when it is one of these words or signs.
func (p *parser) accept(texts ...string) bool {
	t := p.peek()
	if (t.kind == word || t.kind == sign) && slices.Contains(texts, t.text) {
		p.pos++
		return true
	}
	return false
}

func (p *parser) expect(text string) {
	if t := p.peek(); !p.accept(text) {
		p.fail(t, "was found where %q is expected", text)
	}
}

// expr is a list of terms; "and" and "or" bind alike, from left to right.
func (p *parser) expr(q quals, depth int) (node, quals) {
	n, q := p.term(q, depth)
	for {
		switch {
		case p.accept("and", "&&"):
			var m node
			m, q = p.term(q, depth)
			n = both{n, m}
		case p.accept("or", "||"):
			var m node
			m, q = p.term(q, depth)
			n = either{n, m}
		default:
			return n, q
		}
	}
}

// term is a primitive, a comparison, a term in parentheses or a negated one. It
// returns the qualifiers that hold for a bare name behind it.
func (p *parser) term(q quals, depth int) (node, quals) {
	t := p.peek()
	if depth > maxDepth {
		p.fail(t, "is nested too deep")
	}
	switch {
	case p.accept("not", "!"):
		n, q := p.term(q, depth+1)
		return opposite{n}, q
	case p.beginsArithmetic():
		return p.relation(), quals{}
	case t.kind == sign && t.text == "(":
		p.pos++
		n, _ := p.expr(q, depth+1)
		p.expect(")")
		return n, q
	case t.kind == word && p.beginsPrimitive():
		return p.primitive(depth)
	}
	return p.id(q), q
}

// beginsArithmetic looks whether a comparison of numbers follows.
func (p *parser) beginsArithmetic() bool {
	t, next := p.peek(), p.ahead(1)
	switch t.kind {
	case sign:
		if t.text == "-" {
			return true
		}
		if t.text != "(" {
			return false
		}
		// The token after the parenthesis tells numbers from conditions.
		return operates(&p.tokens[t.pair+1])
	case number:
		return operates(next) && next.text != "/" || next.text == "/" && (p.ahead(2).kind != number || operates(p.ahead(3)))
	case word:
		if t.text == "len" {
			return true
		}
		if _, ok := constants[t.text]; ok {
			return true
		}
		return next.kind == sign && next.text == "["
	}
	return false
}

// operates reports whether a token joins or compares numbers.
func operates(t *token) bool {
	switch t.text {
	case "+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>", "<", ">", "<=", ">=", "=", "==", "!=":
		return t.kind == sign
	}
	return false
}

func isProto(s string) bool {
	_, l3 := etherTypes[s]
	_, l4 := ipProtocols[s]
	return l3 || l4 || links[s]
}

// beginsPrimitive reports whether the next word is one of the language.
func (p *parser) beginsPrimitive() bool {
	s := p.peek().text
	if isProto(s) || isWhat(s) {
		return true
	}
	switch s {
	case "src", "dst", "broadcast", "multicast", "less", "greater", "vlan", "mpls", "pppoed", "pppoes",
		"inbound", "outbound", "ifname", "on", "rnr", "rulenum", "reason", "rset", "ruleset", "srnr", "subrulenum", "action",
		"geneve", "atalk", "aarp", "ipx", "iso", "netbeui", "type", "subtype", "dir", "byte":
		return true
	}
	return false
}

func isWhat(s string) bool {
	switch s {
	case "host", "net", "port", "portrange", "proto", "protochain", "gateway":
		return true
	}
	return false
}

// primitive is qualifiers and what they qualify, or a word by itself.
func (p *parser) primitive(depth int) (node, quals) {
	first := p.peek()
	if n := p.alone(); n != nil {
		return n, quals{}
	}
	var q quals
	if isProto(first.text) {
		q.proto = p.next().text
		if links[q.proto] {
			q.proto = "ether"
		}
		if t := p.peek(); t.kind == word && (t.text == "broadcast" || t.text == "multicast") {
			p.pos++
			return p.cast(t, q.proto), quals{}
		}
	}
	if p.accept("src", "dst") {
		q.set, q.dir = true, srcOnly
		if p.tokens[p.pos-1].text == "dst" {
			q.dir = dstOnly
		}
		if t, o := p.peek(), p.ahead(1); o.kind == word && o.text != p.tokens[p.pos-1].text && (o.text == "src" || o.text == "dst") {
			switch {
			case p.accept("or", "||"):
				q.dir = srcOrDst
			case p.accept("and", "&&"):
				q.dir = srcAndDst
			default:
				p.fail(t, "does not join src and dst: write src or dst, or src and dst")
			}
			p.pos++
		}
	}
	if t := p.peek(); t.kind == word && isWhat(t.text) {
		p.pos++
		q.set, q.what = true, t.text
	}
	if !q.set {
		if q.proto == "ether" {
			p.fail(p.peek(), "does not belong after %s: host, src, dst, proto, broadcast, multicast or [ is expected", first.text)
		}
		return p.at.protocol(q.proto), quals{}
	}
	if t := p.peek(); t.kind == sign && t.text == "(" || t.kind == word && t.text == "not" || t.text == "!" {
		n, _ := p.term(q, depth+1)
		return n, q
	}
	return p.id(q), q
}

// number reads one, by name too.
func (p *parser) number(what string) uint32 {
	t := p.next()
	if t.kind == number {
		return t.num
	}
	if v, ok := constants[t.text]; ok && t.kind == word {
		return v
	}
	p.fail(t, "was found where %s is expected", what)
	return 0
}

// host asks for the addresses of a name.
func (p *parser) host(t *token) []netip.Addr {
	if p.names != nil {
		if l := p.names.Host(t.text); len(l) > 0 {
			return l
		}
	}
	p.fail(t, "is no address and no container with one: see vswitch ps")
	return nil
}

// net asks for the prefixes of a name.
func (p *parser) net(t *token) []netip.Prefix {
	if p.names != nil {
		if l := p.names.Net(t.text); len(l) > 0 {
			return l
		}
	}
	p.fail(t, "is neither a network's address nor its name: see vswitch network ls")
	return nil
}
