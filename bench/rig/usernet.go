package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/vswitch/vswitch/internal/netlab"
)

// buildDockerProxy publishes B's ports by docker-proxy alone: Docker uses it
// where its DNAT does not reach, here it serves every path.
func (r *Rig) buildDockerProxy(ctx context.Context) error {
	if err := r.buildBridge(); err != nil {
		return err
	}
	if err := r.addNFT(nil); err != nil {
		return err
	}
	for _, m := range published {
		_, err := r.start(r.World.Host, "docker-proxy", "-proto", m.Proto, "-host-ip", "0.0.0.0", "-host-port", strconv.Itoa(int(m.Host())),
			"-container-ip", r.B.Addr.String(), "-container-port", strconv.Itoa(int(m.Container)))
		if err != nil {
			return err
		}
	}
	return r.awaitPublished(ctx)
}

// buildUserNet gives each container a user-mode network stack of its own.
func (r *Rig) buildUserNet(ctx context.Context, start func(ctx context.Context, ns *netlab.NS, ports []mapping) (*Container, error)) error {
	if _, err := r.scratch(); err != nil {
		return err
	}
	r.serveAny = true
	for _, c := range r.containers() {
		ns, err := r.namespace(c.name)
		if err != nil {
			return err
		}
		var ports []mapping
		if c.name == "b" {
			ports = published
		}
		if *c.at, err = start(ctx, ns, ports); err != nil {
			return err
		}
	}
	return r.awaitPublished(ctx)
}

// startPasta gives ns the host's own address, which is what pasta does.
func (r *Rig) startPasta(ctx context.Context, ns *netlab.NS, ports []mapping) (*Container, error) {
	// It gives up the right to look into another process before it opens the
	// namespace, so the namespace gets a name, in a mount namespace of pasta's own.
	name := filepath.Join(r.dir, ns.Name()+".netns")
	arg := []string{"--mount", "sh", "-c", `: >"$1" && mount --bind "$0" "$1" && shift && exec pasta "$@"`, ns.Path(), name,
		"--foreground", "--quiet", "--config-net", "--runas", "0", "-T", "none", "-U", "none", "--netns-only", "--netns", name}
	for proto, flag := range map[string]string{"tcp": "-t", "udp": "-u"} {
		var specs []string
		for _, m := range ports {
			if m.Proto == proto {
				specs = append(specs, fmt.Sprintf("%d:%d", m.Host(), m.Container))
			}
		}
		if len(specs) == 0 {
			specs = []string{"none"}
		}
		arg = append(arg, flag, strings.Join(specs, ","))
	}
	p, err := r.start(r.World.Host, "unshare", arg...)
	if err != nil {
		return nil, err
	}
	return r.awaitTap(ctx, p, ns, "eth0", netip.MustParseAddr(netlab.HostAddr))
}

// startSlirp has the network that slirp4netns makes up.
func (r *Rig) startSlirp(ctx context.Context, ns *netlab.NS, ports []mapping) (*Container, error) {
	const guest = "10.0.2.100"
	api := filepath.Join(r.dir, ns.Name()+".slirp")
	p, err := r.start(r.World.Host, "slirp4netns", "--configure", "--mtu=65520", "--netns-type=path", "--api-socket="+api, ns.Path(), "eth0")
	if err != nil {
		return nil, err
	}
	c, err := r.awaitTap(ctx, p, ns, "eth0", netip.MustParseAddr(guest))
	if err != nil {
		return nil, err
	}
	for _, m := range ports {
		if err := p.await(ctx, func() error { return slirpForward(api, m, guest) }); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func slirpForward(api string, m mapping, guest string) error {
	conn, err := net.DialTimeout("unix", api, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	request, err := json.Marshal(map[string]any{"execute": "add_hostfwd", "arguments": map[string]any{
		"proto": m.Proto, "host_addr": "0.0.0.0", "host_port": m.Host(), "guest_addr": guest, "guest_port": m.Container,
	}})
	if err != nil {
		return err
	}
	conn.SetDeadline(time.Now().Add(time.Second))
	if _, err := conn.Write(request); err != nil {
		return err
	}
	// It answers when it has seen the end of the request.
	conn.(*net.UnixConn).CloseWrite()
	var answer bytes.Buffer
	if _, err := answer.ReadFrom(conn); err != nil {
		return err
	}
	if bytes.Contains(answer.Bytes(), []byte(`"error"`)) {
		return fmt.Errorf("add_hostfwd: %s", strings.TrimSpace(answer.String()))
	}
	return nil
}

// awaitTap waits until the program has made and configured its device.
func (r *Rig) awaitTap(ctx context.Context, p *process, ns *netlab.NS, ifname string, addr netip.Addr) (*Container, error) {
	c := &Container{NS: ns, Ifname: ifname, Addr: addr}
	return c, p.await(ctx, func() (err error) {
		if c.MAC, err = ns.MAC(ifname); err != nil {
			return err
		}
		// A socket can be bound to an address when it is there.
		pc, err := ns.ListenPacket("udp", netip.AddrPortFrom(addr, 0).String())
		if err != nil {
			return err
		}
		return pc.Close()
	})
}

// awaitPublished waits until the host's ports take connections; the servers
// behind them come later.
func (r *Rig) awaitPublished(ctx context.Context) error {
	for _, m := range published {
		if m.Proto != "tcp" {
			continue
		}
		target := netip.AddrPortFrom(netip.MustParseAddr(netlab.HostAddr), m.Host()).String()
		for limit := time.Now().Add(5 * time.Second); ; {
			conn, err := r.World.Host.Dial("tcp", target, time.Second)
			if err == nil {
				conn.Close()
				break
			}
			if time.Now().After(limit) || ctx.Err() != nil {
				return fmt.Errorf("published port %d: %w", m.Host(), err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}
