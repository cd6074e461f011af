package server

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/vswitch/vswitch/control/api"
)

// A runtime takes away here what it has made here, and knows nothing of it that others do: a
// container would go on without its network, and a network of Docker's could not be used any more.

// removals are the commands of runtimes that end a container.
var removals = map[string]string{api.RuntimeDocker: "docker rm -f %s", api.RuntimePodman: "podman rm -f %s"}

// detach answers DELETE /v1/containers/{name}?force=true.
func (s *server) detach(r *http.Request) (any, error) {
	force, name, err := forced(r)
	if err != nil {
		return nil, err
	}
	if ct, err := s.Container(r.Context(), name); err == nil && ct.Runtime != "" && !force {
		way := "end it there"
		if cmd, ok := removals[ct.Runtime]; ok {
			way = fmt.Sprintf(cmd, ct.Name)
		}
		return nil, fmt.Errorf("%w: container %s is of the runtime %s: %s, or use force to cut it off", api.ErrConflict, ct.Name, ct.Runtime, way)
	}
	return nil, s.Detach(r.Context(), name)
}

// removeNetwork answers DELETE /v1/networks/{name}?force=true.
func (s *server) removeNetwork(r *http.Request) (any, error) {
	force, name, err := forced(r)
	if err != nil {
		return nil, err
	}
	if !force {
		if err := s.unused(r.Context(), name); err != nil {
			return nil, err
		}
	}
	return nil, s.RemoveNetwork(r.Context(), name)
}

// unused refuses a network that a runtime relies on.
func (s *server) unused(ctx context.Context, name string) error {
	n, err := s.Network(ctx, name)
	if err != nil {
		return err
	}
	for key := range n.Labels {
		of, ok := strings.CutPrefix(key, api.UsedBy)
		if !ok {
			continue
		}
		runtime, id, _ := strings.Cut(of, ".")
		if its := n.Labels[api.LabelDockerNetwork]; its != "" {
			id = its
		}
		way := "remove it there"
		if runtime == api.RuntimeDocker {
			way = "docker network rm " + id[:min(len(id), 64)]
		}
		return fmt.Errorf("%w: network %s is one of the runtime %s: %s, or use force", api.ErrConflict, n.Name, runtime, way)
	}
	return nil
}

// forced reads what is to be removed, and whether its owner is to be passed over.
func forced(r *http.Request) (force bool, name string, err error) {
	v := r.URL.Query()
	if err := known(v, "force"); err != nil {
		return false, "", err
	}
	switch v.Get("force") {
	case "", "false":
	case "true":
		force = true
	default:
		return false, "", fmt.Errorf("%w: force %q: use true or false", api.ErrInvalid, v.Get("force"))
	}
	return force, r.PathValue("name"), nil
}
