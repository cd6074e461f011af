package main

import (
	"net"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
)

// TestRunDualStack runs a container with an address of each family and reaches
// it by both, from everywhere.
func TestRunDualStack(t *testing.T) {
	r := newRig(t)
	n := decode[api.Network](r, "network", "create", "dual", "--ipv6", "--subnet", "fd00:5::/64", "--gateway", "fd00:5::fe", "--subnet", "10.5.0.0/24")
	if len(n.Subnets) != 2 || n.Subnets[1].Gateway != "fd00:5::fe" {
		t.Fatalf("network %+v", n)
	}
	r.run("web", "--network", "name=dual,ip6=fd00:5::77", "-p", "8080:80")
	ct := decode[api.Container](r, "inspect", "web")
	if got := ct.Endpoints[0].Addresses; len(got) != 2 || got[0] != "10.5.0.2/24" || got[1] != "fd00:5::77/64" {
		t.Fatalf("addresses %v", got)
	}
	// The world's own addresses wait for duplicate address detection.
	deadline := time.Now().Add(30 * time.Second)
	at6 := net.JoinHostPort(netlab.HostAddr6, "8080")
	for {
		if _, err := r.fetch(r.world.Outside, at6); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	r.wantPage(r.world.Outside, at6, netlab.OutsideAddr6)
	r.wantPage(r.world.Outside, netlab.HostAddr+":8080", netlab.OutsideAddr)
	r.wantPage(r.world.Host, "[::1]:8080", "fd00:5::fe")
	r.wantPage(r.world.Host, "127.0.0.1:8080", "10.5.0.1")
	r.wantPage(r.world.Host, "[fd00:5::77]", "fd00:5::fe")
}
