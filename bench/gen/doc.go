// Package gen makes load and measures it: TCP bulk in both directions, requests
// and responses over TCP and UDP, TCP connections, and raw Ethernet frames at
// full speed, at a given rate, over many flows, and with the time in them.
//
// Load runs in processes of its own inside the network namespaces under test,
// one for each end, so that the two ends share neither a scheduler nor a
// garbage collector with one another or with the benchmark. Such an agent is
// this same executable started again with a Spec in its environment; main must
// therefore call RunIfAgent before anything else. Inside an agent each
// conversation has a locked thread and blocking sockets, as a C program would:
// Go's poller would otherwise be part of every round trip.
//
// An agent ends when its standard input does, so none outlives the benchmark.
//
// The package makes no namespaces and no links, and it sends only to the
// addresses it is told. Every load ends after its window.
package gen
