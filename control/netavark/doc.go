// Package netavark is a plugin of netavark, the network program of Podman from
// version 4.5 on (https://github.com/containers/netavark/blob/main/plugin-API.md):
// a thin client that says to the daemon what Podman says on standard input. It
// holds no state.
//
// Podman hands out the addresses and remembers its networks itself. It tells a
// plugin when a network is made, and never that it is removed: so the daemon's
// network is made with the first container and goes with the last.
package netavark
