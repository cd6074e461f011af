package netavark

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/control/visible"
)

// deadline bounds one call.
const deadline = time.Minute

// apiVersion is that of the plugin protocol.
const apiVersion = "1.0.0"

// Verbs are the first words a plugin is called with, and whether the path of a
// namespace follows.
var Verbs = map[string]bool{"create": false, "setup": true, "teardown": true, "info": false}

// Run carries out one verb. netns is the path that follows setup and teardown,
// socket that of the daemon, unless the network names another. The answer goes to
// out; an error is the whole answer then, written by Fail.
func Run(ctx context.Context, verb, netns, socket, version string, in io.Reader, out io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	switch verb {
	case "info":
		return answer(out, map[string]string{"version": version, "api_version": apiVersion})
	case "create":
		return create(ctx, socket, in, out)
	case "setup", "teardown":
	default:
		return fmt.Errorf("verb %q: netavark calls create, setup, teardown and info", verb)
	}
	var e exec
	if err := json.NewDecoder(in).Decode(&e); err != nil {
		return fmt.Errorf("%s: standard input: %w", verb, err)
	}
	opts, err := parseOptions(e.Network.Options)
	if err != nil {
		return fmt.Errorf("network %s: %w", e.Network.Name, err)
	}
	if opts.socket != "" {
		socket = opts.socket
	}
	daemon := client.New(socket)
	defer daemon.Close()
	if verb == "teardown" {
		return daemon.Release(ctx, api.Release{Runtime: api.RuntimePodman, RuntimeID: e.ContainerID, Ifname: e.Options.Ifname})
	}
	if netns, err = filepath.Abs(netns); err != nil {
		return err
	}
	at, network, err := e.request(netns, opts)
	if err != nil {
		return err
	}
	ct, err := daemon.AttachIn(ctx, at, network)
	if err != nil {
		return err
	}
	st, err := statusOf(ct, e.Network, e.Options.Ifname)
	if err != nil {
		return err
	}
	return answer(out, st)
}

// Fail writes an error as netavark reads it, which prints the text as it is.
func Fail(out io.Writer, err error) {
	_ = answer(out, map[string]string{"error": "vswitch: " + visible.Line(err.Error())})
}

func answer(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// create says whether a network can be, and gives it back as Podman is to
// remember it, with whatever else is in it.
func create(ctx context.Context, socket string, in io.Reader, out io.Writer) error {
	raw, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	var n network
	if err := json.Unmarshal(raw, &n); err != nil {
		return fmt.Errorf("create: standard input: %w", err)
	}
	opts, err := parseOptions(n.Options)
	if err != nil {
		return fmt.Errorf("network %s: %w", n.Name, err)
	}
	want, err := n.wanted(opts)
	if err != nil {
		return err
	}
	if opts.socket != "" {
		socket = opts.socket
	}
	if err := free(ctx, socket, want); err != nil {
		return err
	}
	_, err = out.Write(append(bytes.TrimSpace(raw), '\n'))
	return err
}

// free refuses a network whose subnet the daemon has given to another, while
// nothing depends on it yet. A daemon that does not run will say so at setup.
func free(ctx context.Context, socket string, want api.NetworkCreate) error {
	daemon := client.New(socket)
	defer daemon.Close()
	list, err := daemon.Networks(ctx)
	if errors.Is(err, client.ErrNoDaemon) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, n := range list {
		for _, s := range n.Subnets {
			for _, w := range want.Subnets {
				if n.Name != want.Name && overlap(s.Subnet, w) {
					return fmt.Errorf("network %s: subnet %s overlaps network %s (%s): choose another with --subnet", want.Name, w, n.Name, s.Subnet)
				}
			}
		}
	}
	return nil
}
