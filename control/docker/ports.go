package docker

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/api"
)

// portBinding is an entry of com.docker.network.portmap.
type portBinding struct {
	Proto       uint8
	Port        uint16 // of the container
	HostIP      string // "": every address of the host
	HostPort    uint16 // 0: any that is free
	HostPortEnd uint16 // of the range to find a free one in
}

// transportPort is an entry of the exposed ports.
type transportPort struct {
	Proto uint8
	Port  uint16
}

func protoName(p uint8) (string, error) {
	switch p {
	case 6:
		return "tcp", nil
	case 17:
		return "udp", nil
	case 132:
		return "sctp", nil
	}
	return "", fmt.Errorf("protocol %d is not carried: use tcp, udp or sctp", p)
}

// exposed turns a list into ranges, as dockerd has taken ranges apart.
func exposed(v any) ([]string, error) {
	var list []transportPort
	if err := recode(v, &list); err != nil {
		return nil, fmt.Errorf("option %s: %w", optExposed, err)
	}
	bindings := make([]portBinding, len(list))
	for i, p := range list {
		bindings[i] = portBinding{Proto: p.Proto, Port: p.Port}
	}
	return expose(bindings)
}

func expose(list []portBinding) (rules []string, err error) {
	slices.SortFunc(list, func(a, b portBinding) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port))
	})
	for i := 0; i < len(list); {
		j := i + 1
		for j < len(list) && list[j].Proto == list[i].Proto && int(list[j].Port) == int(list[j-1].Port)+1 {
			j++
		}
		proto, err := protoName(list[i].Proto)
		if err != nil {
			return nil, fmt.Errorf("exposed port %d: %w", list[i].Port, err)
		}
		rules = append(rules, ports(list[i].Port, list[j-1].Port)+"/"+proto)
		i = j
	}
	return rules, nil
}

// rule is what Publish takes, as dockerd has it.
type rule struct {
	proto               string
	hostIP              string // "": every address of the host
	hostFirst, hostLast uint16 // 0: any that is free
	first, last         uint16 // of the container
}

// String writes the rule as after -p.
func (r rule) String() string {
	s := ports(r.first, r.last) + "/" + r.proto
	if r.hostFirst != 0 {
		s = ports(r.hostFirst, r.hostLast) + ":" + s
	} else if r.hostIP != "" {
		s = ":" + s
	}
	switch {
	case strings.Contains(r.hostIP, ":"):
		return "[" + r.hostIP + "]:" + s
	case r.hostIP != "":
		return r.hostIP + ":" + s
	}
	return s
}

// servedBy reports whether a published port is what the rule asks for.
func (r rule) servedBy(p api.PortMapping) bool {
	return p.Proto == r.proto && p.HostIP == r.hostIP && p.Port == r.first && p.PortEnd == r.last &&
		(r.hostFirst == 0 || r.hostFirst <= p.HostPort && p.HostPortEnd <= r.hostLast)
}

// rules turns bindings into rules, ranges that dockerd has taken apart put together
// again.
func rules(list []portBinding, hostIP string) (out []rule, err error) {
	for i := range list {
		b := &list[i]
		if b.HostIP = cmp.Or(b.HostIP, hostIP); b.HostIP != "" {
			a, err := netip.ParseAddr(b.HostIP)
			if err != nil {
				return nil, fmt.Errorf("host address %q of port %d is no address", b.HostIP, b.Port)
			}
			b.HostIP = a.Unmap().String()
		}
		b.HostPortEnd = max(b.HostPort, b.HostPortEnd)
	}
	slices.SortStableFunc(list, func(a, b portBinding) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.HostIP, b.HostIP), cmp.Compare(a.HostPort, b.HostPort), cmp.Compare(a.Port, b.Port))
	})
	for i := 0; i < len(list); {
		b, j := list[i], i+1
		for j < len(list) && follows(list[j-1], list[j]) {
			j++
		}
		proto, err := protoName(b.Proto)
		if err != nil {
			return nil, fmt.Errorf("publish port %d: %w", b.Port, err)
		}
		r := rule{proto: proto, hostIP: b.HostIP, hostFirst: b.HostPort, hostLast: b.HostPortEnd, first: b.Port, last: list[j-1].Port}
		if j > i+1 {
			r.hostLast = list[j-1].HostPort
		}
		out = append(out, r)
		i = j
	}
	return out, nil
}

// follows reports whether b is the next port of one range with a.
func follows(a, b portBinding) bool {
	fixed := func(p portBinding) bool { return p.HostPort != 0 && p.HostPort == p.HostPortEnd }
	return fixed(a) && fixed(b) && a.Proto == b.Proto && a.HostIP == b.HostIP &&
		int(b.HostPort) == int(a.HostPort)+1 && int(b.Port) == int(a.Port)+1
}

func ports(first, last uint16) string {
	if first == last {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}

// programExternalConnectivity publishes the container's ports through the endpoint
// that has become its way out.
func (d *driver) programExternalConnectivity(ctx context.Context, in struct {
	ids
	Options map[string]any
}) (any, error) {
	_, s, err := d.network(ctx, in.NetworkID)
	if err != nil {
		return nil, err
	}
	ct, _, err := d.endpoint(ctx, in.ids)
	if err != nil {
		return nil, err
	}
	if err := d.leadsOut(ctx, ct, true); err != nil {
		return nil, err
	}
	var list []portBinding
	if err := recode(in.Options[optPorts], &list); err != nil {
		return nil, fmt.Errorf("container %s: option %s: %w", ct.Name, optPorts, err)
	}
	want, err := rules(list, s.HostIP)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", ct.Name, err)
	}
	asked := slices.DeleteFunc(slices.Clone(ct.Ports), func(p api.PortMapping) bool { return p.ByHand })
	if len(want) == 0 || published(asked, want) {
		return struct{}{}, nil // asked for again
	}
	if err := d.unpublish(ctx, ct, asked); err != nil {
		return nil, err
	}
	texts := make([]string, len(want))
	for i, r := range want {
		texts[i] = r.String()
	}
	_, err = d.Publish(ctx, ct.ID, texts)
	return struct{}{}, err
}

// published reports whether a container's ports are those of the rules and no
// others.
func published(have []api.PortMapping, want []rule) bool {
	if len(have) != len(want) {
		return false
	}
	for _, r := range want {
		if !slices.ContainsFunc(have, r.servedBy) {
			return false
		}
	}
	return true
}

func (d *driver) revokeExternalConnectivity(ctx context.Context, in ids) (any, error) {
	ct, _, err := d.endpoint(ctx, in)
	if isNotFound(err) {
		return struct{}{}, nil
	}
	if err == nil {
		err = d.unpublish(ctx, ct, ct.Ports)
	}
	if err == nil {
		err = d.leadsOut(ctx, ct, false)
	}
	if err != nil {
		return nil, err
	}
	return struct{}{}, nil
}

// leadsOut notes whether an endpoint is the way out of a container that has several. Of one
// that has no other yet nothing needs to be noted: it is the first.
func (d *driver) leadsOut(ctx context.Context, ct api.Container, is bool) error {
	mark := ""
	if whole, err := d.Container(ctx, ct.ID); err == nil && is && len(whole.Endpoints) > 1 {
		mark = "yes"
	}
	if ct.Labels[api.LabelWayOut] == mark {
		return nil
	}
	_, err := d.UpdateContainer(ctx, ct.ID, api.ContainerUpdate{Labels: map[string]string{api.LabelWayOut: mark}})
	return err
}

// unpublish takes published ports of a container away.
func (d *driver) unpublish(ctx context.Context, ct api.Container, list []api.PortMapping) error {
	if len(list) == 0 {
		return nil
	}
	var all []string
	for _, p := range list {
		all = append(all, rule{p.Proto, p.HostIP, p.HostPort, p.HostPortEnd, p.Port, p.PortEnd}.String())
	}
	if err := d.Unpublish(ctx, ct.ID, all); err != nil && !isNotFound(err) {
		return err
	}
	return nil
}
