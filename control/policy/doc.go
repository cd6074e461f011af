// Package policy compiles who may speak to whom into the rows that the data path reads
// (dataplane.Rule): how networks were made, and rules that name networks, containers,
// labels, addresses and resolved names. It says which rule a row is of, in words. It asks
// nobody and holds no lock.
package policy
