package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
)

func newRun(c *cli) *cobra.Command {
	var (
		name string
		ep   endpointFlags
	)
	cmd := &cobra.Command{
		Use:   "run [flags] -- COMMAND [ARG...]",
		Short: "Run a command in a network namespace of its own, in the foreground",
		Long: `Run a command in a network namespace of its own, in the foreground, as
"docker run --rm" does: its signals, its streams and its exit code are this
program's, and when it ends everything it held is released. Users, processes and
files are the host's, except for /etc/resolv.conf: it names the gateway that answers
names. The host does not see what the command then mounts.

Networks, as in Docker:
  bridge          the default network (the default)
  NETWORK         a network made with "vswitch network create" (repeatable)
  host            the namespace this program is started in
  none            nothing but lo
  container:NAME  the namespace of another container, with its address and ports

The exit code is the command's own, 128+N when signal N ended it, 126 when it
cannot be executed, 127 when it is not found.`,
		Example: `  vswitch run --name web -p 8080:80 -- busybox httpd -f -p 80
  vswitch run --network container:web -- wget -qO- http://localhost/`,
		Args: args("COMMAND", "[ARG...]"),
		RunE: func(cmd *cobra.Command, argv []string) error {
			mode, req, err := runMode(cmd, &ep)
			if err != nil {
				return err
			}
			if req.Name = name; name == "" {
				req.Name = randomName()
			}
			path, err := lookCommand("run", argv[0])
			if err != nil {
				return err
			}
			p := &process{
				path: path, argv: argv,
				stdin: c.stdin, stdout: c.stdout, stderr: c.stderr,
				signals: true,
			}
			return runContainer(cmd.Context(), c.client(cmd), mode, req, p)
		},
	}
	// The first word that is no flag of ours begins the command: its flags are
	// its own, with or without "--".
	cmd.Flags().SetInterspersed(false)
	cmd.Flags().StringVar(&name, "name", "", "name of the container (default a random one)")
	ep.add(cmd, "bridge, host, none, container:NAME, a network's name or name=NET,ip=ADDR,ip6=ADDR,mac=MAC,ifname=IF (repeatable)")
	completeFlag(cmd, "network", c.runNetworks)
	return cmd
}

// mode says which namespace a container lives in.
type mode struct {
	kind string // one of the api.Mode constants
	peer string // of api.ModeContainer
}

// runMode turns --network and the flags beside it into a mode and a request.
func runMode(cmd *cobra.Command, ep *endpointFlags) (mode, api.Attach, error) {
	m := mode{kind: api.ModeBridge}
	named := ep.networks[:0:0]
	for _, n := range ep.networks {
		peer, isPeer := strings.CutPrefix(n, "container:")
		switch {
		case isPeer && peer == "":
			return m, api.Attach{}, usagef(cmd, "--network container: needs the name of a container")
		case isPeer:
			m = mode{kind: api.ModeContainer, peer: peer}
		case n == api.ModeHost || n == api.ModeNone:
			m = mode{kind: n}
		default:
			named = append(named, n)
		}
	}
	if m.kind == api.ModeBridge {
		req := api.Attach{Mode: m.kind}
		// "bridge" is the network's name as well.
		return m, req, ep.attach(cmd, &req)
	}
	req := api.Attach{Mode: m.kind, Peer: m.peer}
	if len(ep.networks) > 1 {
		return m, req, usagef(cmd, "--network %s cannot be combined with another one", m.flag())
	}
	for _, f := range []string{"publish", "publish-all", "expose", "ip", "ip6", "mac", "ifname", "guard", "vlan", "trunk", "max-flows", "flow-rate", "egress", "network-alias", "hostname", "dns", "dns-search", "dns-option", "add-host"} {
		if cmd.Flags().Changed(f) {
			return m, req, usagef(cmd, "--%s has no meaning with --network %s, which gets no interface from the switch", f, m.flag())
		}
	}
	return m, req, ep.attach(cmd, &api.Attach{})
}

func (m mode) flag() string {
	if m.kind == api.ModeContainer {
		return "container:" + m.peer
	}
	return m.kind
}

// lookCommand finds the command before anything is made for it.
func lookCommand(command, name string) (string, error) {
	path, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrDot) {
		err = nil // "./x" by PATH=.: the user's own choice
	}
	if err == nil {
		return path, nil
	}
	var e *exec.Error
	if errors.As(err, &e) {
		err = e.Err
	}
	code := exitNotFound
	if errors.Is(err, fs.ErrPermission) {
		code = exitNotExecutable
	}
	return "", &exitError{code: code, err: fmt.Errorf("%s: %s: %w", command, name, err)}
}

// runContainer starts p in the namespace that m asks for, registers it with the
// daemon as req, waits for its end and releases it. The error is an *exitError
// with p's exit code unless p ended with 0. Whatever fails, p is gone
// afterwards and the daemon has released what it held.
func runContainer(ctx context.Context, cl *client.Client, m mode, req api.Attach, p *process) error {
	var named api.Container // whose networks answer names
	if m.kind == api.ModeContainer {
		peer, err := cl.Container(ctx, m.peer)
		if err != nil {
			return err
		}
		netns, err := namespaceOf(peer)
		if err != nil {
			return err
		}
		defer netns.Close()
		p.netns, named = netns, peer
	}
	p.newNetns = m.kind == api.ModeBridge || m.kind == api.ModeNone
	if err := p.start(ctx); err != nil {
		return err
	}
	// The daemon lets go by itself of what belongs to a process that has ended,
	// so a request that broke off half way needs no second one.
	req.PID, req.Ephemeral = p.pid(), true
	at, err := cl.Attach(p.ctx, req)
	if err != nil {
		if ended := p.early(); ended != nil {
			err = ended // a signal, and the request broke off with it
		}
		p.kill()
		return err
	}
	if m.kind == api.ModeBridge {
		named = at
	}
	o := ownOf(named)
	p.proceed(at, o)
	if len(o.Files) > 0 {
		go p.keepFiles(named)
	}
	status := p.wait()

	// By ID: the name may already be another's. The daemon does the same when
	// it sees the process end, but whoever runs us expects all to be over now.
	dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err := cl.Detach(dctx, at.ID); err != nil && !client.IsNotFound(err) && status == nil {
		return fmt.Errorf("run: release %s: %w", at.Name, err)
	}
	return status
}

// namespaceOf opens the network namespace of a container.
func namespaceOf(peer api.Container) (*os.File, error) {
	path := peer.Netns
	switch {
	case path != "":
	case peer.PID == 0:
		return nil, fmt.Errorf("container %s: its runtime has not said where its namespace is: make it anew there", peer.Name)
	default:
		path = fmt.Sprintf("/proc/%d/ns/net", peer.PID)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("container %s: its namespace cannot be opened: %w", peer.Name, err)
	}
	return f, nil
}
