// Package kernel holds the BPF programs of the switch and the memory they share
// with it. The programs are assembled in Go, so building needs no clang.
//
// There are six, two maps that the last three read, and those of the flow table:
//
//	decide   socket filter of a container's AF_PACKET socket: keeps the frames of
//	         flows in the table from it, and marks them
//	seal     tc ingress of a host-side veth: carries out what is marked; of the
//	         rest the tap has its copy, and the host's stack gets nothing
//	host     tc egress of a network's TAP: carries out at once what is in the
//	         flow table of what the host sends
//	filter   socket filter of the uplink's AF_PACKET socket: accepts what is ours
//	guard    tc ingress of an uplink: keeps exactly that from the host's stack,
//	         which would answer with a reset or port unreachable
//	steer    sk_lookup of the namespace: the host's own connections to published
//	         ports reach the sockets of the relay
//
// A packet is ours when its destination is an address of the host that holds a
// slot and its destination port is claimed in either plane of dataplane.Claims.
// The planes are mapped into this process: a claim is one atomic instruction.
//
// Everything lives as long as the Kernel that Open returned. Nothing is pinned,
// so the death of the process takes all of it along and leaves the host as it
// was.
//
// The package does not attach the seal (control/host does, with netlink), does
// not open sockets, and does not decide which ports are claimed.
package kernel
