// Package metrics says in Prometheus' words what the switch counts: a collector
// that reads the daemon once for each scrape, the latency of its API, and the
// process itself. docs/metrics.md explains every name; a test compares the two.
//
// Labels are bounded: names of containers and networks, addresses of the host, and
// words of the code. Nothing that a packet carries becomes a label.
package metrics
