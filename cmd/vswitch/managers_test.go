package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// networkd is a systemd-networkd that configures every link it may.
const networkd = `set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount -t sysfs -o ro sysfs /sys # without udev nothing is waited for
mkdir -p /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp /run/systemd/network
chown -R systemd-network:systemd-network /run/systemd/netif
printf '[Match]\nName=*\n[Network]\nAddress=203.0.113.7/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n' >/run/systemd/network/99-all.network
%s
/lib/systemd/systemd-networkd >/run/log 2>&1 & manager=$!
for i in $(seq 200); do ip -o addr show dev eth0 | grep -q 203.0.113.7 && break; sleep 0.1; done
sleep 1
ip -o addr show
kill $manager; wait $manager || true
cat /run/log >&2`

// Managers of networks keep off the links of the switch, by their names as the daemon gives
// them. networkd is there to be asked; of NetworkManager and dhcpcd the patterns are held
// against the names.
func TestManagersKeepOff(t *testing.T) {
	labtest.NeedRoot(t)
	for _, p := range []string{"/lib/systemd/systemd-networkd", "unshare", "ip"} {
		labtest.NeedProgram(t, p)
	}
	r := newRig(t)
	web := labtest.New(t, "web")
	r.must("attach", "web", "--netns", web.Path())
	ours := []string{decode[api.Container](r, "inspect", "web").Endpoints[0].HostInterface}
	for _, n := range decode[[]api.Network](r, "network", "ls") {
		ours = append(ours, n.Interface)
	}
	file, err := filepath.Abs("../../packaging/managers/10-vswitch.network")
	if err != nil {
		t.Fatal(err)
	}
	for _, kept := range []bool{true, false} {
		install := ":"
		if kept {
			install = "cp " + file + " /run/systemd/network/"
		}
		cmd := exec.Command("unshare", "--mount", "bash", "-c", fmt.Sprintf(networkd, install))
		var out, log strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &log
		if err := r.world.Host.Start(cmd); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil || !regexp.MustCompile(`eth0 .*203\.0\.113\.7`).MatchString(out.String()) {
			t.Fatalf("networkd: %v\n%s%s", err, out.String(), log.String())
		}
		touched := 0
		for _, name := range ours {
			if regexp.MustCompile(regexp.QuoteMeta(name) + `\s.*203\.0\.113\.7`).MatchString(out.String()) {
				touched++
			}
		}
		if kept && touched > 0 || !kept && touched == 0 {
			t.Errorf("with our file %v networkd touched %d of %v:\n%s", kept, touched, ours, out.String())
		}
	}

	for where, pattern := range map[string]string{
		"../../packaging/managers/10-vswitch.conf": `match-device=(.*)`,
		"../../docs/operations.md":                 `denyinterfaces (.*)`,
	} {
		b, err := os.ReadFile(where)
		if err != nil {
			t.Fatal(err)
		}
		m := regexp.MustCompile(pattern).FindSubmatch(b)
		if m == nil {
			t.Errorf("%s has no %s", where, pattern)
			continue
		}
		words := regexp.MustCompile(`[ ,]`).Split(strings.ReplaceAll(string(m[1]), "interface-name:", ""), -1)
		matches := func(name string) (any bool) {
			for _, w := range words {
				ok, _ := filepath.Match(w, name)
				any = any || ok
			}
			return any
		}
		for _, name := range ours {
			if !matches(name) {
				t.Errorf("%s: %s does not match %s", where, words, name)
			}
		}
		for _, name := range []string{"eth0", "vs-0", "veth1a2b3c4", "wlan0", "docker0"} { // docker's have seven digits
			if matches(name) {
				t.Errorf("%s: %s matches %s", where, words, name)
			}
		}
	}
}
