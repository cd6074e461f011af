// Command vswitch is the switch's one binary: the daemon, and the command line
// that talks to it over the HTTP+JSON interface on RUN-DIR/vswitch.sock.
//
// The commands only turn flags into api values and api values into tables or
// JSON. What a name, an address or a port may be is decided by the daemon, whose
// error message is printed as it came, so that every client gets the same one.
//
// Two entry points are not commands: started under the name in runInitName the
// binary is the first process of `vswitch run`, under the one in demoContainerName
// it is a container of `vswitch demo`.
//
// This package does not touch links, addresses, routes or BPF programs; that is
// the daemon's work (package control and below).
package main
