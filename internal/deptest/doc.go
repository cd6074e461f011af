// Package deptest holds the tests of the source tree itself: which package may
// import which, and how long a file may be. Each rule carries its reason, which
// is what a failing test prints. It tests no behaviour.
package deptest
