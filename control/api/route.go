package api

// Route is one that a container gets through an interface. The default route is the
// network's affair.
type Route struct {
	To     string `json:"to"`               // CIDR
	Via    string `json:"via,omitempty"`    // empty: the network's gateway, without one the link
	Metric int    `json:"metric,omitempty"` // 0: the kernel's own
}
