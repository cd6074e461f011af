package api

// DNS is what a container wants beside the names of its neighbours.
type DNS struct {
	// Servers are asked for names outside, in the place of its network's or the host's.
	Servers []string `json:"servers,omitempty"`
	// Search and Options are for its resolv.conf, in the place of the host's. The domain "." is none.
	Search  []string `json:"search,omitempty"`
	Options []string `json:"options,omitempty"`
	// Hosts are names for it alone: NAME:ADDR, or NAME:host-gateway.
	Hosts []string `json:"hosts,omitempty"`
}

// HostGateway is the gateway of a container's first network, in the place of an address of Hosts.
const HostGateway = "host-gateway"
