package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/vswitch/vswitch/internal/netlab"
)

// Every server of the demo says which client it saw, and nothing else: a page
// by HTTP on port 80, a datagram in answer to each one on port 7.
const (
	sitePage = "80"
	siteEcho = "7"
)

func servePage(l net.Listener) {
	srv := &http.Server{
		ReadHeaderTimeout: demoTimeout,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, host(r.RemoteAddr))
		}),
	}
	srv.Serve(l)
}

func serveEcho(c net.PacketConn) {
	b := make([]byte, 2048)
	for {
		_, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		fmt.Fprintln(writerTo{c, from}, host(from.String()))
	}
}

type writerTo struct {
	net.PacketConn
	to net.Addr
}

func (w writerTo) Write(b []byte) (int, error) { return w.WriteTo(b, w.to) }

// host is the address of an address and port.
func host(addrPort string) string {
	h, _, _ := net.SplitHostPort(addrPort)
	return strings.TrimPrefix(h, "::ffff:")
}

// serve makes addr in ns answer, from this process.
func (d *demo) serve(ns *netlab.NS, addr string) error {
	l, err := ns.Listen("tcp", net.JoinHostPort(addr, sitePage))
	if err != nil {
		return err
	}
	d.sites = append(d.sites, l)
	c, err := ns.ListenPacket("udp", net.JoinHostPort(addr, siteEcho))
	if err != nil {
		return err
	}
	d.sites = append(d.sites, c)
	go servePage(l)
	go serveEcho(c)
	return nil
}

// fetch gets the page at addr, from within ns.
func fetch(ctx context.Context, ns *netlab.NS, addr string) (string, error) {
	return get(ctx, addr, func(_ context.Context, network, addr string) (net.Conn, error) {
		return ns.Dial(network, addr, demoTimeout)
	})
}

// get returns the body of the page at addr, by a connection of its own.
func get(ctx context.Context, addr string, dial func(ctx context.Context, network, addr string) (net.Conn, error)) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, demoTimeout)
	defer cancel()
	tr := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		return "", err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	return strings.TrimSpace(string(body)), err
}

// echo sends a datagram to addr, again when none comes back, and returns the
// answer.
func echo(addr string) (string, error) {
	c, err := net.Dial("udp", net.JoinHostPort(addr, siteEcho))
	if err != nil {
		return "", err
	}
	defer c.Close()
	b := make([]byte, 2048)
	for range 3 {
		if _, err = io.WriteString(c, "who am I?\n"); err != nil {
			return "", err
		}
		c.SetReadDeadline(time.Now().Add(demoTimeout / 3))
		var n int
		if n, err = c.Read(b); err == nil {
			return strings.TrimSpace(string(b[:n])), nil
		}
	}
	return "", err
}
