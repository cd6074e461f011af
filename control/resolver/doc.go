// Package resolver answers the names that containers ask for at the gateways of their networks.
//
// It is a process of its own without rights (Main), which reads what strangers send; the daemon
// is at the other end of a socket (Start) and tells it who is called what (control/names). Other
// names it asks the host's name servers for, as the host itself would (resolv.conf(5)).
// It goes on with what it knows when the daemon ends, until the holder has ended too.
//
// Its sockets are bound to no port that a name server could have: the daemon leads to them what
// containers send to port 53 of a gateway (control/kernel), and UDP answers leave by a raw
// socket, as the relay's do (control/anyport).
//
// Of all that is bounded a container has a share: datagrams that wait, names that are being asked
// outside, connections, answers that are kept. One that has most gives.
package resolver
