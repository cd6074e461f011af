// Package state keeps what must survive a restart of the daemon: the identity of the
// state directory, networks, and containers with their endpoints, addresses and
// published ports. A change is on disk when the method returns.
//
// It keeps it twice, in a bbolt file whose records have checksums (pages.go) and in a
// copy of lines that have theirs (copy.go): what is damaged in one is taken from the
// other (load.go), and the damaged file is made anew. A disk that is full or read-only
// refuses changes and nothing else (ADR 35).
//
// The records are this package's own types: they can change without the API and
// the data path, and a schema number says which form they have. The package does
// not check them against each other or against the kernel; control does.
package state
