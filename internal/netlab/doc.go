// Package netlab builds networks out of kernel namespaces: for tests, for
// `vswitch demo` and for benchmarks. A namespace here is anonymous: it is made
// on a thread of this process and held by a file descriptor, so it is gone when
// the process is gone, after a crash too, unless a child still runs inside.
//
// The package changes nothing in the namespace its caller lives in, holds no
// assertions (see labtest for those) and knows nothing of the switch.
package netlab
