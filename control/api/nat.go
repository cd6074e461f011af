package api

// NATEntry is a row of GET /v1/nat: one translated connection.
type NATEntry struct {
	Proto     string  `json:"proto"`
	State     string  `json:"state"`
	Kind      string  `json:"kind"` // masquerade, publish, hairpin
	Container string  `json:"container,omitempty"`
	Source    string  `json:"source"`      // as the first packet came
	Dest      string  `json:"destination"` // as the first packet came
	NATSource string  `json:"nat_source"`  // as it left
	NATDest   string  `json:"nat_destination"`
	Shared    bool    `json:"shared_port,omitempty"` // its port serves flows of others to other peers
	Packets   uint64  `json:"packets"`
	Bytes     uint64  `json:"bytes"`
	Age       float64 `json:"age"`     // seconds
	Expires   float64 `json:"expires"` // seconds
}

// NATFlush is the body of POST /v1/nat/flush. An empty one selects every
// translated connection.
type NATFlush struct {
	Container string `json:"container,omitempty"` // only of this container
	Proto     string `json:"proto,omitempty"`     // only this protocol: tcp, udp, icmp, sctp
}

// NATFlushed is the answer to NATFlush.
type NATFlushed struct {
	Count int `json:"count"` // connections forgotten
}
