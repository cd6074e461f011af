package rig

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/internal/netlab"
)

// socketName is the socket's name in the run directory. The environment's
// VSWITCH_SOCKET, which client.Socket honours, would lead to another daemon.
const socketName = "vswitch.sock"

// buildVSwitch starts a daemon in the host's namespace and attaches two
// containers, the ports of B published.
func (r *Rig) buildVSwitch(ctx context.Context, opt Options) error {
	if err := r.startDaemon(ctx, opt); err != nil {
		return err
	}
	var err error
	var on []api.Connect // the default network
	if r.System == Unguarded {
		on = []api.Connect{{Guard: api.GuardOff}}
	}
	if r.A, _, err = r.Attach(ctx, api.Attach{Name: "a", Networks: on}); err != nil {
		return err
	}
	networks, err := r.API.Networks(ctx)
	if err != nil {
		return err
	}
	if len(networks) != 1 {
		return fmt.Errorf("%d networks, want the default one", len(networks))
	}
	if r.Gateway, err = netip.ParseAddr(networks[0].Gateway); err != nil {
		return err
	}
	var ports []string
	for _, p := range published {
		ports = append(ports, fmt.Sprintf("%d:%d/%s", p.Host(), p.Container, p.Proto))
	}
	r.B, _, err = r.Attach(ctx, api.Attach{Name: "b", Networks: on, Publish: ports})
	return err
}

// Attach makes a namespace and attaches it as in says, which names none. Both
// end with the rig. took is the time the daemon needed.
func (r *Rig) Attach(ctx context.Context, in api.Attach) (c *Container, took time.Duration, err error) {
	name := in.Name
	ns, err := r.namespace(name)
	if err != nil {
		return nil, 0, err
	}
	in.Netns = ns.Path()
	start := time.Now()
	got, err := r.API.Attach(ctx, in)
	if err != nil {
		return nil, 0, fmt.Errorf("attach %s: %w", name, err)
	}
	took = time.Since(start)
	c, err = container(ns, got)
	if err != nil {
		return nil, 0, fmt.Errorf("attach %s: %w", name, err)
	}
	r.undo = append(r.undo, func() error {
		if r.abandon {
			return nil
		}
		// The rig closes after Ctrl-C too, when ctx is done.
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := r.API.Detach(ctx, name); err != nil {
			return fmt.Errorf("detach %s: %w", name, err)
		}
		return nil
	})
	return c, took, nil
}

// Further is a container beside A and B, attached when it is first asked for.
func (r *Rig) Further(ctx context.Context, name string) (*Container, error) {
	if c := r.further[name]; c != nil {
		return c, nil
	}
	var c *Container
	var err error
	if IsOurs(r.System) {
		c, _, err = r.Attach(ctx, api.Attach{Name: name})
	} else {
		c, err = r.bridged(name)
	}
	if err != nil {
		return nil, err
	}
	if r.further == nil {
		r.further = make(map[string]*Container)
	}
	r.further[name] = c
	return c, nil
}

// crowdSettles is how long the kernels of new containers ask for neighbours and join groups.
const crowdSettles = 3 * time.Second

// Crowd are so many further containers.
func (r *Rig) Crowd(ctx context.Context, n int) (all []*Container, err error) {
	fresh := len(r.further) < n
	for i := range n {
		c, err := r.Further(ctx, fmt.Sprintf("crowd%d", i))
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if fresh {
		time.Sleep(crowdSettles)
	}
	return all, nil
}

// container reads the daemon's answer to an attach.
func container(ns *netlab.NS, got api.Container) (*Container, error) {
	if len(got.Endpoints) != 1 {
		return nil, fmt.Errorf("%d endpoints, want one", len(got.Endpoints))
	}
	e := got.Endpoints[0]
	prefix, err := netip.ParsePrefix(e.Address)
	if err != nil {
		return nil, err
	}
	mac, err := net.ParseMAC(e.MAC)
	if err != nil {
		return nil, err
	}
	c := &Container{NS: ns, Ifname: e.Interface, Addr: prefix.Addr(), MAC: mac}
	for _, a := range e.Addresses {
		if p, err := netip.ParsePrefix(a); err == nil && p.Addr().Is6() {
			c.Addr6 = p.Addr()
		}
	}
	return c, nil
}

// startDaemon starts the daemon under test and waits until it answers.
func (r *Rig) startDaemon(ctx context.Context, opt Options) error {
	dir, err := r.scratch()
	if err != nil {
		return err
	}
	cgroup, err := enterCgroup()
	if err != nil {
		return err
	}
	r.undo = append(r.undo, leaveCgroup)
	r.binary, r.runDir = opt.Binary, filepath.Join(dir, "run")
	args := []string{"daemon", "--run-dir", r.runDir, "--state-dir", filepath.Join(dir, "state"), "--uplink", "eth0", "--cgroup", cgroup, "--ipv6"}
	switch r.System {
	case Userspace, Unguarded, UncountedUserspace, RingUserspace:
		args = append(args, "--flow-table=false")
	}
	switch r.System {
	case Ring, RingUserspace:
		args = append(args, "--capture-ring", "16M")
	}
	if opt.MaxFlows > 0 {
		args = append(args, "--max-flows", strconv.Itoa(opt.MaxFlows))
	}
	r.undo = append(r.undo, func() error {
		// With cables there would be what outlives the daemon.
		p, err := r.start(r.World.Host, opt.Binary, "down", "--all", "--run-dir", r.runDir, "--state-dir", filepath.Join(dir, "state"))
		if err == nil {
			<-p.ended
		}
		return err
	})
	r.daemonArgs = args
	if err := r.runDaemon(); err != nil {
		return err
	}
	r.undo = append(r.undo, func() error { return r.daemon.stop(r.patience) })
	r.API = client.New(filepath.Join(r.runDir, socketName))
	r.undo = append(r.undo, func() error { r.API.Close(); return nil })
	return r.answers(ctx)
}

// runDaemon starts the program. Who stops it is with the rig, not with the process: there may
// be several, one after the other.
func (r *Rig) runDaemon() (err error) {
	undo := r.undo
	if r.daemon, err = r.start(r.World.Host, r.binary, r.daemonArgs...); err != nil {
		return err
	}
	r.undo, r.PID = undo, r.daemon.pid()
	return nil
}

func (r *Rig) answers(ctx context.Context) error {
	return r.daemon.await(ctx, func() error {
		info, err := r.API.Info(ctx)
		r.Version, r.Localhost = info.Version, "led to the container at connect"
		if info.NoConnectHooks != "" {
			r.Localhost = "relayed: " + info.NoConnectHooks
		}
		return err
	})
}

// Restart ends the daemon by a signal and starts it again. took is the time from the signal
// until the next one answers.
func (r *Rig) Restart(ctx context.Context, signal syscall.Signal) (took time.Duration, err error) {
	start := time.Now()
	if err := r.daemon.cmd.Process.Signal(signal); err != nil {
		return 0, fmt.Errorf("end the daemon: %w", err)
	}
	select {
	case <-r.daemon.ended:
	case <-time.After(10 * time.Second):
		return 0, fmt.Errorf("the daemon does not end by %v", signal)
	}
	if err := r.runDaemon(); err != nil {
		return 0, err
	}
	err = r.answers(ctx)
	return time.Since(start), err
}

// CPU is the time the daemon has spent since its start.
func (r *Rig) CPU() (time.Duration, error) { return gen.ProcessCPU(r.PID) }

// RSS is the daemon's resident memory in bytes, packet rings included.
func (r *Rig) RSS() (uint64, error) { return gen.ProcessRSS(r.PID) }
