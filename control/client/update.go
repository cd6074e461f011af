package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/vswitch/vswitch/control/api"
)

// UpdateNetwork changes an existing network and returns it.
func (c *Client) UpdateNetwork(ctx context.Context, name string, in api.NetworkUpdate) (out api.Network, err error) {
	return out, c.call(ctx, http.MethodPatch, "/v1/networks/"+url.PathEscape(name), in, &out)
}

// UpdateContainer gives a container another name, and labels, and returns it.
func (c *Client) UpdateContainer(ctx context.Context, name string, in api.ContainerUpdate) (out api.Container, err error) {
	return out, c.call(ctx, http.MethodPatch, "/v1/containers/"+url.PathEscape(name), in, &out)
}
