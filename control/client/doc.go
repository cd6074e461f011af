// Package client speaks to a running daemon: the HTTP+JSON interface on its
// unix socket, one method for each request, answers in the types of control/api.
// It does not start daemons, print or retry.
package client
