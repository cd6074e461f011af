// Package talk is a lab whose containers, host and world talk to each other in every way that
// the switch knows, and notice what becomes of it.
//
// It is for tests only.
package talk
