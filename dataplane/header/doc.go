// Package header reads and rewrites the protocol headers of one Ethernet frame:
// up to two VLAN tags, ARP, IPv4 and IPv6, TCP, UDP and the ICMP messages that
// carry a flow or quote one, SCTP's ports. Parse is a single bounds-checked pass; what it
// accepted, the other functions rewrite in place and keep its checksums as true
// or as false as they were (RFC 1624).
//
// Nothing here allocates, keeps a frame beyond the call or holds state, so all
// functions are safe for concurrent use on different frames. Slices are
// borrowed for the length of the call.
//
// What this package does not do: it verifies no checksum (an error stays an
// error until the receiver drops it), reassembles no fragments, and judges no
// address or port beyond what makes a packet ambiguous. DCCP, UDP-Lite, AH and
// tunnels are KindIP: carried, never translated. IPv6 jumbograms and the
// kernel's BIG TCP packets, whose IP length is 0, are malformed to Parse: a port cuts
// such segments before (Super).
package header
