package pcapfilter

import "golang.org/x/net/bpf"

// node is a condition. Its code ends in a jump to one of two labels.
type node interface{ code(c *coder, yes, no label) }

type (
	// test does some straight instructions and compares what they leave in A,
	// with a number or with X.
	test struct {
		pre  []bpf.Instruction
		cond bpf.JumpTest
		val  uint32
		byX  bool
	}
	both     struct{ a, b node }
	either   struct{ a, b node }
	opposite struct{ a node }
	constant bool
)

func (n test) code(c *coder, yes, no label) {
	for _, i := range n.pre {
		c.emit(i)
	}
	if n.byX {
		c.jump(bpf.JumpIfX{Cond: n.cond}, yes, no)
		return
	}
	c.jump(bpf.JumpIf{Cond: n.cond, Val: n.val}, yes, no)
}

func (n both) code(c *coder, yes, no label) {
	next := c.label()
	c.node(n.a, next, no)
	c.place(next)
	c.node(n.b, yes, no)
}

func (n either) code(c *coder, yes, no label) {
	next := c.label()
	c.node(n.a, yes, next)
	c.place(next)
	c.node(n.b, yes, no)
}

func (n opposite) code(c *coder, yes, no label) { c.node(n.a, no, yes) }

func (n constant) code(c *coder, yes, no label) {
	if n {
		c.jump(bpf.Jump{}, yes, yes)
		return
	}
	c.jump(bpf.Jump{}, no, no)
}

// maxSteps is when to give up: a name may have any number of addresses.
const maxSteps = 4 * maxProgram

// allOf and oneOf join conditions; nil ones are left out.
func allOf(list ...node) node {
	return fold(list, func(a, b node) node { return both{a, b} })
}

func oneOf(list ...node) node {
	return fold(list, func(a, b node) node { return either{a, b} })
}

func fold(list []node, join func(a, b node) node) (n node) {
	for i := len(list) - 1; i >= 0; i-- {
		switch {
		case list[i] == nil:
		case n == nil:
			n = list[i]
		default:
			n = join(list[i], n)
		}
	}
	return n
}

type label int

// step is an instruction, with its jumps by label.
type step struct {
	ins     bpf.Instruction
	jumps   bool
	yes, no label
}

// coder writes a program. All jumps go forward.
type coder struct {
	steps  []step
	places []int // of each label, in steps
}

func (c *coder) label() label {
	c.places = append(c.places, -1)
	return label(len(c.places) - 1)
}

func (c *coder) place(l label) { c.places[l] = len(c.steps) }
func (c *coder) emit(i bpf.Instruction) {
	if len(c.steps) > maxSteps {
		panic(wrong(0, "", "is too far away: an expression has at most %d instructions", maxProgram))
	}
	c.steps = append(c.steps, step{ins: i})
}
func (c *coder) jump(i bpf.Instruction, yes, no label) {
	c.steps = append(c.steps, step{i, true, yes, no})
}
func (c *coder) node(n node, yes, no label) { n.code(c, yes, no) }

// assemble leaves out the loads of what A holds already, and puts distances in
// the place of labels.
func (c *coder) assemble() []bpf.Instruction {
	keep := c.loaded()
	// A conditional jump reaches 255 instructions far; one that has to go
	// further is followed by two plain jumps. Those make others longer.
	far := make([]bool, len(c.steps))
	at := make([]int, len(c.steps)+1)
	for {
		n := 0
		for i := range c.steps {
			at[i] = n
			if keep[i] {
				n++
				if far[i] {
					n += 2
				}
			}
		}
		at[len(c.steps)] = n
		again := false
		for i, s := range c.steps {
			if _, plain := s.ins.(bpf.Jump); !s.jumps || plain || far[i] || !keep[i] {
				continue
			}
			if at[c.places[s.yes]]-at[i]-1 > 255 || at[c.places[s.no]]-at[i]-1 > 255 {
				far[i], again = true, true
			}
		}
		if !again {
			break
		}
	}
	var out []bpf.Instruction
	for i, s := range c.steps {
		if !keep[i] {
			continue
		}
		if !s.jumps {
			out = append(out, s.ins)
			continue
		}
		yes, no := at[c.places[s.yes]]-len(out)-1, at[c.places[s.no]]-len(out)-1
		if far[i] {
			out = append(out, conditional(s.ins, 0, 1), bpf.Jump{Skip: uint32(yes - 1)}, bpf.Jump{Skip: uint32(no - 2)})
			continue
		}
		if _, plain := s.ins.(bpf.Jump); plain {
			out = append(out, bpf.Jump{Skip: uint32(yes)})
			continue
		}
		out = append(out, conditional(s.ins, uint8(yes), uint8(no)))
	}
	return out
}

func conditional(i bpf.Instruction, yes, no uint8) bpf.Instruction {
	switch j := i.(type) {
	case bpf.JumpIf:
		j.SkipTrue, j.SkipFalse = yes, no
		return j
	case bpf.JumpIfX:
		j.SkipTrue, j.SkipFalse = yes, no
		return j
	}
	panic("pcapfilter: no jump")
}

// held is what A is known to hold: the result of a load from a fixed place.
type held struct {
	known, reached bool
	load           bpf.LoadAbsolute
}

// meet is what is known where two ways come together.
func (h *held) meet(o held) {
	switch {
	case !h.reached:
		*h = o
		h.reached = true
	case !o.known || o.load != h.load:
		h.known = false
	}
}

// loaded marks the instructions that are needed: those that can be reached, except
// for loads of what A holds.
func (c *coder) loaded() []bool {
	keep := make([]bool, len(c.steps))
	state := make([]held, len(c.steps)+1)
	if len(c.steps) > 0 {
		state[0].reached = true
	}
	for i, s := range c.steps {
		h := state[i]
		if !h.reached {
			continue
		}
		keep[i] = true
		switch ins := s.ins.(type) {
		case bpf.LoadAbsolute:
			keep[i] = !h.known || h.load != ins
			h.known, h.load = true, ins
		case bpf.LoadMemShift, bpf.StoreScratch, bpf.TAX, bpf.JumpIf, bpf.JumpIfX, bpf.Jump:
		case bpf.LoadConstant:
			h.known = h.known && ins.Dst != bpf.RegA
		case bpf.LoadScratch:
			h.known = h.known && ins.Dst != bpf.RegA
		default:
			h.known = false
		}
		switch {
		case s.jumps:
			state[c.places[s.yes]].meet(h)
			state[c.places[s.no]].meet(h)
		default:
			if !returns(s.ins) {
				state[i+1].meet(h)
			}
		}
	}
	return keep
}

func returns(i bpf.Instruction) bool {
	_, ok := i.(bpf.RetConstant)
	return ok
}
