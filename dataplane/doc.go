// Package dataplane is the switch itself: it takes frames from ports, decides
// about them and hands them to other ports. It knows networks, addresses and
// flows by number; names, files, links and the API are control's.
//
// # The map
//
//	port.Receive -> parse -> vlan -> guard -> learn -> answer -> classify -+-> snoop -> storm (bridged) ---------------------+-> account -> egress -> flush -> port.Send
//	                                                                       +-> prerouting -> route -> offer -> postrouting --+
//	                                                                                           +-> waiting (bounded copy) -> parse, once the next hop is known
//	                                                                                           +-> reply (ICMP errors) -> flush
//
// Each stage is a file, a method of worker, and the prefix of its drop reasons.
// A batch of up to 64 frames of one port goes through all of them in one turn
// (turn.go); what is sent is flushed at its end, and only then the frames'
// memory goes back to the kernel.
//
// What offer named to the kernel's flow table does not come here any more: a program
// carries it on (flowtable.go) as decide says (decision.go), and every change asks
// decide again (revalidate.go).
//
// # Ownership
//
// Frames are borrowed from their port, or from the worker's arena, until the
// end of the turn. A stage that keeps a frame longer copies it: waiting, mirror,
// prerouting (fragments) and egress (floods) do.
//
// # Threads
//
// A worker is one thread; a port belongs to one worker, so frames of a port
// stay in order. Control reaches the path through the methods of Switch only.
//
//	state        writer           how workers read it
//	Snapshot     control, whole   atomic pointer, once a turn
//	neighbors    control, whole   atomic pointer
//	fdb          workers          RWMutex, held for a batch
//	groups       workers          RWMutex, for multicast under a querier and for reports
//	storm        one worker each  nothing: no other looks
//	conntrack    workers          64 shards, RWMutex each; two shards lower first
//	masquerade   workers          mutex, once for each new flow
//	host's peers control, whole   mutex, once for each new flow of SCTP or of a protocol without ports
//	fragments    workers          mutex, for fragments only
//	bridged flows one worker each mutex, once for each batch; readers lock a part at a time
//	waiting      workers          mutex, for frames without a next hop only
//	flow table   mutex, no worker nothing: offers go through a channel; a Conn's rows and a row's window are atomics
//	told         mutex, no worker nothing: BPF programs read it while nobody is there
//	counters     one worker each  atomics, summed by Stats
//
// Lock order: Switch.mu, then flowTable.mu, then any one of the locks of fdb.Table and
// fdb.Groups, conntrack's shard locks, fragments.mu, masquerade.mu; under shard locks
// one of conntrack's Table.locks, and under that one of masquerade.mu and Table.mu. Under
// shard locks alone that of the peers. Under told.mu there is none.
//
// A port that was unlinked is closed after a grace period: when every worker
// has left the turn it was in (Switch.grace). A conntrack.Conn needs none: it is touched
// under the lock of one of its shards, and unlinked under both.
package dataplane
