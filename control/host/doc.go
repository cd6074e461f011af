// Package host is the kernel's side of the network: links, addresses, routes,
// neighbours and sockets of the namespace the daemon runs in, and the ends of
// veth pairs in the namespaces of containers. Together with internal/netlab it
// is the only importer of vishvananda/netlink.
//
// A Host belongs to the network namespace its process is in. Work inside
// another one goes through a netlink socket opened there (Netns), never by
// moving a goroutine: a thread enters the namespace only for the one system call
// that makes the socket.
//
// Everything here is a question to the kernel or an order to it. The package
// keeps no copy of what it read, decides nothing about networks or containers,
// and touches neither netfilter nor ip_forward.
package host
