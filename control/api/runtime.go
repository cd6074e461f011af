package api

import "context"

// Words of Attach.Runtime, for the front ends that come with the switch. Another
// caller may use a word of its own; "" is a container attached by hand.
const (
	RuntimeDocker = "docker"
	RuntimeCNI    = "cni"
	RuntimePodman = "podman"
	RuntimeOCI    = "oci"
)

// Runtimes are these words.
var Runtimes = []string{RuntimeDocker, RuntimeCNI, RuntimePodman, RuntimeOCI}

// ContainerFilter selects containers: the query of GET /v1/containers. Empty
// fields select all.
type ContainerFilter struct {
	Runtime   string `json:"runtime,omitempty"`
	RuntimeID string `json:"runtime_id,omitempty"`
	Network   string `json:"network,omitempty"` // name or ID
	// Select is a word for containers: NAME, RUNTIME:NAME, an address, an ID or its beginning,
	// service:NAME, project:NAME, label:KEY or label:KEY=VALUE; a bare word that no container
	// has is that of a service or else of a project. Without any it is an error.
	Select string `json:"select,omitempty"`
}

// Release is the body of POST /v1/release: it undoes what a runtime attached,
// knowing nothing but the runtime's own words. What is not there is no error.
type Release struct {
	Runtime   string `json:"runtime"`
	RuntimeID string `json:"runtime_id"`
	// Ifname is the one interface to take away; with the last, or without a name,
	// the container goes. Published ports that no other interface can serve go
	// with it.
	Ifname string `json:"ifname,omitempty"`
}

// GC is the body of POST /v1/gc: it releases what a runtime attached and knows
// no more.
type GC struct {
	Runtime string `json:"runtime"` // "" is refused: nobody lists what was attached by hand
	// Network bounds it to interfaces in one network, by the name that the runtime
	// has for it (Connect.RuntimeNetwork). "": all.
	Network string `json:"network,omitempty"`
	// Valid are the attachments to keep. Missing or null nothing is released; an
	// empty list keeps nothing.
	Valid []Attachment `json:"valid"`
}

type asRuntime struct{}

// AsRuntime marks what a front end asks for because its runtime does: the ports that it publishes
// are the runtime's, which others are not.
func AsRuntime(ctx context.Context) context.Context {
	return context.WithValue(ctx, asRuntime{}, true)
}

// IsRuntime reports whether a request is marked by AsRuntime.
func IsRuntime(ctx context.Context) bool { return ctx.Value(asRuntime{}) != nil }

// Attachment is one interface of a container, in the words of its runtime.
type Attachment struct {
	RuntimeID string `json:"runtime_id"`
	Ifname    string `json:"ifname,omitempty"` // "" in a list of valid ones: all of the container
}

// Collected is the answer to GC.
type Collected struct {
	Released []Attachment `json:"released"`
}

// LabelDockerNetwork is the label with the name that Docker's user gave a network.
const LabelDockerNetwork = "com.docker.network.name"

// LabelDockerPool is on a network of which Docker's own IPAM gives out the addresses, from the
// lowest on: others take theirs from the other end.
const LabelDockerPool = "org.vswitch.docker.pool"

// Labels that say what a container is there as: the project and the service of Compose, and
// the names that others in its networks have for it, with commas.
const (
	LabelProject = "com.docker.compose.project"
	LabelService = "com.docker.compose.service"
	LabelAliases = "org.vswitch.aliases"
)

// Labels that say which container an interface is of, where a runtime attaches each
// interface by itself: the runtime's ID of the container, the file that holds its network
// namespace, the name that its user gave it, and, where one of several is its way out, which.
const (
	LabelContainerID   = "com.docker.container.id"
	LabelSandbox       = "org.vswitch.sandbox"
	LabelContainerName = "com.docker.container.name"
	// LabelPodUID is on a pod of Kubernetes: what the plugin was told of it.
	LabelPodUID = "io.kubernetes.pod.uid"
	LabelWayOut = "org.vswitch.way-out"
)
