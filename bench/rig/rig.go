package rig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"time"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/internal/netlab"
)

// Names of the systems.
const (
	Bridge    = "bridge" // which netfilter does not see
	Docker    = "docker" // the kernel's bridge, with Docker's rules and br_netfilter
	VSwitch   = "vswitch"
	Userspace = "vswitch, no flow table"
	Unguarded = "vswitch, no flow table, guards off"
	// Nothing is counted and nothing can be captured: vswitch built without both.
	Uncounted          = "vswitch, uncounted"
	UncountedUserspace = "vswitch, no flow table, uncounted"
	// The newest frames of all ports are kept.
	Ring          = "vswitch, capture ring"
	RingUserspace = "vswitch, no flow table, capture ring"
	OVS           = "Open vSwitch"
	VDE           = "VDE"
	DockerProxy   = "docker-proxy"
	Pasta         = "pasta"
	Slirp         = "slirp4netns"
)

// PublishOffset is added to a port of container B for the host's port that
// leads to it. The host's ports lie below the range that scenario publish takes.
const PublishOffset = 1000

// mapping is a port of container B that is published.
type mapping struct {
	Proto     string // tcp, udp
	Container uint16
}

// Host is the host's port.
func (m mapping) Host() uint16 { return m.Container + PublishOffset }

var published = []mapping{
	{"tcp", gen.BulkPort}, {"tcp", gen.PingPort}, {"tcp", gen.ConnectPort}, {"tcp", gen.SourcePort},
	{"udp", gen.PingPort}, {"udp", gen.DiscardPort},
}

// Rig is one system at work. A rig is used by one goroutine at a time.
type Rig struct {
	System string
	World  *netlab.World
	A, B   *Container

	servers []*gen.Agent

	// PID and API are the daemon's; 0 and nil where the kernel does the work.
	PID int
	// Gateway is the address that leads out of the containers' network; invalid
	// where the system has none.
	Gateway netip.Addr
	API     *client.Client
	Version string
	// Localhost says how the daemon serves the host's own connections to published ports.
	Localhost string

	binary, runDir string                // of the daemon: the program, its run directory
	daemon         *process              // that runs now
	daemonArgs     []string              // of its program
	further        map[string]*Container // of Further
	links          int                   // of the kernel's bridge
	visitor        *Visitor

	// serveAny: connections come to B by its loopback as well.
	serveAny bool
	abandon  bool
	patience time.Duration // with programs that are to end
	dir      string
	undo     []func() error
}

// Container is a namespace with one interface in the system's network.
type Container struct {
	NS     *netlab.NS
	Ifname string
	Addr   netip.Addr
	Addr6  netip.Addr // invalid where the system has none
	MAC    net.HardwareAddr
}

// Options are what systems need to know.
type Options struct {
	// Binary is the vswitch to be measured, and Uncounted builds the one that counts
	// nothing.
	Binary    string
	Uncounted func(context.Context) (string, error)
	// MaxFlows is how many flows vswitch may track, 0: as many as by default.
	MaxFlows int
}

// needs are the programs of each system, with Debian's packages of them.
var needs = map[string][][2]string{
	Docker:      {{"nft", "nftables"}},
	OVS:         {{"ovs-vswitchd", "openvswitch-switch"}, {"ovsdb-tool", "openvswitch-switch"}},
	VDE:         {{"vde_switch", "vde2"}, {"vde_plug", "vde2"}},
	DockerProxy: {{"docker-proxy", "docker.io"}, {"nft", "nftables"}},
	Pasta:       {{"pasta", "passt"}},
	Slirp:       {{"slirp4netns", "slirp4netns"}},
}

// IsOther reports whether system is somebody else's program, neither the kernel alone
// nor vswitch.
func IsOther(system string) bool {
	return system != Bridge && system != Docker && !IsOurs(system)
}

// IsOurs reports whether system is vswitch in one of its forms.
func IsOurs(system string) bool {
	switch system {
	case VSwitch, Userspace, Unguarded, Uncounted, UncountedUserspace, Ring, RingUserspace:
		return true
	}
	return false
}

// Available says why a system cannot be measured on this machine, or nil.
func Available(system string) error {
	for _, n := range needs[system] {
		if _, err := exec.LookPath(n[0]); err != nil {
			return fmt.Errorf("%s is not installed (package %s)", n[0], n[1])
		}
	}
	return nil
}

// Build builds a system with two containers, their servers listening.
func Build(ctx context.Context, system string, opt Options) (*Rig, error) {
	r := &Rig{System: system, patience: 10 * time.Second}
	if err := r.build(ctx, opt); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", system, err), r.Close())
	}
	return r, nil
}

func (r *Rig) build(ctx context.Context, opt Options) (err error) {
	if r.World, err = netlab.NewWorld(); err != nil {
		return err
	}
	r.undo = append(r.undo, r.World.Close)
	switch r.System {
	case Bridge:
		err = errors.Join(r.buildBridge(), r.setBridgeNetfilter(false))
	case Docker:
		if err = r.buildBridge(); err == nil {
			err = errors.Join(r.addNFT(published), r.setBridgeNetfilter(true))
		}
	case Uncounted, UncountedUserspace:
		if opt.Uncounted == nil {
			return errors.New("nothing to build it with")
		}
		if opt.Binary, err = opt.Uncounted(ctx); err == nil {
			err = r.buildVSwitch(ctx, opt)
		}
	case VSwitch, Userspace, Unguarded, Ring, RingUserspace:
		err = r.buildVSwitch(ctx, opt)
	case OVS:
		err = r.buildOVS(ctx)
	case VDE:
		err = r.buildVDE(ctx)
	case DockerProxy:
		err = r.buildDockerProxy(ctx)
	case Pasta:
		err = r.buildUserNet(ctx, r.startPasta)
	case Slirp:
		err = r.buildUserNet(ctx, r.startSlirp)
	default:
		err = errors.New("no such system")
	}
	if err != nil {
		return err
	}
	at := r.B.addrs()
	if r.serveAny {
		at = []netip.Addr{netip.IPv4Unspecified()}
	}
	if err := r.serve(ctx, r.B.NS, at...); err != nil {
		return err
	}
	return r.serve(ctx, r.World.Outside, netip.MustParseAddr(netlab.FarAddr), netip.MustParseAddr(netlab.FarAddr6))
}

// Abandon lets Close leave the containers to the end of their namespaces: the
// daemon is not asked to detach each of thousands, and has the time to remove
// what is left of them.
func (r *Rig) Abandon() { r.abandon, r.patience = true, time.Minute }

// Serve starts the servers of c, which end with the rig.
func (r *Rig) Serve(ctx context.Context, c *Container) error { return r.serve(ctx, c.NS, c.addrs()...) }

func (c *Container) addrs() []netip.Addr {
	if c.Addr6.IsValid() {
		return []netip.Addr{c.Addr, c.Addr6}
	}
	return []netip.Addr{c.Addr}
}

// Place keeps the servers on a CPU, counted from 1, or lets them run on any: 0.
func (r *Rig) Place(cpu int) error {
	var errs []error
	for _, s := range r.servers {
		errs = append(errs, s.Place(cpu))
	}
	return errors.Join(errs...)
}

// serve starts the servers of ns.
func (r *Rig) serve(ctx context.Context, ns *netlab.NS, at ...netip.Addr) error {
	srv, err := gen.Serve(ctx, ns, at...)
	if err != nil {
		return err
	}
	r.servers = append(r.servers, srv)
	r.undo = append(r.undo, srv.Close)
	return nil
}

// namespace makes a namespace that ends with the rig.
func (r *Rig) namespace(name string) (*netlab.NS, error) {
	ns, err := netlab.New(name)
	if err != nil {
		return nil, err
	}
	r.undo = append(r.undo, ns.Close)
	return ns, nil
}

// scratch is a directory that ends with the rig.
func (r *Rig) scratch() (string, error) {
	if r.dir == "" {
		dir, err := os.MkdirTemp("", "vswitch-bench-")
		if err != nil {
			return "", err
		}
		r.dir = dir
		r.undo = append(r.undo, func() error { return os.RemoveAll(dir) })
	}
	return r.dir, nil
}

// Close ends what Build began, in the opposite order.
func (r *Rig) Close() error {
	var errs []error
	for i := len(r.undo) - 1; i >= 0; i-- {
		errs = append(errs, r.undo[i]())
	}
	r.undo = nil
	return errors.Join(errs...)
}
