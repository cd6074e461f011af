// Package reserve keeps published ports from being stolen and from stealing. A
// port that a program of the host holds is refused, naming the program; a
// port that was taken is held so that a program that comes later gets
// EADDRINUSE.
//
// Up to HoldMax ports of a mapping are held by sockets that are bound and never
// read. File descriptors are finite, so a larger range is entered in
// net.ipv4.ip_local_reserved_ports instead: no program gets one of its ports by
// chance, one that binds it on purpose is not stopped.
// An SCTP port is neither: it is refused while an endpoint of the host has it, and
// a program that comes later is not stopped.
//
// The package does not carry traffic: packets to a published port are the data
// path's and, from the host itself, the relay's.
package reserve
