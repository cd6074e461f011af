package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/vswitch/vswitch/control/api"
)

// Containers lists all attached containers, by name.
func (c *Client) Containers(ctx context.Context) ([]api.Container, error) {
	return c.ContainersOf(ctx, api.ContainerFilter{})
}

// ContainersOf lists the attached containers that a filter takes, by name.
func (c *Client) ContainersOf(ctx context.Context, f api.ContainerFilter) (out []api.Container, err error) {
	q := url.Values{}
	for key, value := range map[string]string{"runtime": f.Runtime, "runtime_id": f.RuntimeID, "network": f.Network} {
		if value != "" {
			q.Set(key, value)
		}
	}
	path := "/v1/containers"
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return out, c.call(ctx, http.MethodGet, path, nil, &out)
}

// Check returns nil while all that a container was given is in place: its
// namespace, both ends of each cable, addresses, routes, and what keeps its frames
// from the host's stack. Otherwise the error says what is wrong; IsConflict then.
func (c *Client) Check(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodGet, "/v1/containers/"+url.PathEscape(name)+"/check", nil, nil)
}

// Release undoes what a runtime attached, one interface or all of a container.
// What is not there is no error.
func (c *Client) Release(ctx context.Context, in api.Release) error {
	return c.call(ctx, http.MethodPost, "/v1/release", in, nil)
}

// GC releases what a runtime attached and does not list any more, and says what
// that was.
func (c *Client) GC(ctx context.Context, in api.GC) (out api.Collected, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/gc", in, &out)
}
