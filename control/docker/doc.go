// Package docker is Docker's remote NetworkDriver and IpamDriver: the protocol
// that dockerd speaks to a plugin's socket, JSON over HTTP, turned into calls of
// the daemon's own interface. It keeps nothing: a Docker network is a label on a
// network, an endpoint is a container whose RuntimeID is the endpoint's ID, and
// what Docker asks for next is read from there. So a restart of either side needs
// no replay, which Docker would not give either.
//
// Every call may be repeated: dockerd calls again when the connection broke, and
// cannot know how far the first one got. No call waits for dockerd: it holds locks
// while it waits for us. What it does not send, the names that users gave, is
// asked for apart, by Names.
package docker
