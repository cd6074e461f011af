// Package server answers the daemon's HTTP+JSON interface on a unix socket. It
// turns requests into calls of a Backend and errors into statuses, bounds what a
// client may send, and writes captures as pcapng. It decides nothing.
//
// Who may connect is a matter of the socket's mode (0660) and of the directory
// around it (0750); there are no accounts.
package server
