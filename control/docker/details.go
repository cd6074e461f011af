package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/api"
)

// dockerContainer has what we read of dockerd's GET /containers/ID/json.
type dockerContainer struct {
	ID, Name string
	Config   struct{ Labels map[string]string }
	State    struct{ Pid int }

	NetworkSettings struct {
		Networks map[string]struct {
			EndpointID string
			Aliases    []string
		}
	}
}

// listedContainer is a row of GET /containers/json.
type listedContainer struct {
	ID         string
	HostConfig struct{ NetworkMode string }
}

// ask decodes dockerd's answer to one question.
func (n *Names) ask(ctx context.Context, path string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, namesCall)
	defer cancel()
	resp, err := n.get(ctx, path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(out)
}

// container asks for a container, whose name loses the stroke that dockerd puts before it.
func (n *Names) container(ctx context.Context, id string) (ct dockerContainer, err error) {
	err = n.ask(ctx, "/containers/"+url.PathEscape(id)+"/json", &ct)
	ct.Name = strings.TrimPrefix(ct.Name, "/")
	return ct, err
}

// maxLabels bounds what is kept of a container's labels, which its state has for each of its
// interfaces, in bytes.
const maxLabels = 16 << 10

// labels are what its user says of a container, without words of ours: an image could
// claim to be a piece of another container. Of too many only the words of Compose stay.
func (ct *dockerContainer) labels() map[string]string {
	list, size := make(map[string]string), 0
	for key, value := range ct.Config.Labels {
		if key == "" || value == "" || strings.HasPrefix(key, ownPrefix) || strings.HasPrefix(key, "com.docker.container.") || strings.HasPrefix(key, "com.docker.network.") {
			continue
		}
		list[key] = value
		size += len(key) + len(value)
	}
	if size > maxLabels {
		for key := range list {
			if key != api.LabelProject && key != api.LabelService || len(list[key]) > maxLabels/4 {
				delete(list, key)
			}
		}
	}
	return list
}

// aliases are the names that others in its networks have for a container, beside its own
// and the beginning of its ID, which some dockerds count among them.
func (ct *dockerContainer) aliases(endpointID string) string {
	var list []string
	size := 0
	for _, on := range ct.NetworkSettings.Networks {
		if on.EndpointID != endpointID {
			continue
		}
		for _, alias := range on.Aliases {
			if alias == "" || alias == ct.Name || alias == short(ct.ID) || strings.Contains(alias, ",") || size+len(alias) > maxLabels/4 {
				continue
			}
			list = append(list, alias)
			size += len(alias) + 1
		}
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), ",")
}

// describe is what a container's labels and aliases are, of an endpoint that was not asked
// about since the start. They do not change while it is there.
func (n *Names) describe(ctx context.Context, endpointID, containerID string) (map[string]string, error) {
	if n.described[endpointID] == containerID {
		return nil, nil
	}
	ct, err := n.container(ctx, containerID)
	if err != nil {
		return nil, err
	}
	labels := ct.labels()
	if aliases := ct.aliases(endpointID); aliases != "" {
		labels[api.LabelAliases] = aliases
	}
	return labels, nil
}

// sidecars shows containers that live in the network of one that is here (docker run --network
// container:NAME): they have no endpoint, and the plugin protocol does not speak of them.
func (n *Names) sidecars(ctx context.Context, here map[string]namedEndpoint) error {
	if len(here) == 0 {
		return nil
	}
	var list []listedContainer
	if err := n.ask(ctx, "/containers/json", &list); err != nil {
		return err
	}
	for _, row := range list {
		id, ok := strings.CutPrefix(row.HostConfig.NetworkMode, "container:")
		peer := here[id]
		if !ok || peer.id == "" {
			continue
		}
		ct, err := n.container(ctx, row.ID)
		if errors.Is(err, api.ErrNotFound) || err == nil && ct.State.Pid == 0 {
			continue // it has ended
		}
		if err != nil {
			return err
		}
		if err := n.sidecar(ctx, &ct, peer); err != nil {
			n.log.Debug("docker: container in the network of another is not shown", "name", ct.Name, "err", err)
		}
	}
	return nil
}

// namedEndpoint is an interface of a container, and the name of that.
type namedEndpoint struct{ id, name string }

func (n *Names) sidecar(ctx context.Context, ct *dockerContainer, peer namedEndpoint) error {
	labels := ct.labels()
	labels[api.LabelContainerID], labels[api.LabelContainerName] = ct.ID, ct.Name
	have, err := n.backend.Container(ctx, ct.ID)
	if err == nil && have.Runtime == api.RuntimeDocker && have.Mode == api.ModeContainer && have.PID == ct.State.Pid {
		in := api.ContainerUpdate{}
		if have.Labels[api.LabelContainerName] != ct.Name {
			in.Name, in.Labels = ct.Name, map[string]string{api.LabelContainerName: ct.Name}
			_, err = n.backend.UpdateContainer(ctx, have.ID, in)
			if isConflict(err) {
				in.Name = ""
				_, err = n.backend.UpdateContainer(ctx, have.ID, in)
			}
		}
		return err
	}
	if err != nil && !isNotFound(err) {
		return err
	}
	of, err := n.backend.Container(ctx, peer.id)
	if err != nil {
		return err
	}
	// The number is dockerd's, which may count processes in a namespace of its own.
	if !sameFile(fmt.Sprintf("/proc/%d/ns/net", ct.State.Pid), of.Labels[api.LabelSandbox]) {
		return fmt.Errorf("process %d is not seen in the network of %s from here", ct.State.Pid, peer.name)
	}
	in := api.Attach{
		Name: ct.Name, Runtime: api.RuntimeDocker, RuntimeID: ct.ID, Mode: api.ModeContainer, Peer: peer.name, PID: ct.State.Pid, Labels: labels,
	}
	_, err = n.backend.Attach(ctx, in)
	if isConflict(err) { // somebody else has the name
		in.Name = short(ct.ID)
		_, err = n.backend.Attach(ctx, in)
	}
	return err
}

func sameFile(a, b string) bool {
	x, err1 := os.Stat(a)
	y, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(x, y)
}
