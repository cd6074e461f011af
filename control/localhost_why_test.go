package control

import (
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/doctor"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestKubeFirewall: a port that is published at 127.0.0.1 is reached from another address of the host
// beside kubelet's rule, which drops such packets on their way through lo; a relayed one is not.
func TestKubeFirewall(t *testing.T) {
	labtest.NeedProgram(t, "iptables")
	for _, hooks := range []bool{true, false} {
		cgroup := ""
		if hooks {
			cgroup = labtest.Cgroup(t) // it goes after the daemon
		}
		r := newRig(t)
		if hooks {
			r.cfg.Cgroup = cgroup
		}
		r.start()
		web, _ := r.attach("web", api.Attach{Publish: []string{"127.0.0.1:8080:80"}})
		serve(t, web, ":80", "web")
		for _, rule := range []string{
			"-N KUBE-FIREWALL", "-A KUBE-FIREWALL ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
			"-I OUTPUT -j KUBE-FIREWALL", "-I INPUT -j KUBE-FIREWALL",
		} {
			r.run("iptables", strings.Fields(rule)...)
		}
		c, err := r.world.Host.DialFrom("tcp", netlab.HostAddr+":0", "127.0.0.1:8080", time.Second)
		if err == nil {
			c.Close()
		}
		if reached := err == nil; reached != hooks {
			t.Errorf("with hooks %v: %v", hooks, err)
		}
		if got, err := fetchFast(r.world.Host, "127.0.0.1:8080"); err != nil || !strings.Contains(got, "web") {
			t.Errorf("from 127.0.0.1: %q, %v", got, err)
		}
		want := doctor.Note
		if hooks {
			want = doctor.OK
		}
		wantCheck(t, r.examine(true), "firewall", want, "KUBE-FIREWALL")
	}
}

// TestWhyTellsLedFromRelayed: why says of the host's own packets which way they really take.
func TestWhyTellsLedFromRelayed(t *testing.T) {
	r := newLocalhostRig(t)
	four, ct := r.attach("four", api.Attach{Publish: []string{"8081:80"}}) // of IPv4 alone
	serve(t, four, ":80", "four")
	for _, tc := range []struct {
		to  string
		led bool
	}{
		{"127.0.0.1:8080", true}, {"[::1]:8080", true}, {netlab.HostAddr + ":8080", true}, {"[" + netlab.HostAddr6 + "]:8080", true},
		{"127.0.0.1:8081", true}, {"[::1]:8081", false},
	} {
		why, err := r.Why(t.Context(), api.WhyQuery{From: "host", To: tc.to})
		if err != nil {
			t.Fatal(err)
		}
		var stages []string
		for _, s := range why.Steps {
			stages = append(stages, s.Stage)
		}
		want := "host connect relay"
		if !tc.led {
			want = "host steer relay"
		}
		if got := strings.Join(stages, " "); !strings.HasPrefix(got, want) || why.Verdict != api.VerdictSent {
			t.Errorf("%s: %s by %s: %+v", tc.to, why.Verdict, got, why.Steps)
		}
		if tc.to == "127.0.0.1:8081" && !strings.Contains(why.Steps[1].Text, "goes to "+addr(ct)+":80 itself, from 10.88.0.1,") {
			t.Errorf("%s: %s", tc.to, why.Steps[1].Text)
		}
		if strings.HasSuffix(tc.to, ":8080") {
			if _, _, led := r.open("tcp", "", tc.to); led != tc.led {
				t.Errorf("%s: led %v, and why says %v", tc.to, led, tc.led)
			}
		}
	}
	if got, err := fetchFast(r.world.Host, "[::1]:8081"); err != nil || !strings.Contains(got, "four") {
		t.Errorf("by the relay: %q, %v", got, err)
	}
}
