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
	but []string
	// except are packages of in that are free of the rule.
	except []string
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
		in: []string{"dataplane/share"}, forbids: []string{"module/..."},
		reason: "every table divides by the same code, so it knows none of them",
	}, {
		in: []string{"dataplane/fdb"}, forbids: []string{"module/..."},
		but:    []string{"module/dataplane/frame", "module/dataplane/header", "module/dataplane/share"},
		reason: "the tables of layer 2 are told what they need of a snapshot, so that they are tested and replaced without one",
	}, {
		in: []string{"dataplane/conntrack"}, forbids: []string{"module/..."},
		but:    []string{"module/dataplane/bpfmap", "module/dataplane/flowmap", "module/dataplane/frame", "module/dataplane/header", "module/dataplane/pages", "module/dataplane/share"},
		reason: "conntrack is told what it needs of a snapshot, and asks nobody whether a flow may go on: policy has one place, and that is not here",
	}, {
		in: []string{"dataplane/flowmap"}, forbids: []string{"module/..."},
		but:    []string{"module/dataplane/header"},
		reason: "flowmap is the layout that the switch and its BPF programs share: types, and nobody's behaviour",
	}, {
		in: []string{"dataplane/port"}, forbids: []string{"module/..."},
		but:    []string{"module/dataplane/frame", "module/dataplane/header", "module/dataplane/flowmap"},
		reason: "a port moves frames and knows no network, address or container",
	}, {
		in: []string{"dataplane/..."}, forbids: []string{"module/..."},
		but:    []string{"module/dataplane/..."},
		except: []string{"dataplane/switchtest"}, // compiles the rows of its networks as the daemon does
		reason: "the data path knows numbers; names, files and links are control's",
	}, {
		in: []string{"control/inventory"}, forbids: []string{"module/..."},
		but:    []string{"module/control/api", "module/control/claims", "module/control/directory", "module/control/edge", "module/control/host", "module/control/model", "module/control/policy", "module/control/process", "module/control/relay", "module/control/state", "module/dataplane", "module/dataplane/conntrack", "module/dataplane/frame", "module/dataplane/header"},
		reason: "the inventory is memory: the controller alone makes and stores what it lists",
	}, {
		in: []string{"control/events"}, forbids: []string{"module/..."},
		but: []string{
			"module/control/api", "module/control/directory", "module/control/inventory", "module/control/journal", "module/control/server",
			"module/dataplane", "module/dataplane/conntrack", "module/dataplane/header",
		},
		reason: "events tell what was done, and do nothing",
	}, {
		in: []string{"control/plan"}, forbids: []string{"module/..."},
		reason: "a plan is data: the order of its steps is read and tested without what performs them",
	}, {
		in: []string{"dataplane/filter", "control/pcapfilter", "control/pcapng", "control/visible"}, forbids: []string{"module/..."},
		reason: "leaves: text becomes a program in one, which runs in another, with only BPF between them; the third is a file format, the last a way to write",
	}, {
		in: []string{"control/..."}, forbids: []string{"module/..."},
		but:    []string{"module/control/...", "module/dataplane/..."},
		reason: "control serves the command line, the benchmark and the tests, so it knows none of them",
	}, {
		in: []string{"control/..."}, forbids: []string{"module/control", "module/control/daemon"},
		except: []string{"control/daemon"},
		reason: "the parts of control are put together by package control, and all of it by control/daemon: they do not know these",
	}, {
		in: []string{"control/api"}, forbids: []string{"module/..."},
		reason: "the wire types change by themselves: neither the controller's records nor the snapshot leak into them",
	}, {
		in: []string{"control/model"}, forbids: []string{"module/..."},
		but:    []string{"module/control/api", "module/control/state", "module/dataplane", "module/dataplane/conntrack", "module/dataplane/header"},
		reason: "model checks and counts: it makes nothing in the kernel, and its tests need no rights",
	}, {
		in: []string{"control/directory"}, forbids: []string{"module/..."},
		but:    []string{"module/control/model", "module/dataplane", "module/dataplane/frame", "module/dataplane/header"},
		reason: "the directory names things for whoever reads: it asks nobody and holds nobody's lock",
	}, {
		in: []string{"control/policy"}, forbids: []string{"module/..."},
		but:    []string{"module/dataplane", "module/dataplane/conntrack", "module/dataplane/frame", "module/dataplane/header"},
		reason: "policy turns names into rows: it is given both and asks nobody",
	}, {
		in: []string{"dataplane/switchtest"}, forbids: []string{"module/..."},
		but:    []string{"module/control/policy", "module/dataplane/..."},
		reason: "a switch in memory is the data path with the rows that the daemon compiles, and no more of it",
	}, {
		in: []string{"control/observe"}, forbids: []string{"module/..."},
		but: []string{
			"module/control/api", "module/control/directory", "module/control/ipfix", "module/control/journal", "module/control/metrics", "module/control/model", "module/control/pcapfilter",
			"module/control/pcapng", "module/control/policy", "module/control/readers", "module/control/reasons", "module/control/server", "module/dataplane", "module/dataplane/conntrack", "module/dataplane/fdb", "module/dataplane/filter", "module/dataplane/frame", "module/dataplane/header", "module/dataplane/share",
		},
		reason: "what watches reads the directory and the data path: neither the kernel's side nor the state is its affair",
	}, {
		in: []string{"control/journal", "control/reasons"}, forbids: []string{"module/..."},
		but:    []string{"module/dataplane", "module/dataplane/share"},
		reason: "leaves: shared room for entries, and a table of texts for the data path's reasons",
	}, {
		in: []string{"control/edge"}, forbids: []string{"module/..."},
		but:    []string{"module/control/host", "module/control/names", "module/control/relay", "module/control/reserve", "module/control/resolver", "module/dataplane/bpfmap", "module/dataplane/flowmap", "module/dataplane/port"},
		reason: "the edge is what the controller may ask of the host's side, in the words of control/host: it makes nothing itself",
	}, {
		in: []string{"control/claims"}, forbids: []string{"module/..."},
		but:    []string{"module/control/api", "module/control/edge", "module/control/host", "module/control/model", "module/control/reserve", "module/dataplane/conntrack", "module/dataplane/flowmap", "module/dataplane/header"},
		reason: "claims know ports and addresses of the host, and of a container its name for a message",
	}, {
		in: []string{"control/underlay"}, forbids: []string{"module/..."},
		but:    []string{"module/control/api", "module/control/edge", "module/control/host", "module/dataplane", "module/dataplane/conntrack", "module/dataplane/frame", "module/dataplane/header"},
		reason: "the underlay is the host's own network: it knows no network, container or published port of ours",
	}, {
		in: []string{"control/edge/linux"}, forbids: []string{"module/..."},
		but:    []string{"module/control/anyport", "module/control/edge", "module/control/holder", "module/control/host", "module/control/host/others", "module/control/kernel", "module/control/relay", "module/control/reserve", "module/control/resolver", "module/dataplane/port"},
		reason: "the kernel's edge puts together what speaks to the kernel; it knows no network and no container",
	}, {
		in: []string{"control", "control/directory", "control/model", "control/observe"}, forbids: []string{"module/control/edge/linux", "module/control/kernel"},
		reason: "the controller asks the edge, and so its tests run on a model of it; control/daemon says which edge it is",
	}, {
		in: []string{"control/docker"}, forbids: []string{"module/..."},
		but:    []string{"module/control/api", "module/control/visible"},
		reason: "Docker's plugin is a front end: it does what any program can do over the interface, and keeps nothing",
	}, {
		in: []string{"control/client", "control/server"}, forbids: []string{"module/..."},
		but:    []string{"module/control/api", "module/control/pcapng", "module/control/readers", "module/control/visible"},
		reason: "who speaks the interface, on either side, does not link the data path",
	}, {
		in: []string{"control/shaping"}, forbids: []string{"module/..."},
		reason: "when to look is told apart from what is looked at",
	}, {
		in: []string{"control/names"}, forbids: []string{"module/..."},
		reason: "who is told what is values: it is tested without a message, a socket or a process",
	}, {
		in: []string{"control/naming"}, forbids: []string{"module/..."},
		but:    []string{"module/control/api", "module/control/directory", "module/control/edge", "module/control/host", "module/control/metrics", "module/control/names", "module/control/resolver", "module/dataplane", "module/dataplane/header"},
		reason: "what the resolver is told is read from the directory, as tables are",
	}, {
		in: []string{"control/resolvconf"}, forbids: []string{"module/..."},
		but:    []string{"module/control/api"},
		reason: "the command line and the front ends of runtimes write the file: it is made of what the daemon answers",
	}, {
		in: []string{"control/anyport", "control/bare"}, forbids: []string{"module/..."},
		but:    []string{"module/dataplane/header"},
		reason: "leaves: datagrams from any port, whoever sends them, and a process without rights, whatever it does",
	}, {
		in: []string{"control/resolver"}, forbids: []string{"module/..."},
		but:    []string{"module/control/anyport", "module/control/bare", "module/control/names", "module/control/places"},
		reason: "what reads strangers' messages has no way to anything of the switch",
	}, {
		in: []string{"control/relay"}, forbids: []string{"module/..."},
		but:    []string{"module/control/anyport", "module/control/bare", "module/control/host/others", "module/control/places", "module/dataplane/header"},
		reason: "what serves every user of the host has no way to anything of the switch",
	}, {
		in: []string{"..."}, forbids: []string{"github.com/miekg/dns"},
		reason: "the messages of DNS are read and written in control/resolver",
	}, {
		in: []string{"control/places", "control/readers"}, forbids: []string{"module/..."},
		but:    []string{"module/control/api", "module/control/places", "module/dataplane/share"},
		reason: "who may take how much is counted apart from what is taken",
	}, {
		in: []string{"control/roles"}, forbids: []string{"module/..."},
		but:    []string{"module/control/api", "module/control/readers"},
		reason: "who may do what is decided in front of the interface, by the request alone",
	}, {
		in: []string{"control/metrics"}, forbids: []string{"module/..."},
		but:    []string{"module/control/api"},
		reason: "what a scrape tells is handed over whole: the collector links nothing that it could change",
	}, {
		in: []string{"control/web"}, forbids: []string{"module/..."},
		but:    []string{"module/control/api", "module/control/readers", "module/control/server"},
		reason: "the page reads by the interface as any client does: it has no way to change anything",
	}, {
		in: []string{"control/cni", "control/netavark", "control/oci"}, forbids: []string{"module/..."},
		but:    []string{"module/control/api", "module/control/client", "module/control/resolvconf", "module/control/visible"},
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
		but:    []string{"module/dataplane/bpfmap", "module/dataplane/flowmap", "module/dataplane/header"},
		reason: "the BPF programs share the layout of the flow map with the data path and nothing else",
	}, {
		in: []string{"cmd/..."}, forbids: []string{"module/..."},
		but:    []string{"module/control/daemon", "module/control/api", "module/control/client", "module/control/cni", "module/control/doctor", "module/control/model", "module/control/netavark", "module/control/oci", "module/control/resolvconf", "module/control/visible", "module/internal/netlab"},
		reason: "the command line speaks the interface as any program does; only daemon goes deeper, by daemon.Run",
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
		in: []string{"..."}, forbids: []string{"module/dataplane/port/porttest", "module/dataplane/flowmap/flowtest", "module/dataplane/switchtest", "module/control/edge/edgetest", "module/internal/netlab/labtest", "module/internal/doctest", "testing"},
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
		reason: "BPF is loaded in control/kernel, and the data path opens maps by their descriptors in dataplane/bpfmap; the demo and the benchmark only look or compare",
	}, {
		in: []string{"..."}, forbids: []string{"golang.org/x/sys/unix"},
		reason: "system calls live where a system call is the job: ports, maps, pages, control/{anyport,bare,holder,host,kernel,relay,reserve,resolvconf,resolver,roles,process}, netlab, bench and the commands that start processes",
	}, {
		in:      []string{"dataplane", "dataplane/bpfmap", "dataplane/conntrack", "dataplane/fdb", "dataplane/filter", "dataplane/flowmap", "dataplane/frame", "dataplane/header", "dataplane/pages", "dataplane/port"},
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
	"module/dataplane/port/porttest":     {"control/edge/edgetest", "dataplane/port/porttest", "dataplane/switchtest", "internal/netlab/labtest", "internal/talk", "internal/doctest"},
	"github.com/vishvananda/...":         {"control/host", "control/host/others", "internal/netlab"},
	"github.com/songgao/water":           {"dataplane/port"},
	"go.etcd.io/bbolt":                   {"control/state"},
	"github.com/prometheus/...":          {"control/metrics"},
	"github.com/spf13/...":               {"cmd/vswitch"},
	"github.com/coreos/go-systemd/...":   {"cmd/vswitch"},
	"github.com/cilium/ebpf/...":         {"control/kernel", "dataplane/bpfmap", "cmd/vswitch", "bench/scenario", "internal/netlab/labtest"},
	"github.com/containernetworking/...": {"control/cni"},
	"github.com/miekg/dns":               {"control/resolver"},
	"golang.org/x/sys/unix": {
		"control/anyport", "control/bare", "control/resolver", "dataplane/bpfmap", "dataplane/pages", "dataplane/port/...", "control/holder", "control/host", "control/host/others", "control/kernel", "control/relay", "control/reserve", "control/resolvconf", "control/roles",
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
	case !matchesAny(r.in, pkg), matchesAny(r.except, pkg), !matchesAny(r.forbids, path), matchesAny(r.but, path):
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

// The clock is read once a turn and handed on. Only where a switch is made, where
// a capture ties its clock to the wall's, and outside of turns where a port is asked for
// what the kernel lost or the rate of jiffies is found out, may the package ask for the time.
func TestDataplaneReadsNoClock(t *testing.T) {
	allowed := map[string]bool{"dataplane/switch.go": true, "dataplane/capture.go": true, "dataplane/port/tap_linux.go": true, "dataplane/bpfmap/clock.go": true}
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
