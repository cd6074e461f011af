#include "textflag.h"

// func fetchLine(cell *uint64)
TEXT ·fetchLine(SB), NOSPLIT, $0-8
	MOVD cell+0(FP), R0
	PRFM (R0), PLDL1KEEP
	RET

// func fetchConn(c *conn)
TEXT ·fetchConn(SB), NOSPLIT, $0-8
	MOVD c+0(FP), R0
	PRFM (R0), PLDL1KEEP
	PRFM 64(R0), PLDL1KEEP
	PRFM 128(R0), PLDL1KEEP
	RET

// func fetchWindow(c *conn)
TEXT ·fetchWindow(SB), NOSPLIT, $0-8
	MOVD c+0(FP), R0
	PRFM 192(R0), PLDL1KEEP
	RET
