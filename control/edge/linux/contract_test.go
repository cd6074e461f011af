package linux

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/edge/edgetest"
	"github.com/vswitch/vswitch/control/holder"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// bindEnv holds the port that a process of this test binary binds until its input ends.
const bindEnv = "VSWITCH_TEST_BIND"

func TestMain(m *testing.M) {
	if port := os.Getenv(bindEnv); port != "" {
		if _, err := net.Listen("tcp4", "0.0.0.0:"+port); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("bound")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	labtest.Main(m)
}

// machine is the test binary's own network namespace.
type machine struct {
	t   *testing.T
	cfg Config
	dir string // of the holder
	ns  map[string]*netlab.NS
}

func newMachine(t *testing.T, cfg Config) edgetest.Machine {
	t.Helper()
	labtest.NeedBPF(t)
	w := &machine{t, cfg, t.TempDir(), make(map[string]*netlab.NS)}
	w.ip("link set lo up")
	w.ip("link add eth0 type veth peer name outside")
	t.Cleanup(func() { w.ip("link del eth0") })
	w.ip("link set outside up")
	w.ip("link set eth0 up")
	w.ip("addr add 198.51.100.2/24 dev eth0")
	w.ip("route add default via 198.51.100.1")
	return w
}

func (w *machine) ip(args string) {
	w.t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		w.t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

func (w *machine) Open() edge.Edge {
	w.t.Helper()
	e, err := Open(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

func (w *machine) Next() edge.Edge {
	w.t.Helper()
	cfg, err := w.cfg, error(nil)
	if cfg.Holder, err = holder.Open(holder.Config{Dir: w.dir}); err != nil {
		w.t.Fatal(err)
	}
	e, err := Open(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

func (w *machine) Netns(name string) string {
	w.t.Helper()
	ns, err := netlab.New(name)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { ns.Close() })
	w.ns[ns.Path()] = ns
	return ns.Path()
}

func (w *machine) DelNetns(path string) {
	w.t.Helper()
	if err := w.ns[path].Close(); err != nil {
		w.t.Fatal(err)
	}
}

// Bind binds in a process of its own: the edge takes what its own process has bound for
// the relay's.
func (w *machine) Bind(port uint16) func() {
	w.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", bindEnv, port))
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "bound\n" {
		w.t.Fatalf("bind port %d: %s, %v", port, line, err)
	}
	return func() {
		in.Close()
		_ = cmd.Wait()
	}
}

func (w *machine) AddAddr(dev, p string) { w.ip("addr add " + p + " dev " + dev) }
func (w *machine) DelAddr(dev, p string) { w.ip("addr del " + p + " dev " + dev) }
func (w *machine) SetDown(dev string)    { w.ip("link set " + dev + " down") }

// TestContract: the kernel does what the model says it does.
func TestContract(t *testing.T) {
	for name, cfg := range map[string]Config{"newest": {}, "without TCX": {NoTCX: true}, "without a flow table": {NoFlowTable: true}} {
		t.Run(name, func(t *testing.T) {
			edgetest.Contract(t, func(t *testing.T) edgetest.Machine { return newMachine(t, cfg) })
		})
	}
}
