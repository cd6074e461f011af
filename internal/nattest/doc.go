// Package nattest drives the same traffic through this NAT and through that of
// Linux (conntrack with nft rules like Docker's) in the same topology, compares
// what every station of the two worlds gets, and explains each kind of
// difference by the requirement that demands it. It holds tests only and measures
// nothing.
package nattest
