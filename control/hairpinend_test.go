package control

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// A container has a connection to a published port of another, which is detached: the one
// that gets the address next gets nothing of it.
func TestHairpinEndsWithItsTarget(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	web, wct := r.attach("web", api.Attach{Publish: []string{"8080:80"}})
	db, _ := r.attach("db", api.Attach{})
	serve(t, web, ":80", "web")
	c, err := db.Dial("tcp", netlab.HostAddr+":8080", 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	hairpins := func() (n int) {
		t.Helper()
		list, err := r.Flows(ctx, api.FlowQuery{Container: "db"})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range list {
			if f.Kind == "hairpin" {
				n++
			}
		}
		return n
	}
	if hairpins() != 1 {
		t.Fatal("there is no such flow")
	}
	if err := r.Detach(ctx, "web"); err != nil {
		t.Fatal(err)
	}
	if n := hairpins(); n != 0 {
		t.Errorf("%d flows to the port of a container that is gone", n)
	}
	r.attach("next", api.Attach{Networks: []api.Connect{{Network: "bridge", IP: addr(wct)}}})
	if c, err := db.Dial("tcp", netlab.HostAddr+":8080", 2*time.Second); err == nil {
		c.Close()
		t.Error("a port that nobody publishes leads to the container that has the address now")
	}
}

// A program of the host has connections to published ports. They end when the container behind
// them is gone, or the port is: nobody waits, and nothing goes to who has the address next.
func TestLocalhostEndsWithItsTarget(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	web, wct := r.attach("web", api.Attach{Publish: []string{"8080:80", "8081:80", "5353:53/udp"}})
	in, err := web.Listen("tcp", ":80")
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, in, func(c net.Conn) { io.Copy(c, c) })
	answers := func(ns *netlab.NS, with string) {
		t.Helper()
		in, err := ns.ListenPacket("udp", ":53")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { in.Close() })
		go func() {
			b := make([]byte, 100)
			for {
				_, from, err := in.ReadFrom(b)
				if err != nil {
					return
				}
				in.WriteTo([]byte(with), from)
			}
		}()
	}
	answers(web, "web")
	dial := func(network, at string) net.Conn {
		t.Helper()
		c, err := r.world.Host.Dial(network, at, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(20 * time.Second))
		return c
	}
	open := func(at string) net.Conn {
		t.Helper()
		c := dial("tcp", at)
		c.Write([]byte("x"))
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	reset := func(c net.Conn, what string) {
		t.Helper()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: %v, want %v", what, err, syscall.ECONNRESET)
		}
	}
	one, two, udp := open("127.0.0.1:8080"), open("127.0.0.1:8081"), dial("udp", "127.0.0.1:5353")
	asks := func(want string) {
		t.Helper()
		b := make([]byte, 100)
		for range 20 { // the first may find nobody
			udp.SetReadDeadline(time.Now().Add(time.Second))
			udp.Write([]byte("?"))
			if n, err := udp.Read(b); err == nil {
				if got := string(b[:n]); got != want {
					t.Errorf("%q answers, want %q", got, want)
				}
				return
			}
		}
		t.Errorf("nobody answers, want %q", want)
	}
	asks("web")
	if err := r.Unpublish(ctx, "web", []string{"8081:80"}); err != nil {
		t.Fatal(err)
	}
	reset(two, "the port is published no more")
	if err := r.Detach(ctx, "web"); err != nil {
		t.Fatal(err)
	}
	reset(one, "the container is detached")
	// The address goes to a container that publishes nothing, the port to another.
	other, _ := r.attach("other", api.Attach{Networks: []api.Connect{{Network: "bridge", IP: addr(wct)}}})
	answers(other, "other")
	next, _ := r.attach("next", api.Attach{Publish: []string{"5353:53/udp"}})
	answers(next, "next")
	asks("next")
}
