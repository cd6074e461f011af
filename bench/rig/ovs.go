package rig

import (
	"context"
	"net/netip"
	"path/filepath"

	"github.com/vswitch/vswitch/internal/netlab"
)

// ovsSchema is where packages put it.
const ovsSchema = "/usr/share/openvswitch/vswitch.ovsschema"

// buildOVS joins the containers by Open vSwitch's userspace datapath, with
// segmentation offload: without it bulk transfers are ten times slower. Its
// database and daemon live in the rig's directory and in the host's namespace.
func (r *Rig) buildOVS(ctx context.Context) error {
	dir, err := r.scratch()
	if err != nil {
		return err
	}
	host := r.World.Host
	db, sock := filepath.Join(dir, "conf.db"), filepath.Join(dir, "db.sock")
	if err := r.run(ctx, host, "ovsdb-tool", "create", db, ovsSchema); err != nil {
		return err
	}
	server, err := r.start(host, "ovsdb-server", db, "--remote=punix:"+sock, "--unixctl="+filepath.Join(dir, "db.ctl"), "-vconsole:warn")
	if err != nil {
		return err
	}
	if err := server.await(ctx, listening(sock)); err != nil {
		return err
	}
	vsctl := func(arg ...string) error {
		return r.run(ctx, host, "ovs-vsctl", append([]string{"--db=unix:" + sock, "--timeout=8"}, arg...)...)
	}
	// Offload is read once, at the daemon's start.
	err = vsctl("--no-wait", "init", "--", "set", "Open_vSwitch", ".", "other_config:userspace-tso-enable=true")
	if err != nil {
		return err
	}
	ctl := filepath.Join(dir, "vswitchd.ctl")
	daemon, err := r.start(host, "ovs-vswitchd", "unix:"+sock, "--unixctl="+ctl, "-vconsole:warn")
	if err != nil {
		return err
	}
	if err := daemon.await(ctx, listening(ctl)); err != nil {
		return err
	}
	ports := []string{"add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev"}
	for i, c := range r.containers() {
		name := "veth" + c.name
		ns, err := r.namespace(c.name)
		if err != nil {
			return err
		}
		if err := netlab.Veth(host, name, ns, "eth0", 1500); err != nil {
			return err
		}
		if err := host.SetUp(name); err != nil {
			return err
		}
		if *c.at, err = plain(ns, i); err != nil {
			return err
		}
		ports = append(ports, "--", "add-port", "br0", name)
	}
	return vsctl(ports...)
}

// containers are the two, to be built.
func (r *Rig) containers() []struct {
	name string
	at   **Container
} {
	return []struct {
		name string
		at   **Container
	}{{"a", &r.A}, {"b", &r.B}}
}

// plain gives eth0 of ns the address of container i and sets it up.
func plain(ns *netlab.NS, i int) (*Container, error) {
	addr := netip.MustParseAddr(bridgeGateway).Next()
	if i == 1 {
		addr = addr.Next()
	}
	if err := ns.AddAddr("eth0", addr.String()+"/24"); err != nil {
		return nil, err
	}
	if err := ns.SetUp("eth0"); err != nil {
		return nil, err
	}
	mac, err := ns.MAC("eth0")
	if err != nil {
		return nil, err
	}
	return &Container{NS: ns, Ifname: "eth0", Addr: addr, MAC: mac}, nil
}
