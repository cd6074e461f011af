package daemon

import (
	"context"
	"net"
	"sync"

	"github.com/vswitch/vswitch/control"
	"github.com/vswitch/vswitch/control/docker"
	"github.com/vswitch/vswitch/control/server"
)

// Where dockerd and we look for each other.
const (
	DockerSocket = docker.SocketPath // of the plugin
	DockerAPI    = docker.APIPath
)

// listenDocker opens the socket of Docker's plugin protocol, nil when it is not asked for. One that is wrong
// is found before anything else is changed.
func listenDocker(cfg *Config) (*net.UnixListener, error) {
	if cfg.Docker != nil || cfg.DockerSocket == "" {
		return cfg.Docker, nil
	}
	return server.Listen(cfg.DockerSocket)
}

// serveDocker answers Docker's plugin protocol on l, if there is one, until stop.
func serveDocker(c *control.Controller, l *net.UnixListener, cfg *Config) (stop func() error, err error) {
	if l == nil {
		return func() error { return nil }, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	var joined func()
	if cfg.DockerAPI != "" {
		names := docker.NewNames(c, cfg.DockerAPI, cfg.Log)
		joined = names.Joined
		work.Go(func() { names.Run(ctx) })
	}
	srv := docker.New(c, joined, cfg.Log)
	srv.Handler = c.Readers().Handler(srv.Handler) // an answer has a deadline of its own
	end, served := serveOn(srv, l, nil)            // root alone may open the plugin socket
	cfg.Log.Info("docker's plugin protocol is served", "socket", l.Addr().String(), "names_from", cfg.DockerAPI)
	work.Go(func() {
		select {
		case err := <-served:
			cfg.Log.Error("docker's plugin protocol is not served any more: restart the daemon", "err", err)
		case <-ctx.Done():
		}
	})
	return func() error {
		err := end()
		cancel()
		work.Wait()
		return err
	}, nil
}
