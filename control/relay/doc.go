// Package relay serves the host's own traffic to published ports that is not led to the container when it
// connects.
//
// A connection from the host to 127.0.0.1:8080 or to one of its own addresses
// never reaches a NIC, so the switch cannot see it. The relay is the other end:
// one TCP listener and one UDP socket for each family, to which a BPF program
// steers what goes to a published port. It accepts, looks up which container is
// meant, dials it over the network's TAP and copies both ways. UDP is carried by
// session, and answers bear the address and port that the client asked.
//
// It is a process of its own without rights (run), which outlives the daemon: that is at the other end
// of a socket (Client) and tells it where ports lead (Way). A relay of the version before finishes what it
// has while the next one takes what is new.
//
// Its size does not depend on the number of published ports: no socket, goroutine
// or process is bound to a port.
//
// The package does not load the BPF program (package kernel does) and does not carry traffic from
// outside or from containers: the data path does, with the client's real address.
package relay
