// Package control decides what the switch does: it keeps the networks, the
// attached containers, their addresses and published ports, performs the kernel
// work behind them through control/host, control/kernel, control/reserve and
// control/relay, stores them with control/state and compiles all of it into the
// snapshot that the data path reads.
//
// It touches no frame, speaks no netlink itself and knows nothing of HTTP;
// control/server maps requests to the methods of Controller.
package control
