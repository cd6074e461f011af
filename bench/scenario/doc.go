// Package scenario says what is measured: one file for each path through the
// network (containers.go, masquerade.go, published.go), each a list of loads
// with the ratio to the kernel that is aimed at, and one file for each property
// of the daemon that the kernel has no like of (ports.go, publish.go).
//
// Loads are in load.go and frames.go; the systems they run on come from rig.
// The package neither repeats, interleaves nor judges; see the command bench.
package scenario
