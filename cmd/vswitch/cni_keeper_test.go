package main

import (
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// What calls the plugin may listen on the port that it asks for, and the next daemon knows
// that. For a pod nobody may: what calls is the node's runtime, and who makes pods must not get
// the ports that it listens on.
func TestCNICallerListens(t *testing.T) {
	r := newCNIRig(t)
	for _, network := range []string{"tcp4", "udp4"} {
		if network == "tcp4" {
			l, err := r.world.Host.Listen(network, "0.0.0.0:8080")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			continue
		}
		c, err := r.world.Host.ListenPacket(network, "0.0.0.0:8053")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	l := r.list("1.0.0", "blue", `"subnet":"10.7.0.0/24"`)
	pod := labtest.New(t, "pod")
	rt := &libcni.RuntimeConf{ContainerID: "c1", NetNS: pod.Path(), IfName: "eth0", Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_UID", "u1"}},
		CapabilityArgs: map[string]any{"portMappings": []map[string]any{
			{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
			{"hostPort": 8053, "containerPort": 53, "protocol": "udp"},
		}}}
	if _, err := r.add(l, rt); err == nil || !strings.Contains(err.Error(), "port 8080/tcp is held by") {
		t.Errorf("for a pod: %v", err)
	}
	rt.Args = nil
	r.mustAdd(l, rt)
	hello(t, pod, 80)
	for _, when := range []string{"at first", "after a restart"} {
		wantHello(t, r.world.Outside, netlab.HostAddr+":8080", "pod")
		wantHello(t, r.world.Host, "127.0.0.1:8080", "pod")
		if out := r.must("port", "ls"); !strings.Contains(out, "8080") || !strings.Contains(out, "8053") {
			t.Errorf("%s:\n%s", when, out)
		}
		if code := r.stop(); code != 0 {
			t.Errorf("the daemon ended with code %d", code)
		}
		r.start()
	}
	if err := r.del(l, rt); err != nil {
		t.Error(err)
	}
}
