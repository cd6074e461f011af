package api

// NetworkUpdate is the body of PATCH /v1/networks/{name}: changes to an
// existing network and its containers. A missing field stays as it is.
type NetworkUpdate struct {
	ICC        *bool   `json:"icc,omitempty"`
	HostAccess *bool   `json:"host_access,omitempty"`
	DisableDNS *bool   `json:"disable_dns,omitempty"`
	Filter     *string `json:"filter,omitempty"` // one of the Filter constants
	// DNSAdd and DNSDrop change the list of DNSServers.
	DNSAdd  []string `json:"dns_add,omitempty"`
	DNSDrop []string `json:"dns_drop,omitempty"`
	// Exempt replaces the list of NetworkCreate, an empty one empties it.
	Exempt *[]string `json:"exempt,omitempty"`
	// Labels are set one by one; an empty value takes the label away.
	Labels map[string]string `json:"labels,omitempty"`
}

// Words of Filter: who may come in by the host's port that a container's own
// packets went out by (RFC 4787 section 5).
const (
	FilterAPDF = "apdf" // the address and port that was written to
	FilterEIF  = "eif"  // everybody, 120 s after the start of the daemon
)

// ContainerUpdate is the body of PATCH /v1/containers/{name}: changes to an
// existing container.
type ContainerUpdate struct {
	Name string `json:"name,omitempty"` // another one; "": as it is
	// Labels are set one by one; an empty value takes the label away.
	Labels map[string]string `json:"labels,omitempty"`
}
