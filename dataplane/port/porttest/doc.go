// Package porttest is port.Port in memory, for tests of what stands behind
// ports. A Port keeps the contract harder than the kernel does: the memory of
// received frames is overwritten when it is released, so that whoever keeps a
// frame too long reads rubbish, and a second worker in Receive is a panic.
//
// It moves frames, and simulates neither devices nor networks.
package porttest
