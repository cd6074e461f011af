// Package doctor looks for what keeps a switch from working: the kernel, rights,
// the host's network and what a daemon has made there. It changes nothing; what has
// to be tried it tries in a network namespace that exists only meanwhile. It works
// without a running daemon as far as that goes.
package doctor
