package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/vswitch/vswitch/control/api"
)

// FreeSubnet says which subnet a new network could have.
func (c *Client) FreeSubnet(ctx context.Context, in api.SubnetRequest) (out api.FreeSubnet, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/subnets/free", in, &out)
}

// LeaseAddress keeps an address of a network for a container to come.
func (c *Client) LeaseAddress(ctx context.Context, network string, in api.LeaseRequest) (out api.Lease, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/networks/"+url.PathEscape(network)+"/leases", in, &out)
}

// EndLease gives an address back. One that is not leased is no error.
func (c *Client) EndLease(ctx context.Context, network, address string) error {
	return c.call(ctx, http.MethodDelete, "/v1/networks/"+url.PathEscape(network)+"/leases/"+url.PathEscape(address), nil, nil)
}
