package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/vswitch/vswitch/control/api"
)

// UpdateNetwork changes a network that stands and returns it.
func (c *Client) UpdateNetwork(ctx context.Context, name string, in api.NetworkUpdate) (out api.Network, err error) {
	return out, c.call(ctx, http.MethodPatch, "/v1/networks/"+url.PathEscape(name), in, &out)
}
