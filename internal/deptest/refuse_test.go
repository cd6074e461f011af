package deptest

import "testing"

// A rule that never speaks would pass for ever: each must refuse something.
func TestRulesRefuse(t *testing.T) {
	for _, c := range []struct {
		pkg, imp string
		refused  bool
	}{
		{"dataplane/header", module + "dataplane/frame", true},
		{"dataplane/frame", module + "dataplane/header", false},
		{"dataplane/frame", module + "dataplane/port", true},
		{"dataplane/port", module + "dataplane", true},
		{"dataplane", module + "control/kernel", true},
		{"dataplane", module + "dataplane/port", false},
		{"dataplane", "log/slog", true},
		{"dataplane", "github.com/gopacket/gopacket", true},
		{"dataplane/switchtest", "github.com/gopacket/gopacket", false},
		{"dataplane/header", "time", true},
		{"dataplane/filter", module + "dataplane/frame", true},
		{"control/pcapfilter", module + "dataplane/filter", true},
		{"control", module + "cmd/vswitch", true},
		{"control", module + "dataplane/port", false},
		{"control/kernel", module + "control", true},
		{"control/model", module + "control/host", true},
		{"control/plan", module + "control/model", true},
		{"control/inventory", module + "control/kernel", true},
		{"control/events", module + "control/edge", true},
		{"control/inventory", module + "control/directory", false},
		{"control/directory", module + "control/state", true},
		{"control/observe", module + "control/state", true},
		{"control/policy", module + "control/model", true},
		{"control/policy", module + "dataplane", false},
		{"dataplane/switchtest", module + "control/policy", false},
		{"dataplane/switchtest", module + "control/model", true},
		{"control/observe", module + "control/kernel", true},
		{"control/observe", module + "control/directory", false},
		{"control/reasons", module + "control/api", true},
		{"control/directory", module + "control/model", false},
		{"control/model", module + "control/state", false},
		{"control/kernel", module + "dataplane", true},
		{"control/kernel", module + "dataplane/flowmap", false},
		{"dataplane/flowmap", module + "dataplane/port", true},
		{"dataplane/conntrack", module + "dataplane", true},
		{"dataplane/conntrack", module + "dataplane/fdb", true},
		{"dataplane/conntrack", module + "dataplane/frame", false},
		{"dataplane/fdb", module + "dataplane", true},
		{"dataplane/fdb", module + "dataplane/frame", false},
		{"dataplane/fdb", "log/slog", true},
		{"control/relay", module + "dataplane", true},
		{"control/client", module + "control/state", true},
		{"control/docker", module + "control/state", true},
		{"control/docker", module + "control/client", true},
		{"control/docker", module + "control/api", false},
		{"control/client", module + "control/api", false},
		{"control/cni", module + "control/client", false},
		{"control/cni", module + "control", true},
		{"control/cni", "github.com/containernetworking/cni/pkg/skel", false},
		{"control", "github.com/containernetworking/cni/pkg/types", true},
		{"control/api", module + "dataplane/header", true},
		{"control/metrics", module + "dataplane", true},
		{"control/metrics", module + "control/api", false},
		{"control/web", module + "control/metrics", true},
		{"control/web", module + "control/server", false},
		{"control/web", "github.com/chromedp/chromedp", true},
		{"control", "github.com/prometheus/client_golang/prometheus", true},
		{"control/state", module + "dataplane/header", true},
		{"cmd/vswitch", module + "dataplane", true},
		{"cmd/vswitch", module + "control/host", true},
		{"cmd/vswitch", module + "control", true},
		{"cmd/vswitch", module + "control/daemon", false},
		{"control/daemon", module + "control", false},
		{"control/web", module + "control/daemon", true},
		{"control", module + "control/daemon", true},
		{"bench/rig", module + "control", true},
		{"internal/netlab", module + "control/host", true},
		{"control", module + "internal/netlab/labtest", true},
		{"control", "github.com/vishvananda/netlink", true},
		{"control/host", "github.com/vishvananda/netlink/nl", false},
		{"control", "github.com/songgao/water", true},
		{"control", "go.etcd.io/bbolt", true},
		{"control", "github.com/spf13/cobra", true},
		{"control", "github.com/coreos/go-systemd/v22/daemon", true},
		{"control", "github.com/cilium/ebpf/link", true},
		{"control", "golang.org/x/sys/unix", true},
		{"dataplane", "golang.org/x/sys/unix", true},
		{"dataplane/port", "golang.org/x/sys/unix", false},
	} {
		refused := false
		for _, r := range rules {
			refused = refused || r.violatedBy(c.pkg, c.imp)
		}
		if refused != c.refused {
			t.Errorf("%s imports %s: refused %v, want %v", c.pkg, c.imp, refused, c.refused)
		}
	}
}
