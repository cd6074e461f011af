package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/internal/netlab"
)

func newDemo(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Show the switch at work, in namespaces that exist only meanwhile",
		Long: `Show the switch at work: a host and the world outside it, made of network
namespaces that nobody else sees; the daemon in the host; two containers. Each
line says what was tried, what came of it and how long it took. Nothing of this
machine is touched, and nothing is left. Takes a few seconds.`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 {
				return fmt.Errorf("demo: network namespaces need rights: run it as root: sudo vswitch demo")
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			return runDemo(ctx, c.stdout, c.stderr)
		},
	}
}

const (
	demoPort    = "8080" // of the host, published
	demoTimeout = 3 * time.Second
	// An emulated machine checks and compiles the BPF programs for seconds.
	demoStart = 15 * time.Second
)

// demo is one showing. Its parts are there from the step that makes them on.
type demo struct {
	out   io.Writer
	dir   string // temporary
	world *netlab.World
	sites []io.Closer // servers outside and on the host
	gw    string      // the host's address in the default network

	before hostState // of the host, as the daemon found it
	daemon *demoDaemon
	client *client.Client
	progs  []uint32 // BPF programs that the daemon held

	web, box *demoBox
}

// step is one line of the showing: show returns what came of it.
type step struct {
	what string
	show func(context.Context) (string, error)
}

func runDemo(ctx context.Context, out, errOut io.Writer) (err error) {
	d := &demo{out: out}
	defer func() {
		if err != nil {
			d.daemon.tail(errOut)
		}
		d.release()
		if err != nil && ctx.Err() != nil {
			err = &exitError{code: exitSignal + 2, err: errors.New("demo: interrupted")}
		}
	}()
	began := time.Now()
	for _, part := range []struct {
		title string
		steps []step
		print func(context.Context) error
	}{
		{"A host, the world outside and two containers", d.setUp(), nil},
		{"Who reaches whom", d.reach(), nil},
		{"A published port: " + demoPort + " of the host is port 80 of web", d.publish(), nil},
		{"The MAC table, as \"vswitch fdb\" shows it", nil, d.printFDB},
		{"The NAT table, as \"vswitch nat ls\" shows it", nil, d.printNAT},
		{"One exchange, as \"vswitch capture web\" shows it", nil, d.printCapture},
		{"The end", d.tearDown(), nil},
	} {
		sayf(out, "\n%s\n", part.title)
		if part.print != nil {
			if err := part.print(ctx); err != nil {
				return fmt.Errorf("demo: %w", err)
			}
		}
		for _, s := range part.steps {
			if err := d.do(ctx, s); err != nil {
				return err
			}
		}
	}
	sayf(out, "\nAll of it took %.1f s.\n", time.Since(began).Seconds())
	return nil
}

func (d *demo) do(ctx context.Context, s step) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	begin := time.Now()
	shown, err := s.show(ctx)
	ms := float64(time.Since(begin).Microseconds()) / 1000
	if err != nil {
		sayf(d.out, "%9.1f ms  FAILED  %s: %v\n", ms, s.what, err)
		return fmt.Errorf("demo: %s: %w", s.what, err)
	}
	sayf(d.out, "%9.1f ms  %-29s %s\n", ms, s.what, shown)
	return nil
}

func (d *demo) setUp() []step {
	return []step{
		{"the world", func(context.Context) (shown string, err error) {
			if d.dir, err = os.MkdirTemp("", "vswitch-demo-"); err != nil {
				return "", err
			}
			if d.world, err = netlab.NewWorld(); err != nil {
				return "", err
			}
			if err := d.serve(d.world.Outside, netlab.FarAddr); err != nil {
				return "", err
			}
			return fmt.Sprintf("host %s, outside %s and %s behind it", netlab.HostAddr, netlab.OutsideAddr, netlab.FarAddr), nil
		}},
		{"vswitch daemon", func(ctx context.Context) (shown string, err error) {
			if d.before, err = readHostState(d.world.Host); err != nil {
				return "", err
			}
			if d.daemon, err = startDemoDaemon(d.world.Host, d.dir); err != nil {
				return "", err
			}
			d.client = client.New(d.daemon.socket())
			if err := d.daemon.await(ctx, d.client); err != nil {
				return "", err
			}
			nets, err := d.client.Networks(ctx)
			if err == nil && len(nets) != 1 {
				err = fmt.Errorf("a fresh daemon has %d networks, not 1", len(nets))
			}
			if err != nil {
				return "", err
			}
			n := nets[0]
			d.gw = n.Gateway
			return fmt.Sprintf("pid %d, uplink eth0, network %s %s, gateway %s on %s", d.daemon.pid(), n.Name, n.Subnet, n.Gateway, n.Interface),
				d.serve(d.world.Host, d.gw)
		}},
		{"vswitch run web", func(ctx context.Context) (shown string, err error) {
			d.web, err = startDemoBox(ctx, d.client, "web")
			return d.web.describe(), err
		}},
		{"vswitch run box", func(ctx context.Context) (shown string, err error) {
			d.box, err = startDemoBox(ctx, d.client, "box")
			return d.box.describe(), err
		}},
	}
}

func (d *demo) reach() []step {
	return []step{
		{"box to web, HTTP", func(ctx context.Context) (string, error) {
			return saw("web", d.box.addr())(d.box.get(ctx, d.web.addr()))
		}},
		{"box to web, UDP echo", func(ctx context.Context) (string, error) {
			return saw("web", d.box.addr())(d.box.udp(ctx, d.web.addr()))
		}},
		{"box to the host", func(ctx context.Context) (string, error) {
			return saw("the host", d.box.addr())(d.box.get(ctx, d.gw))
		}},
		{"the host to web", func(ctx context.Context) (string, error) {
			return saw("web", d.gw)(fetch(ctx, d.world.Host, d.web.addr()))
		}},
		{"box to the outside, HTTP", func(ctx context.Context) (string, error) {
			return saw("the outside", netlab.HostAddr)(d.box.get(ctx, netlab.FarAddr))
		}},
		{"box to the outside, UDP echo", func(ctx context.Context) (string, error) {
			return saw("the outside", netlab.HostAddr)(d.box.udp(ctx, netlab.FarAddr))
		}},
		{"box to the outside, ping", func(ctx context.Context) (string, error) {
			if from, err := d.box.ping(ctx, netlab.FarAddr); err != nil {
				return "", err
			} else if from != netlab.FarAddr {
				return "", fmt.Errorf("the echo came from %s, not from %s", from, netlab.FarAddr)
			}
			return "echo from " + netlab.FarAddr, nil
		}},
	}
}

func (d *demo) publish() []step {
	return []step{
		{"vswitch port add web " + demoPort + ":80", func(ctx context.Context) (string, error) {
			ports, err := d.client.Publish(ctx, d.web.name, []string{demoPort + ":80"})
			return portList(ports), err
		}},
		{"from the outside", func(ctx context.Context) (string, error) {
			return saw("web", netlab.OutsideAddr)(fetch(ctx, d.world.Outside, netlab.HostAddr+":"+demoPort))
		}},
		{"from the host, localhost", func(ctx context.Context) (string, error) {
			// No packet of the host's own reaches its NIC: it is led to the container
			// when it connects, or a relay brings it. It comes from the gateway.
			return saw("web", d.gw)(fetch(ctx, d.world.Host, "127.0.0.1:"+demoPort))
		}},
		{"from box, the host's address", func(ctx context.Context) (string, error) {
			return saw("web", netlab.HostAddr)(d.box.get(ctx, netlab.HostAddr+":"+demoPort))
		}},
	}
}

// saw checks the client address that a server reports against the one it should
// have seen.
func saw(server, want string) func(got string, err error) (string, error) {
	return func(got string, err error) (string, error) {
		if err == nil && got != want {
			err = fmt.Errorf("%s saw %s as the client, not %s", server, got, want)
		}
		return fmt.Sprintf("%s saw %s", server, got), err
	}
}

func (d *demo) printFDB(ctx context.Context) error {
	fdb, err := d.client.FDB(ctx)
	if err == nil && len(fdb) == 0 {
		err = errors.New("the MAC table is empty")
	}
	if err != nil {
		return err
	}
	return printFDB(d.out, fdb)
}

func (d *demo) printNAT(ctx context.Context) error {
	nat, err := d.client.NAT(ctx, api.NATQuery{})
	if err == nil && len(nat) == 0 {
		err = errors.New("the NAT table is empty")
	}
	if err != nil {
		return err
	}
	return printNAT(d.out, nat)
}

// printCapture records one exchange between box and web.
func (d *demo) printCapture(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	var stream bytes.Buffer
	w := &blockWriter{w: &stream}
	started, ended := make(chan struct{}), make(chan error, 1)
	cctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		ended <- d.client.Capture(cctx, client.CaptureConfig{
			Targets: []string{d.web.name},
			Started: func() { close(started) },
		}, w)
	}()
	select {
	case <-started:
	case err := <-ended:
		return fmt.Errorf("capture: %w", err)
	}
	if _, err := d.box.get(ctx, d.web.addr()); err != nil {
		return err
	}
	// The last frames of the exchange are under way when its answer is here.
	time.Sleep(100 * time.Millisecond)
	stop()
	if err := <-ended; err != nil {
		return err
	}
	if w.packets == 0 {
		return errors.New("capture: saw nothing of the exchange")
	}
	return printPackets(d.out, &stream, false)
}

func (d *demo) tearDown() []step {
	return []step{
		{"both containers end", func(ctx context.Context) (string, error) {
			if err := errors.Join(d.web.end(), d.box.end()); err != nil {
				return "", err
			}
			left, err := d.client.Containers(ctx)
			if err == nil && len(left) > 0 {
				err = fmt.Errorf("%d containers are still attached", len(left))
			}
			return "released, their addresses and ports free again", err
		}},
		{"SIGTERM to the daemon", func(context.Context) (shown string, err error) {
			if d.progs = d.daemon.programs(); len(d.progs) == 0 {
				return "", errors.New("its BPF programs cannot be seen, so neither that they go")
			}
			if err := d.daemon.stop(); err != nil {
				return "", err
			}
			return "ended with exit code 0", nil
		}},
		{"what is left", func(context.Context) (string, error) { return d.verify() }},
	}
}

// verify compares the host with what the daemon found.
func (d *demo) verify() (string, error) {
	after, err := readHostState(d.world.Host)
	if err != nil {
		return "", err
	}
	if diff := d.before.diff(after); diff != "" {
		return "", fmt.Errorf("the host is not as before: %s", diff)
	}
	if err := d.daemon.release(); err != nil {
		return "", err
	}
	if err := programsGone(d.progs); err != nil {
		return "", err
	}
	if left, _ := filepath.Glob(filepath.Join(d.daemon.runDir, "*")); len(left) > 0 {
		return "", fmt.Errorf("files in the run directory: %v", left)
	}
	if err := os.RemoveAll(d.dir); err != nil {
		return "", err
	}
	return fmt.Sprintf("nothing: links, addresses, routes, sysctls, %d BPF programs and files checked", len(d.progs)), nil
}

// release gives back what there is, in any state; after a whole showing most of
// it is gone already.
func (d *demo) release() {
	for _, b := range []*demoBox{d.web, d.box} {
		if b != nil {
			b.kill()
		}
	}
	if d.daemon != nil {
		d.daemon.kill()
	}
	if d.client != nil {
		d.client.Close()
	}
	for _, s := range d.sites {
		s.Close()
	}
	if d.world != nil {
		d.world.Close()
	}
	if d.dir != "" {
		os.RemoveAll(d.dir)
	}
}
