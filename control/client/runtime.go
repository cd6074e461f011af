package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/api"
)

// Containers lists all attached containers, by name.
func (c *Client) Containers(ctx context.Context) ([]api.Container, error) {
	return c.ContainersOf(ctx, api.ContainerFilter{})
}

// ContainersOf lists the attached containers that a filter takes, by name.
func (c *Client) ContainersOf(ctx context.Context, f api.ContainerFilter) (out []api.Container, err error) {
	q := url.Values{}
	for key, value := range map[string]string{"runtime": f.Runtime, "runtime_id": f.RuntimeID, "network": f.Network, "select": f.Select} {
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

// Meant returns the container that a word means, as in api.ContainerFilter.Select, where one is
// needed.
func (c *Client) Meant(ctx context.Context, word string) (api.Container, error) {
	list, err := c.ContainersOf(ctx, api.ContainerFilter{Select: word})
	if err != nil {
		return api.Container{}, err
	}
	if len(list) == 1 {
		return list[0], nil
	}
	var names []string
	for i, ct := range list {
		name := ct.Name
		if slices.ContainsFunc(list, func(o api.Container) bool { return o.ID != ct.ID && o.Name == name }) {
			name = ct.ID
		}
		if names = append(names, name); i == 9 && len(list) > 10 {
			names = append(names, fmt.Sprintf("%d more", len(list)-10))
			break
		}
	}
	return api.Container{}, fmt.Errorf("%s is several containers: say which, %s", word, strings.Join(names, " or "))
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
