package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/vswitch/vswitch/control/api"
)

// ErrNoDaemon is what a call wraps when nobody answers at the socket.
var ErrNoDaemon = errors.New("no vswitch daemon")

// Error is an answer of the daemon that says no. Its text is the daemon's own
// line.
type Error struct {
	Status  int // of HTTP: 400 bad input, 404, 409 conflict, 507 full, 500
	Message string
}

// Error returns the daemon's line.
func (e *Error) Error() string { return e.Message }

// Unwrap is the kind of refusal, one of the errors of package api, so that it is
// recognised as the controller's are.
func (e *Error) Unwrap() error { return api.Kind(e.Status) }

// IsNotFound reports whether err says that the named object does not exist.
func IsNotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound
}

// IsConflict reports whether err says that the request collides with something
// that exists.
func IsConflict(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusConflict
}

// Socket is the path of the daemon's socket: VSWITCH_SOCKET when it is set,
// else vswitch.sock in runDir.
func Socket(runDir string) string {
	if s := os.Getenv("VSWITCH_SOCKET"); s != "" {
		return s
	}
	return filepath.Join(runDir, "vswitch.sock")
}

// Client calls one daemon. Safe for concurrent use.
type Client struct {
	socket string
	http   *http.Client
}

// New returns a client of the daemon at socket, a path. It does not connect.
func New(socket string) *Client {
	tr := &http.Transport{
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dial(ctx, socket)
		},
	}
	return &Client{socket: socket, http: &http.Client{Transport: tr}}
}

// Close drops idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Info describes the daemon.
func (c *Client) Info(ctx context.Context) (out api.Info, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/info", nil, &out)
}

// Page says where the daemon's page is and what opens it.
func (c *Client) Page(ctx context.Context) (out api.Page, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/page", nil, &out)
}

// CreateNetwork makes a network and returns it.
func (c *Client) CreateNetwork(ctx context.Context, in api.NetworkCreate) (out api.Network, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/networks", in, &out)
}

// Networks lists all networks, by name.
func (c *Client) Networks(ctx context.Context) (out []api.Network, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/networks", nil, &out)
}

// Network returns one network, by name or ID.
func (c *Client) Network(ctx context.Context, name string) (out api.Network, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/networks/"+url.PathEscape(name), nil, &out)
}

// RemoveNetwork deletes a network without containers; with force also one that a runtime relies on.
func (c *Client) RemoveNetwork(ctx context.Context, name string, force ...Force) error {
	return c.call(ctx, http.MethodDelete, "/v1/networks/"+url.PathEscape(name)+forced(force), nil, nil)
}

// Force, when true, passes over a runtime that has a container or relies on a network.
type Force bool

func forced(force []Force) string {
	if slices.Contains(force, true) {
		return "?force=true"
	}
	return ""
}

// PruneNetworks deletes every network without containers, the default one
// excepted, and says which.
func (c *Client) PruneNetworks(ctx context.Context) (out api.Pruned, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/networks/prune", nil, &out)
}

// Attach registers a container and wires it. Repeated with the same request it
// returns what exists.
func (c *Client) Attach(ctx context.Context, in api.Attach) (out api.Container, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/containers", in, &out)
}

// Detach undoes Attach, with force also of a container that a runtime has attached. That one is
// not attached is no error.
func (c *Client) Detach(ctx context.Context, name string, force ...Force) error {
	return c.call(ctx, http.MethodDelete, "/v1/containers/"+url.PathEscape(name)+forced(force), nil, nil)
}

// Container returns one attached container, by name or ID.
func (c *Client) Container(ctx context.Context, name string) (out api.Container, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/containers/"+url.PathEscape(name), nil, &out)
}

// Connect joins an attached container to another network.
func (c *Client) Connect(ctx context.Context, name string, in api.Connect) (out api.Container, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/containers/"+url.PathEscape(name)+"/networks", in, &out)
}

// Disconnect takes a container out of a network.
func (c *Client) Disconnect(ctx context.Context, name, network string) error {
	return c.call(ctx, http.MethodDelete,
		"/v1/containers/"+url.PathEscape(name)+"/networks/"+url.PathEscape(network), nil, nil)
}

// Ports lists the published ports of a container.
func (c *Client) Ports(ctx context.Context, name string) (out []api.PortMapping, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/containers/"+url.PathEscape(name)+"/ports", nil, &out)
}

// Publish adds published ports, written as after -p, all or none, and returns
// those it added.
func (c *Client) Publish(ctx context.Context, name string, ports []string) (out []api.PortMapping, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/containers/"+url.PathEscape(name)+"/ports",
		api.Publish{Ports: ports}, &out)
}

// Unpublish takes published ports away, all or none.
func (c *Client) Unpublish(ctx context.Context, name string, ports []string) error {
	return c.call(ctx, http.MethodDelete, "/v1/containers/"+url.PathEscape(name)+"/ports",
		api.Publish{Ports: ports}, nil)
}

// Shares lists what each container has of the tables that all share.
func (c *Client) Shares(ctx context.Context) (out []api.Share, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/shares", nil, &out)
}

// FDB lists the MAC tables of all networks.
func (c *Client) FDB(ctx context.Context) (out []api.FDBEntry, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/fdb", nil, &out)
}

// NAT lists the translated connections, oldest first.
func (c *Client) NAT(ctx context.Context, q api.NATQuery) (out []api.NATEntry, err error) {
	err = c.call(ctx, http.MethodGet, "/v1/nat"+selection(q.Container, q.Limit), nil, &out)
	// The daemon sorts some thousands and no more.
	slices.SortStableFunc(out, func(a, b api.NATEntry) int { return cmp.Compare(b.Age, a.Age) })
	return out, err
}

// FlushNAT forgets translated connections: those that in selects, all of them
// when it is empty.
func (c *Client) FlushNAT(ctx context.Context, in api.NATFlush) (out api.NATFlushed, err error) {
	return out, c.call(ctx, http.MethodPost, "/v1/nat/flush", in, &out)
}

// Stats returns the counters that q selects.
func (c *Client) Stats(ctx context.Context, q api.StatsQuery) (out api.Stats, err error) {
	return out, c.call(ctx, http.MethodGet, "/v1/stats"+selection(q.Container, 0), nil, &out)
}

// call performs one request and decodes the answer into out, unless nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
	}
	resp, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	} else {
		err = json.NewDecoder(resp.Body).Decode(out)
	}
	if err != nil {
		return fmt.Errorf("vswitch daemon at %s: broken answer: %w", c.socket, err)
	}
	return nil
}

// do sends a request and turns refusals into errors; the caller closes the body.
func (c *Client) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		r = bytes.NewReader(body)
	}
	// The host part never reaches a resolver; it only has to be well formed.
	req, err := http.NewRequestWithContext(ctx, method, "http://vswitch"+path, r)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", api.UserAgent)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if resp.StatusCode < 400 {
		return resp, nil
	}
	defer resp.Body.Close()
	var e api.Error
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if json.Unmarshal(b, &e) != nil || e.Message == "" {
		e.Message = fmt.Sprintf("vswitch daemon at %s: %s", c.socket, resp.Status)
	}
	return nil, &Error{Status: resp.StatusCode, Message: e.Message}
}

// explain names the way out where a connection could not be made.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w at %s: start one with \"vswitch daemon\"", ErrNoDaemon, c.socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("vswitch daemon at %s: %w: run as root, or join the group vswitch-ro to read or vswitch-admin to make changes",
			c.socket, fs.ErrPermission)
	}
	// The url.Error in front would show a made-up host.
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("vswitch daemon at %s: %w", c.socket, err)
}
