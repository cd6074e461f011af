package rig

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"os"
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

	bridgeSubnet6  = "fd00:88::/64"
	bridgeGateway6 = "fd00:88::1"
)

// BridgeNetfilter reports whether netfilter can see what the kernel's bridge passes, by the
// module br_netfilter: since Linux 5.3 each network namespace has it on or off.
func BridgeNetfilter() bool {
	_, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables")
	return err == nil
}

// setBridgeNetfilter does so in the rig's host. Without the module netfilter sees nothing.
func (r *Rig) setBridgeNetfilter(sees bool) error {
	if !BridgeNetfilter() {
		return nil
	}
	value := map[bool]string{false: "0", true: "1"}[sees]
	return errors.Join(r.World.Host.Sysctl("bridge/bridge-nf-call-iptables", value), r.World.Host.Sysctl("bridge/bridge-nf-call-ip6tables", value))
}

// buildBridge joins two containers by a kernel bridge.
func (r *Rig) buildBridge() error {
	if err := r.World.Host.Bridge(bridgeName); err != nil {
		return err
	}
	r.Gateway = netip.MustParseAddr(bridgeGateway)
	if err := errors.Join(r.World.Host.AddAddr(bridgeName, bridgeGateway+"/24"), r.World.Host.AddAddr(bridgeName, bridgeGateway6+"/64")); err != nil {
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
	addr, addr6, host := r.Gateway, netip.MustParseAddr(bridgeGateway6), fmt.Sprintf("veth%d", r.links-1)
	for range r.links {
		addr, addr6 = addr.Next(), addr6.Next()
	}
	ns, err := r.namespace(name)
	if err != nil {
		return nil, err
	}
	err = errors.Join(netlab.Veth(r.World.Host, host, ns, "eth0", 1500), ns.AddAddr("eth0", addr.String()+"/24"), ns.AddAddr("eth0", addr6.String()+"/64"), ns.SetUp("eth0"))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(ns.AddRoute("default", bridgeGateway, "eth0"), ns.AddRoute("default", bridgeGateway6, "eth0")); err != nil {
		return nil, err
	}
	mac, err := ns.MAC("eth0")
	if err != nil {
		return nil, err
	}
	return &Container{NS: ns, Ifname: "eth0", Addr: addr, Addr6: addr6, MAC: mac}, r.AddBridgePorts(host)
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
	for _, f := range []struct {
		Family, Subnet, Container, Target string
	}{
		{"ip", bridgeSubnet, r.B.Addr.String(), r.B.Addr.String()},
		{"ip6", bridgeSubnet6, r.B.Addr6.String(), "[" + r.B.Addr6.String() + "]"},
	} {
		if err := t.Execute(&rules, map[string]any{"F": f, "Bridge": bridgeName, "Ports": ports, "Blind": !BridgeNetfilter()}); err != nil {
			return fmt.Errorf("docker.nft: %w", err)
		}
	}
	// The host's own connections to 127.0.0.1 leave by the bridge.
	err = errors.Join(
		r.World.Host.Sysctl("ipv4.ip_forward", "1"),
		r.World.Host.Sysctl("ipv6.conf.all.forwarding", "1"),
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
