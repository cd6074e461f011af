// Package kernel holds the BPF programs of the switch and the memory they share
// with it. The programs are C, in bpf; "make generate" compiles them into an object that
// is kept with the sources, so that building needs no clang.
//
// There are these, and the maps of claims and of the flow table that they read:
//
//	decide   socket filter of a container's AF_PACKET socket: keeps the frames of
//	         flows in the table from it, and marks them
//	seal     tc ingress of a host-side veth: carries out what is marked; of the
//	         rest the tap has its copy, and the host's stack gets nothing. What no
//	         filter has seen it looks up itself: nobody is there; then it also
//	         answers who asks for a MAC address
//	host     tc egress of a network's TAP: carries out at once what is in the
//	         flow table of what the host sends; tells the switch what others have
//	         sent and the host forwards; answers the host likewise
//	forwarded  tc egress of a network's TAP, before all others: marks what the host
//	         forwards
//	filter   socket filter of the uplink's AF_PACKET socket: accepts what is ours
//	shield   tc ingress of an uplink: keeps exactly that from the host's stack,
//	         which would answer with a reset or port unreachable
//	steer    sk_lookup of the namespace: the host's own connections to published
//	         ports reach the sockets of the relay
//	created, bound4, bound6, released  hooks of a cgroup: count the host's UDP
//	         sockets at each port
//	clock    is run by the switch alone: tells the jiffies
//	there    host goes on with it as long as the process lives
//
// A packet is ours when its destination is an address of the host that holds a
// slot, and both its ends are claimed (flowmap.Peer) or its destination port is, in
// either plane (flowmap.ClaimPlane). The planes are mapped into this process: a claim
// there is one atomic instruction, that of a flow a system call.
//
// To change a program, change the file in bpf that has the word:
//
//	vswitch.bpf.c          the programs as the order of their stages
//	packet.h               the context of a program, and how a packet is read
//	flowmap.h              the memory that both sides share: package flowmap in C
//	parse.h                makes a key of a frame
//	flow.h, track.h        the flow table; a connection's numbers
//	decide.h               who carries a frame
//	mark.h                 what the filter tells the program after it
//	rewrite.h, execute.h   what is done with a frame
//	answer.h               who asks for a MAC address while nobody is there
//	prove.h                whether a partial checksum is where it belongs
//	walk.h, classify.h     the headers of a packet; whose it is
//	claim.h, fragment.h    what is claimed; where later fragments go
//	socket.h               sockets of the host that a packet would reach
//	bind.h                 the UDP ports that sockets of the host hold
//	steer.h                the sockets of the relay
//	jump.h                 from a short program to the long one; whether the process lives
//
// Then say the same in dataplane/flowmap/flowtest, the programs in plain Go: TestSides runs
// both.
//
// A program runs on Linux 5.10. So there is no fetch-and-add and no compare-and-swap
// (5.12), and a socket filter takes no bpf_spin_lock.
//
// What is attached to an interface outlives the process, with the maps that it reads: flows
// that the kernel carries go on (ADR 36). Nothing is pinned, so the rest lives as long as
// the Kernel that Open returned.
//
// The package does not attach the seal (control/host does, with netlink), does
// not open sockets, and does not decide which ports are claimed.
package kernel
