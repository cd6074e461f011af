package cni

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/control/visible"
)

// defaultRunDir is where the daemon's socket is unless "socket" says otherwise.
const defaultRunDir = "/run/vswitch"

// config is a network configuration as a plugin gets it. Names are compared
// without regard to case, as encoding/json does: containerd writes HostPort
// where the convention says hostPort.
type config struct {
	types.PluginConf
	networkConfig

	Socket string        `json:"socket"`
	Routes []types.Route `json:"routes"`
	Guard  string        `json:"guard"`
	VLAN   int           `json:"vlan"`
	Trunk  string        `json:"trunk"`

	RuntimeConfig struct {
		PortMappings []portMapping   `json:"portMappings"`
		MAC          string          `json:"mac"`
		IPs          []string        `json:"ips"`
		IPRanges     [][]ipRange     `json:"ipRanges"`
		Bandwidth    json.RawMessage `json:"bandwidth"`
		Aliases      json.RawMessage `json:"aliases"`
		DNS          *runtimeDNS     `json:"dns"`
	} `json:"runtimeConfig"`

	// What the conventions have for the same, before capabilities.
	Args struct {
		CNI struct {
			IPs []string `json:"ips"`
			MAC string   `json:"mac"`
		} `json:"cni"`
	} `json:"args"`

	env envArgs
}

type portMapping struct {
	HostPort      int    `json:"hostPort"`
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"`
	HostIP        string `json:"hostIP"`
}

type runtimeDNS struct {
	Searches []string `json:"searches"`
	Servers  []string `json:"servers"`
	Options  []string `json:"options"`
}

// envArgs are the words of CNI_ARGS that mean something here.
type envArgs struct {
	types.CommonArgs
	IP                types.UnmarshallableString
	MAC               types.UnmarshallableString
	K8S_POD_NAME      types.UnmarshallableString //nolint:revive // the word on the wire
	K8S_POD_NAMESPACE types.UnmarshallableString
	K8S_POD_UID       types.UnmarshallableString
}

// parseConfig reads what every call gets.
func parseConfig(args *skel.CmdArgs) (*config, error) {
	c := new(config)
	if err := json.Unmarshal(args.StdinData, c); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return nil, badConfig("%s is a %s: want %s", strings.TrimPrefix(wrong.Field, "networkConfig."), wrong.Value, wrong.Type)
		}
		return nil, types.NewError(types.ErrDecodingFailure, visible.Line(fmt.Sprintf("network configuration: %v", err)), "")
	}
	if !strings.Contains(args.Args, "IgnoreUnknown") { // K8S_POD_INFRA_CONTAINER_ID and whatever comes
		c.env.IgnoreUnknown = true
	}
	if err := types.LoadArgs(args.Args, &c.env); err != nil {
		return nil, types.NewError(types.ErrInvalidEnvironmentVariables, visible.Line(fmt.Sprintf("CNI_ARGS: %v", err)), "")
	}
	return c, nil
}

func (c *config) socket() string {
	return cmp.Or(c.Socket, client.Socket(defaultRunDir))
}

// ips are the addresses that are asked for, those of the runtime before those of
// its conventions.
func (c *config) ips() []string {
	list := c.RuntimeConfig.IPs
	if len(list) == 0 {
		list = c.Args.CNI.IPs
	}
	if len(list) == 0 && c.env.IP != "" {
		list = strings.Split(string(c.env.IP), ",")
	}
	out := make([]string, 0, len(list))
	for _, ip := range list {
		addr, _, _ := strings.Cut(strings.TrimSpace(ip), "/") // the length is the subnet's
		out = append(out, addr)
	}
	return out
}

func (c *config) mac() string {
	return cmp.Or(c.RuntimeConfig.MAC, c.Args.CNI.MAC, string(c.env.MAC))
}

// publish writes port mappings as after -p. One without a host port only says
// what the container listens on.
func (c *config) publish() ([]string, error) {
	var list []string
	for _, m := range c.RuntimeConfig.PortMappings {
		if m.HostPort < 0 || m.HostPort > 65535 || m.ContainerPort < 1 || m.ContainerPort > 65535 {
			return nil, badConfig("portMappings: port %d to %d: ports are 1 to 65535", m.HostPort, m.ContainerPort)
		}
		if m.HostPort == 0 {
			continue
		}
		s := fmt.Sprintf("%d:%d/%s", m.HostPort, m.ContainerPort, cmp.Or(strings.ToLower(m.Protocol), "tcp"))
		switch {
		case m.HostIP == "":
		case strings.Contains(m.HostIP, ":"):
			s = "[" + strings.Trim(m.HostIP, "[]") + "]:" + s
		default:
			s = m.HostIP + ":" + s
		}
		list = append(list, s)
	}
	return list, nil
}

// aliases are further names, as a list or, in Podman's way, a list for each
// network.
func (c *config) aliases() ([]string, error) {
	raw := c.RuntimeConfig.Aliases
	if len(raw) == 0 {
		return nil, nil
	}
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		return list, nil
	}
	var byNetwork map[string][]string
	if err := json.Unmarshal(raw, &byNetwork); err != nil {
		return nil, badConfig("aliases: %v", err)
	}
	return byNetwork[c.Name], nil
}

// name is what people call the container: pod and namespace in the order of a
// domain name, or its identifier.
func (c *config) name(containerID string) string {
	if pod := string(c.env.K8S_POD_NAME); pod != "" {
		if ns := string(c.env.K8S_POD_NAMESPACE); ns != pod { // Podman has no other
			return client.FriendlyName(pod, ns)
		}
		return client.FriendlyName(pod)
	}
	return client.FriendlyName(client.ShortID(containerID))
}
