package pcapfilter

import (
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/bpf"
)

// Names knows the names that an expression may use for addresses.
type Names interface {
	// Host returns the addresses of "host NAME", none when it does not exist.
	Host(name string) []netip.Addr
	// Gateway returns the MAC addresses of "gateway NAME" and its own addresses, of a
	// container or of a network's gateway; none when it does not exist.
	Gateway(name string) ([][6]byte, []netip.Addr)
	// Net returns the prefixes of "net NAME", none when it does not exist.
	Net(name string) []netip.Prefix
}

// MaxLen is the largest expression in bytes.
const MaxLen = 8192

// maxProgram is BPF_MAXINSNS.
const maxProgram = 4096

// Error says what is wrong with an expression, and where.
type Error struct {
	Expr  string
	At    int    // of the first wrong byte, counted from 0
	Token string // the wrong word, "" at the end of the expression
	Why   string
}

// Error is one line.
func (e *Error) Error() string {
	what := fmt.Sprintf("%q", e.Token)
	if e.Token == "" {
		what = "the end"
	}
	return fmt.Sprintf("filter %q: column %d: %s %s", e.Expr, e.At+1, what, e.Why)
}

func wrong(at int, token, format string, a ...any) *Error {
	return &Error{At: at, Token: token, Why: fmt.Sprintf(format, a...)}
}

// Compile makes a program of an expression: it returns a length above 0 for
// what matches. An empty expression matches everything. names may be nil. The
// error is an *Error.
func Compile(expr string, names Names) ([]bpf.Instruction, error) {
	if strings.TrimSpace(expr) == "" {
		return []bpf.Instruction{bpf.RetConstant{Val: accept}}, nil
	}
	prog, err := compile(expr, names)
	if err != nil {
		err.Expr = expr
		if len(expr) > 200 {
			err.Expr = expr[:200] + "..."
		}
		return nil, err
	}
	return prog, nil
}

func compile(expr string, names Names) (prog []bpf.Instruction, failed *Error) {
	if len(expr) > MaxLen {
		return nil, wrong(MaxLen, expr[MaxLen:MaxLen+1], "is one byte too many: an expression has at most %d", MaxLen)
	}
	defer func() {
		// The parser unwinds by panic, with this type only.
		switch r := recover().(type) {
		case nil:
		case *Error:
			prog, failed = nil, r
		default:
			panic(r)
		}
	}()
	tokens, err := lex(expr)
	if err != nil {
		return nil, err.(*Error)
	}
	p := &parser{tokens: tokens, names: names, at: layout{linkType: 12, payload: 14}}
	tree, _ := p.expr(quals{}, 0)
	if t := p.peek(); t.kind != end {
		p.fail(t, "does not belong here")
	}
	var c coder
	yes, no := c.label(), c.label()
	c.node(tree, yes, no)
	c.place(yes)
	c.emit(bpf.RetConstant{Val: accept})
	c.place(no)
	c.emit(bpf.RetConstant{Val: 0})
	prog = c.assemble()
	if len(prog) > maxProgram {
		return nil, wrong(0, tokens[0].text, "begins an expression of %d instructions, at most %d are allowed: make it shorter", len(prog), maxProgram)
	}
	return prog, nil
}

// accept is what a program returns for a match: all of the frame.
const accept = 262144
