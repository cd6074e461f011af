package deptest

import (
	"go/ast"
	"strings"
	"testing"
)

const module = "github.com/vswitch/vswitch/"

// rule bounds the imports of some packages, test files left out: a test may
// look at what it tests from wherever it likes.
type rule struct {
	// in names the packages, relative to the module; "a/..." is a and all below.
	in []string
	// forbids are import paths, with "module/" for this one.
	forbids []string
	// but are import paths that are allowed all the same.
	but    []string
	reason string
}

// rules say: imports point one way,
//
//	cmd -> control -> dataplane -> dataplane/port -> dataplane/frame -> dataplane/header
var rules = []rule{
	{
		in: []string{"dataplane/header"}, forbids: []string{"module/..."},
		reason: "header is the leaf: it must be readable, and testable, without the switch",
	}, {
		in: []string{"dataplane/frame"}, forbids: []string{"module/..."},
		but:    []string{"module/dataplane/header"},
		reason: "frame is what port and the stages share, so it knows neither",
	}, {
		in: []string{"dataplane/port"}, forbids: []string{"module/..."},
		but:    []string{"module/dataplane/frame", "module/dataplane/header"},
		reason: "a port moves frames and knows no network, address or container",
	}, {
		in: []string{"dataplane/..."}, forbids: []string{"module/..."},
		but:    []string{"module/dataplane/..."},
		reason: "the data path knows numbers; names, files and links are control's",
	}, {
		in: []string{"dataplane/filter", "control/pcapfilter", "control/pcapng"}, forbids: []string{"module/..."},
		reason: "leaves: text becomes a program in one, which runs in another, with only BPF between them; the third is a file format",
	}, {
		in: []string{"control/..."}, forbids: []string{"module/..."},
		but:    []string{"module/control/...", "module/dataplane/..."},
		reason: "control serves the command line, the benchmark and the tests, so it knows none of them",
	}, {
		in: []string{"control/..."}, forbids: []string{"module/control"},
		reason: "the parts of control are put together by package control and do not know it",
	}, {
		in: []string{"control/api"}, forbids: []string{"module/..."},
		reason: "the wire types change by themselves: neither the controller's records nor the snapshot leak into them",
	}, {
		in: []string{"control/docker"}, forbids: []string{"module/..."},
		but:    []string{"module/control/api"},
		reason: "Docker's plugin is a front end: it does what any program can do over the interface, and keeps nothing",
	}, {
		in: []string{"control/client", "control/server"}, forbids: []string{"module/..."},
		but:    []string{"module/control/api", "module/control/pcapng"},
		reason: "who speaks the interface, on either side, does not link the data path",
	}, {
		in: []string{"control/metrics"}, forbids: []string{"module/..."},
		but:    []string{"module/control/api"},
		reason: "what a scrape tells is handed over whole: the collector links nothing that it could change",
	}, {
		in: []string{"control/web"}, forbids: []string{"module/..."},
		but:    []string{"module/control/api", "module/control/server"},
		reason: "the page reads by the interface as any client does: it has no way to change anything",
	}, {
		in: []string{"control/cni", "control/netavark", "control/oci"}, forbids: []string{"module/..."},
		but:    []string{"module/control/api", "module/control/client"},
		reason: "a front end of a runtime is a thin client: the daemon owns all state",
	}, {
		in: []string{"..."}, forbids: []string{"github.com/containernetworking/..."},
		reason: "the words of CNI are control/cni's affair",
	}, {
		in: []string{"control/state", "control/process", "control/ipfix"}, forbids: []string{"module/..."},
		reason: "what is on disk or goes to a collector must not change because a type elsewhere did",
	}, {
		in: []string{"control/host", "control/reserve", "control/relay"}, forbids: []string{"module/dataplane/..."},
		but:    []string{"module/dataplane/header"},
		reason: "the kernel's side of the network needs protocol numbers of the data path and no more",
	}, {
		in: []string{"control/kernel"}, forbids: []string{"module/dataplane/..."},
		but:    []string{"module/dataplane", "module/dataplane/header"},
		reason: "the BPF programs share the layout of the claims with the data path and nothing else",
	}, {
		in: []string{"cmd/..."}, forbids: []string{"module/..."},
		but:    []string{"module/control", "module/control/api", "module/control/client", "module/control/cni", "module/control/doctor", "module/control/netavark", "module/control/oci", "module/internal/netlab"},
		reason: "the command line speaks the interface as any program does; only daemon goes deeper, by control.Run",
	}, {
		in: []string{"bench/..."}, forbids: []string{"module/..."},
		but:    []string{"module/bench/...", "module/control/api", "module/control/client", "module/internal/netlab"},
		reason: "the benchmark measures the program from outside, as a user has it",
	}, {
		in: []string{"internal/netlab/..."}, forbids: []string{"module/..."},
		but:    []string{"module/internal/netlab/..."},
		reason: "networks for tests must not be made by the code under test",
	}, {
		in: []string{"internal/debroot/..."}, forbids: []string{"module/..."},
		but:    []string{"module/internal/debroot", "module/internal/netlab"},
		reason: "machines for tests must not be made by the code under test",
	}, {
		in: []string{"..."}, forbids: []string{"module/dataplane/port/porttest", "module/dataplane/switchtest", "module/internal/netlab/labtest", "module/internal/doctest", "testing"},
		but:    nil,
		reason: "support of tests stays out of the program",
	},

	{
		in: []string{"..."}, forbids: []string{"github.com/vishvananda/..."},
		reason: "netlink is spoken in control/host, and in internal/netlab for networks of tests: one place to look when the kernel answers oddly",
	}, {
		in: []string{"..."}, forbids: []string{"github.com/songgao/water"},
		reason: "devices are opened in dataplane/port",
	}, {
		in: []string{"..."}, forbids: []string{"go.etcd.io/bbolt"},
		reason: "the state file has one package, control/state, that knows its layout",
	}, {
		in: []string{"..."}, forbids: []string{"github.com/prometheus/..."},
		reason: "metrics are put into words in control/metrics; what is counted is counted where it happens",
	}, {
		in: []string{"..."}, forbids: []string{"github.com/chromedp/..."},
		reason: "a browser is for tests",
	}, {
		in: []string{"..."}, forbids: []string{"github.com/spf13/..."},
		reason: "flags belong to the command line",
	}, {
		in: []string{"..."}, forbids: []string{"github.com/coreos/go-systemd/..."},
		reason: "the service manager speaks to the process, so the command line answers; control is handed what it says",
	}, {
		in: []string{"..."}, forbids: []string{"github.com/cilium/ebpf/..."},
		reason: "BPF is loaded in control/kernel; the demo and the benchmark only look or compare",
	}, {
		in: []string{"..."}, forbids: []string{"golang.org/x/sys/unix"},
		reason: "system calls live where a system call is the job: ports, pages, control/{host,kernel,relay,reserve,process}, netlab, bench and the commands that start processes",
	}, {
		in:      []string{"dataplane", "dataplane/filter", "dataplane/frame", "dataplane/header", "dataplane/pages", "dataplane/port"},
		forbids: []string{"log", "log/...", "encoding/json", "net/http", "os/exec", "github.com/gopacket/..."},
		reason:  "nothing on a frame's way logs, formats or decodes for people; counters and captures tell them",
	}, {
		in: []string{"dataplane/header", "dataplane/frame"}, forbids: []string{"os", "net", "syscall", "sync", "time"},
		reason: "header and frame do no I/O, hold no state and know no time",
	},
}

// exempt lists who may break a rule of "...", by the rule's first forbidden
// path.
var exempt = map[string][]string{
	"module/dataplane/port/porttest":     {"dataplane/port/porttest", "dataplane/switchtest", "internal/netlab/labtest", "internal/doctest"},
	"github.com/vishvananda/...":         {"control/host", "internal/netlab"},
	"github.com/songgao/water":           {"dataplane/port"},
	"go.etcd.io/bbolt":                   {"control/state"},
	"github.com/prometheus/...":          {"control/metrics"},
	"github.com/spf13/...":               {"cmd/vswitch"},
	"github.com/coreos/go-systemd/...":   {"cmd/vswitch"},
	"github.com/cilium/ebpf/...":         {"control/kernel", "cmd/vswitch", "bench/scenario", "internal/netlab/labtest"},
	"github.com/containernetworking/...": {"control/cni"},
	"golang.org/x/sys/unix": {
		"dataplane/pages", "dataplane/port/...", "control/host", "control/kernel", "control/relay", "control/reserve",
		"control/process", "control/doctor", "internal/netlab/...", "bench/...", "cmd/vswitch",
	},
}

func TestImports(t *testing.T) {
	for _, f := range sources(t) {
		if f.test {
			continue
		}
		for _, imp := range f.imports {
			for _, r := range rules {
				if r.violatedBy(f.pkg, imp) {
					t.Errorf("%s imports %s: %s", f.path, imp, r.reason)
				}
			}
		}
	}
}

func (r *rule) violatedBy(pkg, imp string) bool {
	path := imp
	if strings.HasPrefix(imp, module) {
		path = "module/" + strings.TrimPrefix(imp, module)
	}
	switch {
	case !matchesAny(r.in, pkg), !matchesAny(r.forbids, path), matchesAny(r.but, path):
		return false
	case path == "module/control" && pkg == "control":
		return false
	}
	return r.in[0] != "..." || !matchesAny(exempt[r.forbids[0]], pkg)
}

func matchesAny(patterns []string, path string) bool {
	for _, p := range patterns {
		if matches(p, path) {
			return true
		}
	}
	return false
}

// matches follows the go command: "a/..." is a and all below it.
func matches(pattern, path string) bool {
	if pattern == "..." {
		return true
	}
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == base || strings.HasPrefix(path, base+"/")
	}
	return pattern == path
}

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
		{"control/kernel", module + "dataplane", false},
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
		{"cmd/vswitch", module + "control", false},
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

// The clock is read once a turn and handed on. Only where a switch is made, where
// a capture ties its clock to the wall's, and outside of turns where a port is asked for
// what the kernel lost, may the package ask for the time.
func TestDataplaneReadsNoClock(t *testing.T) {
	allowed := map[string]bool{"dataplane/switch.go": true, "dataplane/capture.go": true, "dataplane/port/tap_linux.go": true}
	for _, f := range sources(t) {
		if f.test || allowed[f.path] || !matches("dataplane/...", f.pkg) || f.pkg == "dataplane/switchtest" || f.pkg == "dataplane/port/porttest" {
			continue
		}
		ast.Inspect(f.syntax(t), func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && (s.Sel.Name == "Now" || s.Sel.Name == "Since") {
					t.Errorf("%s calls time.%s: the time of a turn is handed to the stages, tests set it", f.path, s.Sel.Name)
				}
			}
			return true
		})
	}
}
