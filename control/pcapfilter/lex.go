package pcapfilter

import (
	"net/netip"
	"strconv"
	"strings"
)

type kind uint8

const (
	end    kind = iota
	word        // a keyword or a name
	escape      // a name after a backslash: no keyword
	number
	ipv4 // 10, 10.1.2 or 10.1.2.3, with a dot
	ipv6
	mac
	sign // an operator or a bracket
)

type token struct {
	kind kind
	text string
	at   int // of its first byte in the expression
	num  uint32
	bits int // of an ipv4 token: 16, 24 or 32
	addr netip.Addr
	mac  [6]byte
	pair int // of an opening parenthesis: the index of the token that closes it
}

// signs are tried in this order, so that the longer comes first.
var signs = []string{"<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "(", ")", "[", "]", ":", "!", "<", ">", "=", "&", "|", "^", "+", "-", "*", "/", "%"}

// lex cuts an expression into tokens; the last is of kind end.
func lex(text string) ([]token, error) {
	var list []token
	var open []int
	for at := 0; ; {
		for at < len(text) && strings.IndexByte(" \t\n\r", text[at]) >= 0 {
			at++
		}
		if at == len(text) {
			break
		}
		t, err := next(text, at)
		if err != nil {
			return nil, err
		}
		switch t.text {
		case "(":
			open = append(open, len(list))
		case ")":
			if len(open) == 0 {
				return nil, wrong(at, ")", "closes nothing")
			}
			list[open[len(open)-1]].pair = len(list)
			open = open[:len(open)-1]
		}
		list = append(list, t)
		at += len(t.text)
		if t.kind == escape {
			at++
		}
	}
	if len(open) > 0 {
		t := list[open[len(open)-1]]
		return nil, wrong(t.at, "(", "is not closed")
	}
	return append(list, token{kind: end, at: len(text)}), nil
}

// next reads the token that begins at a byte.
func next(text string, at int) (token, error) {
	rest := text[at:]
	if rest[0] == '\\' {
		name := rest[1 : 1+run(rest[1:], isName)]
		if name == "" {
			return token{}, wrong(at, `\`, "must come before a name")
		}
		return token{kind: escape, text: name, at: at}, nil
	}
	if t, ok := address(rest); ok {
		t.at = at
		return t, nil
	}
	if isAlnum(rest[0]) {
		t, err := plain(rest, at)
		return t, err
	}
	for _, s := range signs {
		if strings.HasPrefix(rest, s) {
			return token{kind: sign, text: s, at: at}, nil
		}
	}
	for _, r := range rest {
		return token{}, wrong(at, string(r), "belongs to no filter")
	}
	panic("unreachable: rest is not empty")
}

// address reads a MAC or an IPv6 address: what has two colons is no
// "expression : size".
func address(rest string) (token, bool) {
	s := rest[:run(rest, func(c byte) bool { return isHex(c) || c == ':' || c == '.' })]
	if strings.Count(s, ":") >= 2 && (len(s) == len(rest) || !isName(rest[len(s)])) {
		if m, ok := parseMAC(s, ":"); ok {
			return token{kind: mac, text: s, mac: m}, true
		}
		if a, err := netip.ParseAddr(s); err == nil {
			return token{kind: ipv6, text: s, addr: a}, true
		}
	}
	s = rest[:run(rest, func(c byte) bool { return isHex(c) || c == '-' || c == '.' })]
	if len(s) == len(rest) || !isName(rest[len(s)]) {
		if m, ok := parseMAC(s, "-"); ok {
			return token{kind: mac, text: s, mac: m}, true
		}
		if p := strings.Split(s, "."); len(p) == 3 && len(s) == 14 && len(p[0]) == 4 && len(p[1]) == 4 { // aabb.ccdd.eeff
			if m, ok := parseMAC(s[:2]+":"+s[2:4]+":"+s[5:7]+":"+s[7:9]+":"+s[10:12]+":"+s[12:], ":"); ok {
				return token{kind: mac, text: s, mac: m}, true
			}
		}
	}
	return token{}, false
}

func parseMAC(s, sep string) (m [6]byte, ok bool) {
	p := strings.Split(s, sep)
	if len(p) != 6 {
		return m, false
	}
	for i, h := range p {
		v, err := strconv.ParseUint(h, 16, 8)
		if err != nil || len(h) > 2 {
			return m, false
		}
		m[i] = byte(v)
	}
	return m, true
}

// plain reads a number, an IPv4 address or a word, whichever takes more.
func plain(rest string, at int) (token, error) {
	n := run(rest, isName)
	for n > 0 && (rest[n-1] == '-' || rest[n-1] == '_') {
		n-- // "len-" is a word and a sign
	}
	s := rest[:n]
	if v, err := strconv.ParseUint(s, 0, 64); err == nil && (isDigits(s) || strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X")) && !strings.Contains(s, "_") || isDigits(s) && err != nil {
		if err != nil || v > 0xffffffff {
			return token{}, wrong(at, s, "is no number of 32 bits")
		}
		return token{kind: number, text: s, at: at, num: uint32(v)}, nil
	}
	if p := strings.Split(s, "."); len(p) >= 2 && len(p) <= 4 {
		var v uint32
		good := true
		for _, o := range p {
			b, err := strconv.ParseUint(o, 10, 32)
			if err == nil && b > 255 {
				return token{}, wrong(at, s, "is no IPv4 address")
			}
			good = good && err == nil
			v = v<<8 | uint32(b)
		}
		if good {
			bits := 8 * len(p)
			return token{kind: ipv4, text: s, at: at, num: v << (32 - bits), bits: bits}, nil
		}
	}
	return token{kind: word, text: s, at: at}, nil
}

func run(s string, of func(byte) bool) int {
	for i := range len(s) {
		if !of(s[i]) {
			return i
		}
	}
	return len(s)
}

func isDigits(s string) bool {
	return run(s, func(c byte) bool { return '0' <= c && c <= '9' }) == len(s)
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func isName(c byte) bool { return isAlnum(c) || c == '-' || c == '_' || c == '.' }
