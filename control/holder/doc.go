// Package holder keeps descriptors while there is no daemon.
//
// The kernel ends a TAP, the link of sk_lookup and sockets with their last descriptor, and so
// with the daemon, unless another process has them open too. The holder is that process:
// a child of the daemon that outlives it, and has nothing to do but to keep what it was
// given, by name, and to give it to the next daemon. Without a daemon it watches the
// cables of the containers: when the last is gone it removes what the daemon has left
// attached elsewhere, and ends, and what it kept ends with it.
//
// The daemon is the client (Open), the holder the server (Main). Both ends run as the same
// user, and ask the kernel who the other is. They speak by a socket of whole messages
// (SOCK_SEQPACKET) in the run directory, with descriptors beside the bytes (SCM_RIGHTS).
package holder
