package docker

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vswitch/vswitch/control/api"
)

// Keys of Docker's own in a request's Options.
const (
	optGeneric  = "com.docker.network.generic"
	optInternal = "com.docker.network.internal"
	optIPv6     = "com.docker.network.enable_ipv6"
	optIPv4     = "com.docker.network.enable_ipv4"
	optPorts    = "com.docker.network.portmap"
	optExposed  = "com.docker.network.endpoint.exposedports"
	ownPrefix   = "org.vswitch."
	dockerKeys  = "com.docker."
)

// settings are what of a Docker network's options matters to its endpoints. They
// are kept as the value of the label by which the Docker network is known.
type settings struct {
	// Guest: the network stood before, and stays when Docker's is removed.
	Guest bool `json:"guest,omitempty"`
	// NoGateway: Docker's network is internal, though the one it stands for is not.
	NoGateway bool          `json:"no_gateway,omitempty"`
	HostIP    string        `json:"host_ip,omitempty"` // of ports that name none
	Prefix    string        `json:"prefix,omitempty"`  // of interface names, default eth
	Routes    []staticRoute `json:"routes,omitempty"`  // beside the default route
}

// staticRoute is a route as Join gives it.
type staticRoute struct {
	Destination string // CIDR
	RouteType   int    // 0: by NextHop; 1: on the link
	NextHop     string `json:",omitempty"`
}

// option applies the value of a key that follows -o.
type option func(in *api.NetworkCreate, s *settings, value string) error

// networkOptions are the keys that a network may have: Docker's for its bridge,
// with the same meaning, and our own.
var networkOptions = map[string]option{
	"com.docker.network.driver.mtu": mtuOption,
	"mtu":                           mtuOption,
	"com.docker.network.bridge.name": func(in *api.NetworkCreate, _ *settings, v string) error {
		in.Interface = v
		return nil
	},
	"com.docker.network.bridge.enable_icc": func(in *api.NetworkCreate, _ *settings, v string) error {
		return setBool(&in.ICC, v)
	},
	// Without masquerade packets leave with the container's own address, which is
	// what the gateway mode routed means.
	"com.docker.network.bridge.enable_ip_masquerade": func(in *api.NetworkCreate, _ *settings, v string) error {
		var on *bool
		if err := setBool(&on, v); err != nil || *on {
			return err
		}
		in.Mode = api.GatewayRouted
		return nil
	},
	"com.docker.network.bridge.gateway_mode_ipv4": func(in *api.NetworkCreate, _ *settings, v string) (err error) {
		in.ModeIPv4, err = gatewayMode(v)
		return err
	},
	"com.docker.network.bridge.gateway_mode_ipv6": func(in *api.NetworkCreate, _ *settings, v string) (err error) {
		in.ModeIPv6, err = gatewayMode(v)
		return err
	},
	"com.docker.network.bridge.host_binding_ipv4": func(_ *api.NetworkCreate, s *settings, v string) error {
		a, err := netip.ParseAddr(v)
		if err != nil || !a.Is4() {
			return fmt.Errorf("%q is no IPv4 address", v)
		}
		s.HostIP = v
		return nil
	},
	"com.docker.network.container_iface_prefix": func(_ *api.NetworkCreate, s *settings, v string) error {
		if v == "" || len(v) > 12 || strings.ContainsAny(v, "/:% \t\n") {
			return fmt.Errorf("%q cannot begin an interface's name: use a short word such as eth", v)
		}
		s.Prefix = v
		return nil
	},
	// What these ask for is so in any case, or has no meaning without a bridge and
	// netfilter.
	"com.docker.network.bridge.default_bridge":          ignored,
	"com.docker.network.bridge.trusted_host_interfaces": ignored,
	"com.docker.network.advertise_addr_nmsgs":           ignored,
	"com.docker.network.advertise_addr_ms":              ignored,
	"com.docker.network.bridge.inhibit_ipv4": func(_ *api.NetworkCreate, _ *settings, v string) error {
		var on *bool
		if err := setBool(&on, v); err != nil || !*on {
			return err
		}
		return fmt.Errorf("the switch answers for the gateway: use com.docker.network.bridge.gateway_mode_ipv4=isolated for a network without one")
	},

	ownPrefix + "network": func(in *api.NetworkCreate, _ *settings, v string) error {
		if v == "" {
			return fmt.Errorf("no name: give the name of a network of the switch, or a name for this one")
		}
		in.Name = v
		return nil
	},
	ownPrefix + "host-access": func(in *api.NetworkCreate, _ *settings, v string) error {
		return setBool(&in.HostAccess, v)
	},
	ownPrefix + "filter": func(in *api.NetworkCreate, _ *settings, v string) error {
		in.Filter = v
		return nil
	},
	ownPrefix + "routes": func(_ *api.NetworkCreate, s *settings, v string) (err error) {
		s.Routes, err = parseRoutes(v)
		return err
	},
}

// endpointOptions are the keys that an endpoint may have beside Docker's own
// (--network name=NET,driver-opt=KEY=VALUE).
var endpointOptions = map[string]func(in *api.Connect, s *settings, v string) error{
	ownPrefix + "guard": func(in *api.Connect, _ *settings, v string) error { in.Guard = v; return nil },
	ownPrefix + "trunk": func(in *api.Connect, _ *settings, v string) error { in.Trunk = v; return nil },
	ownPrefix + "egress": func(in *api.Connect, _ *settings, v string) error {
		in.Egress = strings.ReplaceAll(v, ";", ",")
		return nil
	},
	ownPrefix + "vlan": func(in *api.Connect, _ *settings, v string) (err error) {
		if in.VLAN, err = strconv.Atoi(v); err != nil {
			return fmt.Errorf("%q is no VLAN: use 1 to 4094", v)
		}
		return nil
	},
	ownPrefix + "routes": func(_ *api.Connect, s *settings, v string) (err error) {
		s.Routes, err = parseRoutes(v)
		return err
	},
}

func ignored(*api.NetworkCreate, *settings, string) error { return nil }

func mtuOption(in *api.NetworkCreate, _ *settings, v string) (err error) {
	if in.MTU, err = strconv.Atoi(v); err != nil || in.MTU <= 0 {
		return fmt.Errorf("%q is no MTU", v)
	}
	return nil
}

func setBool(to **bool, v string) error {
	on, err := strconv.ParseBool(v)
	if err != nil {
		return fmt.Errorf("%q is neither true nor false", v)
	}
	*to = &on
	return nil
}

// gatewayMode reads Docker's words. nat-unprotected would let the outside in to
// ports that are not published; it is nat here, which does not.
func gatewayMode(v string) (string, error) {
	switch v {
	case "", api.GatewayNAT, api.GatewayRouted, api.GatewayIsolated:
		return v, nil
	case "nat-unprotected":
		return api.GatewayNAT, nil
	}
	return "", fmt.Errorf("%q: use nat, routed or isolated", v)
}

// parseRoutes reads DST,DST=GATEWAY,...: without a gateway DST is on the link.
func parseRoutes(v string) (list []staticRoute, err error) {
	for part := range strings.SplitSeq(v, ",") {
		dst, hop, by := strings.Cut(part, "=")
		p, err := netip.ParsePrefix(strings.TrimSpace(dst))
		if err != nil {
			return nil, fmt.Errorf("%q: write DESTINATION=GATEWAY, as in 10.5.0.0/16=10.1.0.7", part)
		}
		r := staticRoute{Destination: p.Masked().String(), RouteType: 1}
		if by {
			a, err := netip.ParseAddr(strings.TrimSpace(hop))
			if err != nil || a.Is4() != p.Addr().Is4() {
				return nil, fmt.Errorf("%q: %q is no gateway for it: write DESTINATION=GATEWAY, both of one family", part, hop)
			}
			r.RouteType, r.NextHop = 0, a.String()
		}
		list = append(list, r)
	}
	return list, nil
}

// readNetworkOptions reads the options of GwAllocCheck and CreateNetwork.
func readNetworkOptions(options map[string]any) (in api.NetworkCreate, s settings, err error) {
	for key, to := range map[string]**bool{optIPv4: &in.IPv4, optIPv6: &in.IPv6} {
		if v, ok := options[key]; ok {
			if err := setBool(to, text(v)); err != nil {
				return in, s, fmt.Errorf("option %s: %w", key, err)
			}
		}
	}
	if v, ok := options[optInternal]; ok {
		var on *bool
		if err := setBool(&on, text(v)); err != nil {
			return in, s, fmt.Errorf("option %s: %w", optInternal, err)
		}
		in.Internal = *on
	}
	generic, ok := options[optGeneric].(map[string]any)
	if !ok && options[optGeneric] != nil {
		return in, s, fmt.Errorf("option %s: a map is expected", optGeneric)
	}
	for _, key := range slices.Sorted(maps.Keys(generic)) { // the same error each time
		apply := networkOptions[key]
		if apply == nil {
			return in, s, fmt.Errorf("option %s is not known: see docs/integrations/docker.md", key)
		}
		if err := apply(&in, &s, text(generic[key])); err != nil {
			return in, s, fmt.Errorf("option %s: %w", key, err)
		}
	}
	return in, s, nil
}

// readEndpointOptions reads the options of CreateEndpoint. Those with Docker's
// prefix are dockerd's own business, as far as they are not read elsewhere.
func readEndpointOptions(options map[string]any) (in api.Connect, s settings, err error) {
	for _, key := range slices.Sorted(maps.Keys(options)) {
		if strings.HasPrefix(key, dockerKeys) {
			continue
		}
		apply := endpointOptions[key]
		if apply == nil {
			return in, s, fmt.Errorf("option %s is not known: see docs/integrations/docker.md", key)
		}
		if err := apply(&in, &s, text(options[key])); err != nil {
			return in, s, fmt.Errorf("option %s: %w", key, err)
		}
	}
	return in, s, nil
}

// text is a value as the command line gives it: dockerd sends some as JSON's own
// words.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case nil:
		return ""
	}
	b, _ := json.Marshal(v) // it came as JSON
	return string(b)
}

// recode turns a value of Options into what it stands for.
func recode(v, to any) error {
	b, err := json.Marshal(v)
	if err == nil {
		err = json.Unmarshal(b, to)
	}
	return err
}

func recodeText(s string, to any) error { return json.Unmarshal([]byte(s), to) }
