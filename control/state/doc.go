// Package state keeps what must survive a restart of the daemon in one bbolt
// file: the identity of the state directory, networks, and containers with their
// endpoints, addresses and published ports. A change is on disk when the method
// returns.
//
// The records are this package's own types: they can change without the API and
// the data path, and a schema number says which form they have. The package does
// not check them against each other or against the kernel; control does.
package state
