package resolver

import (
	"encoding/json"
	"net"

	"github.com/vswitch/vswitch/control/names"
)

// message is what the daemon tells the resolver: one thing.
type message struct {
	Network       *names.Network   `json:"network,omitempty"`
	Container     *names.Container `json:"container,omitempty"`
	DropNetwork   string           `json:"drop_network,omitempty"`
	DropContainer string           `json:"drop_container,omitempty"`
	// Begin: all has been told that there is. Nobody is answered before.
	Begin bool `json:"begin,omitempty"`
}

// apply enters what was told.
func (m *message) apply(z *names.Zone) {
	switch {
	case m.Network != nil:
		z.PutNetwork(*m.Network)
	case m.Container != nil:
		z.PutContainer(*m.Container)
	case m.DropNetwork != "":
		z.DropNetwork(m.DropNetwork)
	case m.DropContainer != "":
		z.DropContainer(m.DropContainer)
	}
}

// report is what the resolver tells the daemon. One that there is no room for is lost.
type report struct {
	Server *Server `json:"server,omitempty"`
	Stats  *Stats  `json:"stats,omitempty"`
	// Failed is why there is no resolver: it ends.
	Failed string `json:"failed,omitempty"`
}

// maxMessage is the longest, in either direction: a container of some thousand names.
const maxMessage = 256 << 10

// socketBuffer is what may be told and is not read yet, as far as the kernel lets it be.
const socketBuffer = 4 << 20

func write(c net.Conn, v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		_, err = c.Write(b)
	}
	return err
}
