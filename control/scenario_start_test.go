package control

import (
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
)

// A cable that vanishes while a start brings back what there is ends its container when
// the start is done: the rest comes back, and nothing of the lost one is left.
func TestACableVanishesDuringAStart(t *testing.T) {
	m := newMachine(t).start()
	_, err := m.CreateNetwork(t.Context(), api.NetworkCreate{Name: "pods", Subnet: "10.7.0.0/24", Ephemeral: true})
	m.ok(err)
	rules := map[string]string{"a": "8080", "b": "8081"}
	for name, port := range rules {
		m.container(name, networks("pods"), publish(port+":80"))
	}
	m.kill()
	lost := ""
	m.Fail(func(call string) error {
		if call != "TakePorts" || lost != "" {
			return nil
		}
		for name := range rules {
			if m.Queue(m.Interface(netnsOf(name), "eth0").Host) != nil { // it is in the switch already
				lost = name
			}
		}
		m.DelNetns(netnsOf(lost))
		time.Sleep(50 * time.Millisecond) // for who would hear of it too early
		return nil
	})
	m.start()
	m.Fail(nil)
	stays := map[string]string{"a": "b", "b": "a"}[lost]
	m.until("the lost one is released", func() bool { return m.names() == stays })
	m.until("its port leads nowhere", func() bool {
		_, ok := m.Dial(tcp, netip.MustParseAddrPort("127.0.0.1:"+rules[lost]))
		return !ok
	})
	if to, ok := m.Dial(tcp, netip.MustParseAddrPort("127.0.0.1:"+rules[stays])); !ok {
		t.Errorf("the port of %s leads to %v", stays, to)
	}
	if _, err := m.dir.Now().Container(lost); err == nil {
		t.Errorf("the directory has %s", lost)
	}
	m.ok(m.Controller.Check(t.Context(), stays))
}

// Of a container that was bound to a process before the host was started anew one line
// tells.
func TestF23ABoundContainerEndsWithTheHost(t *testing.T) {
	m := newMachine(t).start()
	m.bootID = "the one before"
	m.container("web", func(in *api.Attach) { in.PID, in.Ephemeral = os.Getpid(), true })
	m.kill()
	m.DelNetns(netnsOf("web"))
	before := len(m.log.String())
	m.start()
	log := m.log.String()[before:]
	if !strings.Contains(log, "the host was started anew") || strings.Contains(log, "vanished") {
		t.Errorf("want one line that the host was started anew:\n%s", log)
	}
}

// Where flows or recent frames cannot go as the daemon was told, it says so and changes nothing.
func TestAStartWithoutItsOutputs(t *testing.T) {
	for _, tt := range []struct {
		set  func(*Config)
		want string
	}{
		{func(c *Config) { c.FlowLog = "/nowhere/flows" }, "flow log: open /nowhere/flows: no such file or directory: name a file that can be written"},
		{func(c *Config) { c.IPFIX = "192.0.2.1:none" }, "IPFIX collector 192.0.2.1:none: "},
		{func(c *Config) { c.CaptureRing, c.CaptureRingOf = 1<<20, []string{"uplink:"} }, `--capture-ring-of: capture of "uplink:": `},
	} {
		m := newMachine(t)
		before := m.Facts()
		tt.set(&m.cfg)
		err := m.tryStart()
		if err == nil || !strings.HasPrefix(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want %s", err, tt.want)
		}
		m.same("after "+tt.want, before, m.Facts())
	}
}

// A start for containers that are attached is not refused for what it can do without, unless there is
// another configuration to try.
func TestAttachedContainersHaveADaemon(t *testing.T) {
	for what, set := range map[string]func(*Config){
		"flow log":  func(c *Config) { c.FlowLog = "/nowhere/flows" },
		"collector": func(c *Config) { c.IPFIX = "192.0.2.1:none" },
		"uplink":    func(c *Config) { c.Uplinks = []string{"eth0", "eth7"} },
		"all of them": func(c *Config) {
			c.FlowLog, c.IPFIX, c.Uplinks = "/nowhere/flows", "192.0.2.1:none", []string{"eth0", "eth7"}
		},
	} {
		t.Run(what, func(t *testing.T) {
			m := newMachine(t).start()
			m.container("web", publish("8080:80"))
			m.kill()
			was := m.cfg
			set(&m.cfg)
			m.cfg.Strict = true
			if err := m.tryStart(); err == nil {
				t.Fatal("there is another configuration to try, and this one is taken")
			}
			m.cfg.Strict = false
			m.start()
			if got := m.names(); got != "web" {
				t.Errorf("containers %q", got)
			}
			m.dials(tcp, "127.0.0.1:8080", "10.88.0.2:80")
			m.ok(m.Detach(t.Context(), "web"))
			m.stop()
			if err := m.tryStart(); err == nil {
				t.Error("nothing is attached, and it starts")
			}
			m.cfg = was
		})
	}
}
