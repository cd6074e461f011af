package cni

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/control/visible"
)

// deadline bounds one call: runtimes wait minutes, and a daemon that does not
// answer for so long will not.
const deadline = time.Minute

// Main carries out the call that the environment and standard input describe and
// returns the process's exit code. What is worth telling and no error goes to log.
func Main(log io.Writer) int {
	p := &plugin{log: log}
	funcs := skel.CNIFuncs{Add: p.add, Del: p.del, Check: p.check, GC: p.gc, Status: p.status}
	err := skel.PluginMainFuncsWithError(funcs, version.All, "CNI plugin vswitch")
	if err == nil {
		return 0
	}
	// Some runtimes show msg alone, and details in another place or never.
	if err.Details != "" {
		err.Msg, err.Details = err.Msg+": "+err.Details, ""
	}
	err.Msg = visible.Line(err.Msg)
	if perr := err.Print(); perr != nil {
		fmt.Fprintln(log, "vswitch:", visible.Line(perr.Error()))
	}
	return 1
}

type plugin struct{ log io.Writer }

func (p *plugin) logf(format string, a ...any) {
	fmt.Fprintln(p.log, "vswitch:", visible.Line(fmt.Sprintf(format, a...)))
}

// call is one call: what the runtime said, and the daemon that is to hear it.
type call struct {
	context.Context
	*config
	args   *skel.CmdArgs
	daemon *client.Client
}

// begin reads a configuration; end is never nil.
func begin(args *skel.CmdArgs) (c *call, end func(), err error) {
	conf, err := parseConfig(args)
	if err != nil {
		return nil, func() {}, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	c = &call{Context: ctx, config: conf, args: args, daemon: client.New(conf.socket())}
	return c, func() { c.daemon.Close(); cancel() }, nil
}

// refusal turns an error into one with a code of the specification.
func refusal(err error) error {
	var (
		done   *types.Error
		answer *client.Error
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &done):
		return done
	case errors.Is(err, client.ErrNoDaemon), errors.Is(err, context.DeadlineExceeded):
		return types.NewError(types.ErrTryAgainLater, visible.Line(err.Error()), "")
	case errors.As(err, &answer) && answer.Status == 400:
		return types.NewError(types.ErrInvalidNetworkConfig, visible.Line(err.Error()), "")
	}
	return types.NewError(errDaemon, visible.Line(err.Error()), "")
}

// errDaemon is the plugin's own code, from 100 as the specification wants it: the
// daemon said no for a reason that is not in the configuration.
const errDaemon = 100

func badConfig(format string, a ...any) error {
	return types.NewError(types.ErrInvalidNetworkConfig, visible.Line(fmt.Sprintf(format, a...)), "")
}

// status answers whether ADD would be served.
func (p *plugin) status(args *skel.CmdArgs) error {
	c, end, err := begin(args)
	defer end()
	if err != nil {
		return err
	}
	if _, err := c.daemon.Info(c); err != nil {
		return types.NewError(types.ErrPluginNotAvailable, visible.Line(err.Error()), "")
	}
	return c.delegate("STATUS")
}

// del releases an interface, known by its words alone: the namespace may be gone
// and the result of ADD lost.
func (p *plugin) del(args *skel.CmdArgs) error {
	c, end, err := begin(args)
	defer end()
	if err != nil {
		return err
	}
	err = c.daemon.Release(c, api.Release{Runtime: api.RuntimeCNI, RuntimeID: args.ContainerID, Ifname: args.IfName})
	if err != nil {
		return refusal(err)
	}
	return c.delegate("DEL")
}

// gc releases the network's attachments that the runtime does not list. A list
// that is missing means that it does not know, an empty one that there are none.
func (p *plugin) gc(args *skel.CmdArgs) error {
	c, end, err := begin(args)
	defer end()
	if err != nil {
		return err
	}
	if c.ValidAttachments == nil {
		p.logf("network %s: the runtime lists no attachments: nothing is released", c.Name)
		return nil
	}
	valid := []api.Attachment{}
	for _, a := range c.ValidAttachments {
		valid = append(valid, api.Attachment{RuntimeID: a.ContainerID, Ifname: a.IfName})
	}
	out, err := c.daemon.GC(c, api.GC{Runtime: api.RuntimeCNI, Network: c.Name, Valid: valid})
	for _, a := range out.Released {
		p.logf("network %s: released %s of container %s, which the runtime does not know", c.Name, a.Ifname, a.RuntimeID)
	}
	if err != nil {
		return refusal(err)
	}
	return c.delegate("GC")
}
