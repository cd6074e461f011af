package rig

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"text/template"

	"github.com/vswitch/vswitch/internal/netlab"
)

// Addressing of the kernel's systems; vswitch chooses its own.
const (
	bridgeName    = "docker0"
	bridgeSubnet  = "10.88.0.0/24"
	bridgeGateway = "10.88.0.1"
)

// buildBridge joins two containers by a kernel bridge.
func (r *Rig) buildBridge() error {
	if err := r.World.Host.Bridge(bridgeName); err != nil {
		return err
	}
	r.Gateway = netip.MustParseAddr(bridgeGateway)
	if err := r.World.Host.AddAddr(bridgeName, bridgeGateway+"/24"); err != nil {
		return err
	}
	var err error
	if r.A, err = r.bridged("a"); err != nil {
		return err
	}
	r.B, err = r.bridged("b")
	return err
}

// bridged makes the next container of the bridge, on a veth pair with the offloads it is
// born with.
func (r *Rig) bridged(name string) (*Container, error) {
	r.links++
	addr, host := r.Gateway, fmt.Sprintf("veth%d", r.links-1)
	for range r.links {
		addr = addr.Next()
	}
	ns, err := r.namespace(name)
	if err != nil {
		return nil, err
	}
	err = errors.Join(netlab.Veth(r.World.Host, host, ns, "eth0", 1500), ns.AddAddr("eth0", addr.String()+"/24"), ns.SetUp("eth0"))
	if err != nil {
		return nil, err
	}
	if err := ns.AddRoute("default", bridgeGateway, "eth0"); err != nil {
		return nil, err
	}
	mac, err := ns.MAC("eth0")
	if err != nil {
		return nil, err
	}
	return &Container{NS: ns, Ifname: "eth0", Addr: addr, MAC: mac}, r.AddBridgePorts(host)
}

// AddBridgePorts puts links of the host under the bridge.
func (r *Rig) AddBridgePorts(names ...string) error {
	for _, name := range names {
		if err := r.World.Host.SetMaster(name, bridgeName); err != nil {
			return err
		}
		if err := r.World.Host.SetUp(name); err != nil {
			return err
		}
	}
	return nil
}

//go:embed docker.nft
var dockerRules string

// addNFT adds forwarding and the rules that Docker would have written for B's
// published ports.
func (r *Rig) addNFT(ports []mapping) error {
	t, err := template.New("docker.nft").Parse(dockerRules)
	if err != nil {
		return fmt.Errorf("docker.nft: %w", err)
	}
	var rules bytes.Buffer
	err = t.Execute(&rules, map[string]any{
		"Bridge": bridgeName, "Subnet": bridgeSubnet, "Container": r.B.Addr, "Ports": ports,
	})
	if err != nil {
		return fmt.Errorf("docker.nft: %w", err)
	}
	// The host's own connections to 127.0.0.1 leave by the bridge.
	err = errors.Join(
		r.World.Host.Sysctl("ipv4.ip_forward", "1"),
		r.World.Host.Sysctl("ipv4.conf."+bridgeName+".route_localnet", "1"),
	)
	if err != nil {
		return err
	}
	cmd := r.World.Host.Command("nft", "-f", "-")
	cmd.Stdin = &rules
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// PublishRules adds count more published ports from first up to a bridge with
// NAT, one rule each as Docker does it, ahead of those that are there: a
// connection to B's own ports passes all of them.
func (r *Rig) PublishRules(ctx context.Context, first, count int) error {
	var rules bytes.Buffer
	for port := first; port < first+count; port++ {
		fmt.Fprintf(&rules, "insert rule ip nat DOCKER tcp dport %d dnat to %s:%d\n", port, r.B.Addr, port)
	}
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = &rules
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := r.World.Host.Start(cmd); err != nil {
		return fmt.Errorf("nft: %w", err)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, lastLine(out.String()))
	}
	return nil
}
