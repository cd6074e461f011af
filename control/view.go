package control

import (
	"context"
	"os"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/model"
)

// Info describes the daemon.
func (c *Controller) Info(context.Context) (api.Info, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	info := api.Info{
		Version: c.cfg.Version, PID: os.Getpid(), Started: c.started, StateDir: c.cfg.StateDir,
		Uplinks: []api.Uplink{}, Workers: c.cfg.Workers, MasqueradePorts: []string{},
	}
	info.CaptureRing = c.observer.RingOf()
	ports, _ := masqueradePorts(&c.cfg, c.edge)
	for _, r := range ports {
		info.MasqueradePorts = append(info.MasqueradePorts, model.PortsText(r.First, r.Last))
	}
	if err := c.edge.BindHooks(); err != nil {
		info.NoBindHooks = err.Error()
	}
	if err := c.edge.ConnectHooks(); err != nil {
		info.NoConnectHooks = err.Error()
	}
	for _, u := range c.underlay.Now().Uplinks {
		v := api.Uplink{Interface: u.Link.Name, MTU: u.Link.MTU, Addresses: []string{}}
		for _, a := range u.Addrs {
			v.Addresses = append(v.Addresses, a.Addr().String())
		}
		if u.Via.IsValid() {
			v.Gateway = u.Via.String()
		}
		info.Uplinks = append(info.Uplinks, v)
	}
	return info, nil
}

// Networks lists all networks, by name.
func (c *Controller) Networks(context.Context) ([]api.Network, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := []api.Network{}
	for _, n := range c.inv.ReadyNetworks() {
		list = append(list, n.View())
	}
	return list, nil
}

// Network returns one network, by name or ID.
func (c *Controller) Network(_ context.Context, name string) (api.Network, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.inv.Network(name)
	if err != nil {
		return api.Network{}, err
	}
	return n.View(), nil
}

// Containers lists the attached containers that a filter takes, by name.
func (c *Controller) Containers(_ context.Context, f api.ContainerFilter) ([]api.Container, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inv.Views(f)
}

// Container returns one attached container, by name or ID.
func (c *Controller) Container(_ context.Context, name string) (api.Container, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.inv.View(name)
}

// Page says where the page is, and what opens it.
func (c *Controller) Page(context.Context) (api.Page, error) {
	if c.cfg.Page.URL == "" {
		return api.Page{}, model.Conflictf("the daemon serves no page: start it with --http 127.0.0.1:9595")
	}
	return c.cfg.Page, nil
}
