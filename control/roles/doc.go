// Package roles says what a process of this host may do by the API's socket: read, capture,
// or change things.
//
// Whom the socket's mode lets in may do all, as ever: root, its owner, its group, and whoever
// the host's administrator adds by hand. Three groups, where the host has them, are let in
// by access lists of the socket and its directory: vswitch-admin may change, vswitch-capture
// read and capture, vswitch-ro read. A member of several may what any of them may.
//
// The kernel notes user and groups of a process as it connects (SO_PEERCRED, SO_PEERGROUPS), so a
// connection that is handed on keeps its role.
package roles
