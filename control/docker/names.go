package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/vswitch/vswitch/control/api"
)

// APIPath is where dockerd serves its own API.
const APIPath = "/run/docker.sock"

// Waits of Names.
const (
	namesRetry  = 200 * time.Millisecond // after the first failure
	namesPause  = 30 * time.Second       // after many
	namesSettle = 50 * time.Millisecond  // events that come together are followed once
	namesCall   = 10 * time.Second       // one question
)

// Names learns from dockerd's API what its users call containers, which the plugin
// protocol does not say, and renames them here. It follows dockerd's events on a
// connection of its own, after the calls of the protocol and never in one of them:
// dockerd holds locks while it waits for a plugin.
type Names struct {
	backend Backend
	log     *slog.Logger
	http    *http.Client
	kick    chan struct{}

	described map[string]string // the container of each endpoint whose labels are known
}

// NewNames returns one that asks the dockerd whose API is at the socket path.
func NewNames(b Backend, path string, log *slog.Logger) *Names {
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}
	return &Names{backend: b, log: log, http: &http.Client{Transport: tr}, kick: make(chan struct{}, 1)}
}

// Joined says that a network was made or an endpoint joined. It does not wait.
func (n *Names) Joined() {
	select {
	case n.kick <- struct{}{}:
	default:
	}
}

// Run follows dockerd until ctx ends. While nothing is Docker's it does not call
// it at all: a machine without Docker has nobody there.
func (n *Names) Run(ctx context.Context) {
	defer n.http.CloseIdleConnections()
	wait := namesRetry
	for {
		if used, err := n.used(ctx); err == nil && !used {
			select {
			case <-ctx.Done():
				return
			case <-n.kick:
			}
		}
		start := time.Now()
		err := n.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(start) > namesPause {
			wait = namesRetry
		}
		n.log.Debug("docker: names are not followed", "err", err, "retry", wait)
		select {
		case <-ctx.Done():
			return
		case <-n.kick:
			// A container is being started: dockerd will answer soon.
			wait = namesRetry
			time.Sleep(namesSettle)
		case <-time.After(wait):
			wait = min(2*wait, namesPause)
		}
	}
}

// used reports whether any network is Docker's.
func (n *Names) used(ctx context.Context) (bool, error) {
	list, err := n.backend.Networks(ctx)
	for _, net := range list {
		if len(dockerNetworks(net)) > 0 {
			return true, nil
		}
	}
	return false, err
}

// dockerNetworks are the IDs of the Docker networks that a network stands for.
func dockerNetworks(n api.Network) (ids []string) {
	for key := range n.Labels {
		if id, ok := strings.CutPrefix(key, label("")); ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// follow asks for all names, and again after each event that may change one.
func (n *Names) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	filters := url.QueryEscape(`{"type":["container","network"],"event":["create","start","rename","connect","disconnect"]}`)
	resp, err := n.get(ctx, "/events?filters="+filters)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	events, ended := make(chan struct{}, 1), make(chan error, 1)
	go func() {
		for d := json.NewDecoder(resp.Body); ; {
			var event struct{} // which one it was does not matter
			if err := d.Decode(&event); err != nil {
				ended <- err
				return
			}
			select {
			case events <- struct{}{}:
			default:
			}
		}
	}()
	for {
		if err := n.sync(ctx); err != nil {
			return err
		}
		select {
		case err := <-ended:
			return err
		case <-events:
		case <-n.kick:
		}
		select {
		case err := <-ended:
			return err
		case <-time.After(namesSettle):
		}
	}
}

// dockerNetwork is the answer of dockerd's GET /networks/ID.
type dockerNetwork struct {
	Name       string
	Containers map[string]struct{ Name, EndpointID string } // by ID
}

// sync asks for all names once.
func (n *Names) sync(ctx context.Context) error {
	list, err := n.backend.Networks(ctx)
	if err != nil {
		return err
	}
	here, described := make(map[string]namedEndpoint), make(map[string]string)
	for _, net := range list {
		for _, id := range dockerNetworks(net) {
			dn, err := n.network(ctx, id)
			if errors.Is(err, api.ErrNotFound) {
				n.log.Debug("docker: network is not known to this dockerd", "network", net.Name, "id", short(id))
				continue
			}
			if err != nil {
				return err
			}
			if label := net.Labels[api.LabelDockerNetwork]; (net.Name == madeName(id) || label != "") && label != dn.Name {
				in := api.NetworkUpdate{Labels: map[string]string{api.LabelDockerNetwork: dn.Name}}
				if _, err := n.backend.UpdateNetwork(ctx, net.Name, in); err != nil && !errors.Is(err, api.ErrNotFound) {
					return err
				}
			}
			for ctID, ct := range dn.Containers {
				if strings.HasPrefix(ctID, "ep-") {
					continue // dockerd does not know yet whose it is: an event follows
				}
				here[ctID] = namedEndpoint{ct.EndpointID, ct.Name}
				labels, err := n.describe(ctx, ct.EndpointID, ctID)
				if err == nil {
					described[ct.EndpointID] = ctID
				} else if !errors.Is(err, api.ErrNotFound) {
					return err
				}
				if err := n.name(ctx, ct.EndpointID, ctID, ct.Name, dn.Name, labels); err != nil {
					n.log.Warn("docker: container is not named", "endpoint", short(ct.EndpointID), "name", ct.Name, "err", err)
				}
			}
		}
	}
	n.described = described
	return n.sidecars(ctx, here)
}

func (n *Names) network(ctx context.Context, id string) (out dockerNetwork, err error) {
	return out, n.ask(ctx, "/networks/"+id, &out)
}

func (n *Names) get(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := n.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	resp.Body.Close()
	err = fmt.Errorf("dockerd: GET %s: %s", path, resp.Status)
	if resp.StatusCode == http.StatusNotFound {
		err = &unknown{err.Error()}
	}
	return nil, err
}

// name gives an endpoint its container's name, and labels that it lacks. The second network of a container
// calls it NAME.NETWORK, as does one whose name somebody else has.
func (n *Names) name(ctx context.Context, endpointID, containerID, name, network string, labels map[string]string) error {
	ct, err := n.backend.Container(ctx, endpointID)
	if errors.Is(err, api.ErrNotFound) {
		return nil
	}
	if err != nil || ct.Runtime != api.RuntimeDocker || ct.RuntimeID != endpointID {
		return err
	}
	full := name + "." + network
	in := api.ContainerUpdate{Name: name}
	set := func(key, value string) {
		if ct.Labels[key] != value {
			if in.Labels == nil {
				in.Labels = make(map[string]string)
			}
			in.Labels[key] = value
		}
	}
	for key, value := range labels {
		set(key, value)
	}
	set(api.LabelContainerID, containerID)
	set(api.LabelContainerName, name)
	held := ct.Name == name
	if ct.Name == full {
		_, err := n.backend.Container(ctx, name)
		held = err == nil // by the container's first network, or by a stranger
	}
	if held {
		if in.Name = ""; in.Labels == nil {
			return nil
		}
	}
	_, err = n.backend.UpdateContainer(ctx, ct.ID, in)
	if errors.Is(err, api.ErrConflict) {
		in.Name = full
		_, err = n.backend.UpdateContainer(ctx, ct.ID, in)
	}
	return err
}
