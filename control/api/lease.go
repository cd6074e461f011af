package api

// SubnetRequest is the body of POST /v1/subnets/free: which subnet a new network
// could have. Nothing is reserved until the network is made.
type SubnetRequest struct {
	// Subnet is checked when it is given, else one is chosen.
	Subnet string `json:"subnet,omitempty"`
	IPv6   bool   `json:"ipv6,omitempty"` // the family to choose from
	// Except are subnets that others were told, in CIDR.
	Except []string `json:"except,omitempty"`
}

// FreeSubnet is the answer to SubnetRequest.
type FreeSubnet struct {
	Subnet  string `json:"subnet"`  // CIDR
	Gateway string `json:"gateway"` // what its gateway would be
}

// LeaseRequest is the body of POST /v1/networks/{name}/leases: an address for a
// container that its runtime attaches by and by. It is kept two minutes, or until
// it is given back or the runtime attaches a container with it; a restart of the
// daemon forgets it.
type LeaseRequest struct {
	Runtime string `json:"runtime"` // who alone may attach with it
	Address string `json:"address,omitempty"`
	IPv6    bool   `json:"ipv6,omitempty"`   // the family to choose from, without Address
	Within  string `json:"within,omitempty"` // CIDR to choose from, in place of the network's range
}

// Lease is the answer to LeaseRequest.
type Lease struct {
	Address string `json:"address"` // CIDR
}
