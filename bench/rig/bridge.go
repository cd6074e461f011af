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

// buildBridge joins two containers by a kernel bridge, on veth pairs with the
// offloads they are born with.
func (r *Rig) buildBridge() error {
	host := r.World.Host
	var ports []string
	for i, c := range []**Container{&r.A, &r.B} {
		addr := netip.MustParseAddr(bridgeGateway).Next()
		if i == 1 {
			addr = addr.Next()
		}
		name := fmt.Sprintf("veth%d", i)
		ns, err := r.namespace(string(rune('a' + i)))
		if err != nil {
			return err
		}
		if err := netlab.Veth(host, name, ns, "eth0", 1500); err != nil {
			return err
		}
		if err := ns.AddAddr("eth0", addr.String()+"/24"); err != nil {
			return err
		}
		if err := ns.SetUp("eth0"); err != nil {
			return err
		}
		if err := ns.AddRoute("default", bridgeGateway, "eth0"); err != nil {
			return err
		}
		mac, err := ns.MAC("eth0")
		if err != nil {
			return err
		}
		*c = &Container{NS: ns, Ifname: "eth0", Addr: addr, MAC: mac}
		ports = append(ports, name)
	}
	if err := host.Bridge(bridgeName, ports...); err != nil {
		return err
	}
	r.Gateway = netip.MustParseAddr(bridgeGateway)
	return host.AddAddr(bridgeName, bridgeGateway+"/24")
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
