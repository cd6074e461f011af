package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/api"
)

// EnsureNetwork returns the network that in names, made as in says when there is
// none. An existing one must have the subnets, gateways and MTU of in, as far as
// in names them; everything else of it is its maker's affair.
func (c *Client) EnsureNetwork(ctx context.Context, in api.NetworkCreate) (api.Network, error) {
	n, err := c.Network(ctx, in.Name)
	if err == nil && !is(n, in.Name) {
		err = &Error{Status: 404}
	}
	if IsNotFound(err) {
		made, cerr := c.CreateNetwork(ctx, in)
		if !IsConflict(cerr) {
			return made, cerr
		}
		// Somebody else was faster, or it collides with something.
		if n, err = c.Network(ctx, in.Name); err != nil || !is(n, in.Name) {
			return n, cerr
		}
	}
	if err != nil {
		return n, err
	}
	return n, differs(n, in)
}

// is reports whether a network was made under a name: it is not the beginning of its ID, nor
// the name that Docker has for it.
func is(n api.Network, name string) bool {
	return n.Name == name && n.Labels[api.LabelDockerNetwork] != name
}

// differs says where a network is not as a request wants it.
func differs(n api.Network, in api.NetworkCreate) error {
	fail := func(what string, is, want any) error {
		return &Error{Status: 409, Message: fmt.Sprintf("network %s has %s %v, the configuration says %v: change one of the two or name another network", n.Name, what, is, want)}
	}
	var subnets, gateways []string
	for _, s := range n.Subnets {
		subnets, gateways = append(subnets, s.Subnet), append(gateways, s.Gateway)
	}
	for _, s := range append(slices.Clone(in.Subnets), in.Subnet) {
		if s != "" && !slices.Contains(subnets, s) {
			return fail("subnet", joinWords(subnets), s)
		}
	}
	for _, g := range append(slices.Clone(in.Gateways), in.Gateway) {
		if g != "" && !slices.Contains(gateways, g) {
			return fail("gateway", joinWords(gateways), g)
		}
	}
	if in.MTU != 0 && in.MTU != n.MTU {
		return fail("MTU", n.MTU, in.MTU)
	}
	if in.Internal && !n.Internal {
		return fail("internal", n.Internal, in.Internal)
	}
	return nil
}

func joinWords(list []string) string {
	s := ""
	for i, w := range list {
		if i > 0 {
			s += " and "
		}
		s += w
	}
	return s
}

// attachTries bounds how often a network may vanish, or a name be taken, between
// a look and the attempt.
const attachTries = 4

// AttachIn attaches a container for a runtime, which names it by Runtime and
// RuntimeID: networks that are missing are made, and when another container has
// the name, a longer one is found.
func (c *Client) AttachIn(ctx context.Context, in api.Attach, networks ...api.NetworkCreate) (ct api.Container, err error) {
	name := in.Name
	for range attachTries {
		for _, n := range networks {
			if _, err := c.EnsureNetwork(ctx, n); err != nil {
				return ct, err
			}
		}
		ct, err = c.Attach(ctx, in)
		switch {
		case IsNotFound(err) && c.missesOne(ctx, networks):
			continue // it went with its last container
		case IsConflict(err) && in.Name == name && c.isAnothers(ctx, in):
			in.Name = longerName(name, in.Runtime+" "+in.RuntimeID)
			continue
		}
		return ct, err
	}
	return ct, err
}

func (c *Client) missesOne(ctx context.Context, networks []api.NetworkCreate) bool {
	return slices.ContainsFunc(networks, func(n api.NetworkCreate) bool {
		_, err := c.Network(ctx, n.Name)
		return IsNotFound(err)
	})
}

func (c *Client) isAnothers(ctx context.Context, in api.Attach) bool {
	ct, err := c.Container(ctx, in.Name)
	return err == nil && ct.Name == in.Name && (ct.Runtime != in.Runtime || ct.RuntimeID != in.RuntimeID)
}

// maxName is the longest name of a container.
const maxName = 63

// longerName makes a name that only one identity has out of one that several may
// have, within the length that names may have.
func longerName(name, identity string) string {
	sum := sha256.Sum256([]byte(identity))
	tail := "-" + hex.EncodeToString(sum[:4])
	return name[:min(len(name), maxName-len(tail))] + tail
}

// FriendlyName makes a container's name of words that a runtime has for it:
// those that are not empty, joined by dots, with what is not allowed replaced.
func FriendlyName(words ...string) string {
	var b []byte
	for _, w := range words {
		if w == "" {
			continue
		}
		if len(b) > 0 {
			b = append(b, '.')
		}
		for _, c := range []byte(w) {
			alnum := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
			switch {
			case alnum || len(b) > 0 && (c == '-' || c == '_' || c == '.'):
				b = append(b, c)
			case len(b) > 0:
				b = append(b, '-')
			}
		}
	}
	if name := string(b); len(name) <= maxName {
		return name
	}
	return longerName(string(b), string(b))
}

// ShortID is what people read of a container's identifier: twelve digits of a
// long hexadecimal one, also behind a namespace as nerdctl has it, all of another.
func ShortID(id string) string {
	if at := strings.LastIndexByte(id, '-') + 1; at > 0 && len(id)-at >= 32 {
		return id[:at] + ShortID(id[at:])
	}
	if len(id) < 32 {
		return id
	}
	if _, err := hex.DecodeString(id[:len(id)&^1]); err != nil {
		return id
	}
	return id[:12]
}
