package control

import (
	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/dataplane/conntrack"
)

// masqueradePorts are the ports of the host's addresses that connections of containers
// may leave from: the ones that Config.MasqueradePorts names and no others, or the ones beside
// the host's own. last are the host's own.
func masqueradePorts(cfg *Config, up edge.Uplinks) (ports, last []conntrack.PortRange) {
	if len(cfg.masquerade) > 0 {
		return cfg.masquerade, nil
	}
	low, high := up.LocalPorts()
	return model.PortsBeside(low, high), []conntrack.PortRange{{First: low, Last: high}}
}
