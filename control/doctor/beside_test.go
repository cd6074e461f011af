package doctor

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host/others"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// A manager that runs is named until the command that doctor prints was run.
func TestManagersAreTold(t *testing.T) {
	root := t.TempDir()
	for i := range managers {
		m := &managers[i]
		if m.leaves(root) {
			t.Errorf("%s leaves the interfaces alone without a file", m.name)
		}
		write, _, ok := strings.Cut(m.write, ", then ")
		if err := os.MkdirAll(filepath.Join(root, filepath.Dir(m.dirs[0]), filepath.Base(m.dirs[0])), 0o755); err != nil && i != 2 {
			t.Fatal(err)
		}
		if m.name == "dhcpcd" {
			os.Remove(filepath.Join(root, m.dirs[0])) // is a file
		}
		write = strings.ReplaceAll(write, " /etc/", " "+root+"/etc/")
		if out, err := exec.Command("sh", "-c", write).CombinedOutput(); err != nil || !ok {
			t.Errorf("%s: %v: %s", write, err, out)
		}
		if !m.leaves(root) {
			t.Errorf("%s after %s", m.name, write)
		}
	}
}

// Programs are known by their name, in this network namespace only.
func TestManagersThatRun(t *testing.T) {
	labtest.Need(t)
	labtest.NeedProgram(t, "sleep")
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "dhcpcd")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	if processes()["dhcpcd"] {
		t.Error("dhcpcd runs before")
	}
	cmd := exec.Command(path, "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	if !processes()["dhcpcd"] {
		t.Error("dhcpcd was not seen")
	}
	ns := labtest.New(t, "elsewhere")
	if err := ns.Do(func() error {
		if processes()["dhcpcd"] {
			t.Error("dhcpcd runs in another namespace")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// kubelet's chain is seen in nftables and in the older ip_tables.
func TestKubeFirewall(t *testing.T) {
	labtest.Need(t)
	for _, program := range []string{"iptables-nft", "iptables-legacy"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Logf("%s is not there", program)
			continue
		}
		ns := labtest.New(t, program)
		has := func() (has bool) {
			if err := ns.Do(func() error { has = others.HasChain("KUBE-FIREWALL"); return nil }); err != nil {
				t.Fatal(err)
			}
			return has
		}
		if has() {
			t.Errorf("%s: seen before it was made", program)
		}
		if out, err := ns.Command(program, "-t", "filter", "-N", "KUBE-FIREWALL").CombinedOutput(); err != nil {
			t.Logf("%s: %v: %s", program, err, out)
			continue
		}
		if !has() {
			t.Errorf("%s: not seen", program)
		}
	}
}

func TestSpecsArePublishedPorts(t *testing.T) {
	for want, m := range map[string]api.PortMapping{
		"8080:80/tcp":               {Proto: "tcp", HostPort: 8080, HostPortEnd: 8080, Port: 80, PortEnd: 80},
		"127.0.0.1:53:53/udp":       {Proto: "udp", HostIP: "127.0.0.1", HostPort: 53, HostPortEnd: 53, Port: 53, PortEnd: 53},
		"[::1]:90-95:10-15/tcp":     {Proto: "tcp", HostIP: "::1", HostPort: 90, HostPortEnd: 95, Port: 10, PortEnd: 15},
		"20000-20100:1000-1100/udp": {Proto: "udp", HostPort: 20000, HostPortEnd: 20100, Port: 1000, PortEnd: 1100},
	} {
		if got := specOf(&m); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
