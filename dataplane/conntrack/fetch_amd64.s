#include "textflag.h"

// func fetchLine(cell *uint64)
TEXT ·fetchLine(SB), NOSPLIT, $0-8
	MOVQ cell+0(FP), AX
	PREFETCHT0 (AX)
	RET

// func fetchConn(c *conn)
TEXT ·fetchConn(SB), NOSPLIT, $0-8
	MOVQ c+0(FP), AX
	PREFETCHT0 (AX)
	PREFETCHT0 64(AX)
	PREFETCHT0 128(AX)
	RET

// func fetchWindow(c *conn)
TEXT ·fetchWindow(SB), NOSPLIT, $0-8
	MOVQ c+0(FP), AX
	PREFETCHT0 192(AX)
	RET
