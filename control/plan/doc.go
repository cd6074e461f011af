// Package plan says how a change is applied: its steps, their order, and the inverse of
// each. A plan is data. Package control performs its steps; this package knows no kernel,
// disk or lock.
//
// The order is the same for every change, and keeps two promises. An endpoint is on disk
// before frames pass it, so that a daemon that is killed leaves no container that the next
// one does not know; and a full disk changes nothing.
package plan
