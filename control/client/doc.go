// Package client speaks to a running daemon: the HTTP+JSON interface on its
// unix socket, one method for each request, answers in the types of control/api.
// The command line and the front ends of Docker, CNI, Podman and OCI hooks are
// built on it, and so may other programs be. It does not start daemons, print or
// retry.
//
//	c := client.New(client.Socket("/run/vswitch"))
//	defer c.Close()
//	web, err := c.Attach(ctx, api.Attach{Name: "web", Netns: "/run/netns/web", Publish: []string{"8080:80"}})
//
// A request that changes something is done whole or not at all, and to its end
// even when ctx ends first; the call then returns early. Attach, Detach and
// Release may be repeated: what exists is returned, and what is gone is no error.
//
// An error is one line for people. IsNotFound and IsConflict tell the two kinds
// that programs act upon, [ErrNoDaemon] that nobody answered; [Error] has the HTTP
// status of others. Whoever may open the socket (0660) may join any network
// namespace of the machine, so it is never to be handed into a container.
//
// docs/openapi.yaml describes the same for other languages; a test holds it, this
// package and the daemon together.
package client
