package control

import (
	"net"

	"github.com/vswitch/vswitch/control/docker"
	"github.com/vswitch/vswitch/control/server"
)

// Where dockerd and we look for each other.
const (
	DockerSocket = docker.SocketPath // of the plugin
	DockerAPI    = docker.APIPath
)

// serveDocker answers Docker's plugin protocol, if it is asked for, until stop.
func (c *Controller) serveDocker(l *net.UnixListener, path, apiPath string) (stop func() error, err error) {
	if l == nil && path == "" {
		return func() error { return nil }, nil
	}
	if l == nil {
		if l, err = server.Listen(path); err != nil {
			return nil, err
		}
	}
	var joined func()
	if apiPath != "" {
		names := docker.NewNames(c, apiPath, c.log)
		joined = names.Joined
		c.spawn(func() { names.Run(c.ctx) })
	}
	end, served := serveOn(docker.New(c, joined, c.log), l)
	c.log.Info("docker's plugin protocol is served", "socket", l.Addr().String(), "names_from", apiPath)
	c.spawn(func() {
		select {
		case err := <-served:
			c.log.Error("docker's plugin protocol is not served any more: restart the daemon", "err", err)
		case <-c.ctx.Done():
		}
	})
	return end, nil
}
