// Package names says what a container is told of a name: the addresses of a neighbour, that
// there are none, or that the host's own name servers are to be asked. A container learns of the
// networks it is in and of no other.
//
// It knows containers and networks as values. Messages, sockets and what lies outside are
// control/resolver's.
package names
