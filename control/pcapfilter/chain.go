package pcapfilter

import "golang.org/x/net/bpf"

// maxChain is how many headers "protochain" walks over: BPF has no loops, and
// the switch drops what has more.
const maxChain = 8

// chain walks the headers behind an IP header, X bytes from net, for a protocol.
type chain struct {
	net   uint32
	proto uint32
	start []bpf.Instruction // leave the first protocol in A, its header's offset in X
	skips []uint32          // headers whose length is in units of 8 bytes
}

func chain4(net, proto uint32) node {
	return chain{net: net, proto: proto, start: []bpf.Instruction{
		bpf.LoadAbsolute{Off: net + 9, Size: 1}, bpf.LoadMemShift{Off: net},
	}}
}

func chain6(net, proto uint32) node {
	return chain{net: net, proto: proto, skips: []uint32{0, 60, 43, protoFrag}, start: []bpf.Instruction{
		bpf.LoadAbsolute{Off: net + 6, Size: 1}, bpf.LoadConstant{Dst: bpf.RegX, Val: 40},
	}}
}

func (n chain) code(c *coder, yes, no label) {
	const authentication = 51
	for _, i := range n.start {
		c.emit(i)
	}
	is := func(v uint32, then label) {
		next := c.label()
		c.jump(bpf.JumpIf{Cond: bpf.JumpEqual, Val: v}, then, next)
		c.place(next)
	}
	// Over a header: its first byte is the next protocol, its second its length.
	over := func(plus, unit uint32) {
		c.emit(bpf.LoadIndirect{Off: n.net, Size: 1})
		c.emit(bpf.StoreScratch{Src: bpf.RegA, N: 0})
		c.emit(bpf.LoadIndirect{Off: n.net + 1, Size: 1})
		c.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAdd, Val: plus})
		c.emit(bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: unit})
		c.emit(bpf.ALUOpX{Op: bpf.ALUOpAdd})
		c.emit(bpf.TAX{})
		c.emit(bpf.LoadScratch{Dst: bpf.RegA, N: 0})
	}
	for range maxChain {
		next, skip, ah := c.label(), c.label(), c.label()
		is(n.proto, yes)
		for _, v := range n.skips {
			is(v, skip)
		}
		is(authentication, ah)
		c.jump(bpf.Jump{}, no, no)
		if len(n.skips) > 0 {
			c.place(skip)
			over(1, 8)
			c.jump(bpf.Jump{}, next, next)
		} else {
			c.place(skip)
		}
		c.place(ah)
		over(2, 4)
		c.place(next)
	}
	c.jump(bpf.JumpIf{Cond: bpf.JumpEqual, Val: n.proto}, yes, no)
}
