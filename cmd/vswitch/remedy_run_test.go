package main

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/reasons"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// printedCommand is a command in a way out; what it looks at stands behind "in" or "shows" there.
var printedCommand = regexp.MustCompile(`\b(?:vswitch (?:[a-z]+ )?|ip (?:-s )?(?:route|neigh|link) ?)(?:[^;,:]|:\S)*`)

// prose ends a command that the sentence goes on behind.
var prose = regexp.MustCompile(` (?:shows?|says|lists|it|which|the present|to) .*| shows$| lists$`)

// TestRemediesRun carries out every command that a drop's way out names, as it is printed but for
// what stands in capitals, and looks whether those that are to mend something do.
func TestRemediesRun(t *testing.T) {
	labtest.NeedProgram(t, "ip")
	r := newRig(t)
	for _, args := range []string{"blue --subnet 10.7.0.0/24", "inside --subnet 10.6.0.0/24 --internal", "apart --subnet 10.5.0.0/24 --icc=false --host-access=false"} {
		r.must(append([]string{"network", "create"}, strings.Fields(args)...)...)
	}
	at := make(map[string]string)
	attach := func(name, args string) {
		t.Helper()
		at[name] = labtest.New(t, name).Path()
		r.must(append([]string{"attach", name, "--netns", at[name]}, strings.Fields(args)...)...)
	}
	attach("web", "-p 8080:80")
	attach("blue1", "--network blue")
	attach("hid", "--network inside")
	of := func(name string) api.Container { return decode[api.Container](r, "inspect", name) }
	unguarded := func(string) bool { return of("web").Endpoints[0].Guard == "off" }
	mends := map[dataplane.DropReason]func(made string) bool{
		dataplane.DropNoIPv6: func(made string) bool {
			return slices.ContainsFunc(of("web").Endpoints, func(e api.Endpoint) bool { return e.Network == made && len(e.Addresses) == 2 })
		},
		dataplane.DropTooBig: func(made string) bool {
			return slices.ContainsFunc(of("web").Endpoints, func(e api.Endpoint) bool { return e.Network == made && e.MTU == 1400 })
		},
		dataplane.DropTagged: func(string) bool { return of("web").Endpoints[0].Trunk == "10-12" },
		dataplane.DropNotFromHost: func(string) bool {
			return slices.ContainsFunc(of("blue1").Ports, func(p api.PortMapping) bool { return p.HostPort == 8099 })
		},
		dataplane.DropIsolated: func(string) bool { return len(of("web").Endpoints) > 1 },
		dataplane.DropInternal: func(string) bool { return len(of("hid").Endpoints) == 2 },
		dataplane.DropIsolatedPort: func(string) bool {
			return decode[api.Network](r, "network", "inspect", "apart").ICC
		},
		dataplane.DropHostAccess: func(string) bool {
			return decode[api.Network](r, "network", "inspect", "apart").HostAccess
		},
		dataplane.DropUnclaimed: func(string) bool {
			return slices.ContainsFunc(of("blue1").Ports, func(p api.PortMapping) bool { return p.Port == 8099 })
		},
		dataplane.DropSpoofedIP: unguarded, dataplane.DropSpoofedARP: unguarded, dataplane.DropSpoofedND: unguarded,
		dataplane.DropRouterMessage: unguarded, dataplane.DropDHCPServer: unguarded, dataplane.DropUnreadable: unguarded,
	}
	ran := 0
	for why := range dataplane.NumDropReasons {
		facts := reasons.Facts{
			Container: "web", Network: "apart", Iface: of("web").Endpoints[0].HostInterface, Proto: "tcp",
			Source: "10.88.0.2", Destination: "198.51.100.9", Port: "8099", Peer: "blue1", PeerNetwork: "blue",
		}
		if why == dataplane.DropInternal {
			facts.Container = "hid"
		}
		_, fix := reasons.Explain(why, facts)
		made := fmt.Sprint("made", int(why))
		fill := strings.NewReplacer("--container NAME", "--container web", "NAME", made, "PATH", at[facts.Container], "VLANS", "10-12", "CONTAINER", "web", "--mtu N", "--mtu 1400", "PORT", "8098", "COMMAND", "true", "NETWORK", "blue", "INTERFACE", "eth0")
		commands := printedCommand.FindAllString(fix, -1)
		for _, c := range commands {
			words := strings.Fields(prose.ReplaceAllString(fill.Replace(c), ""))
			ran++
			if words[0] == "ip" {
				if out, err := r.world.Host.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
					t.Errorf("%s: %s: %v: %s", why, c, err, out)
				}
				continue
			}
			if out := r.carriedOut(words[1:]); out != "" {
				t.Errorf("%s: %s: %s", why, strings.Join(words, " "), out)
			}
		}
		if mended := mends[why]; mended != nil && (len(commands) == 0 || !mended(made)) {
			t.Errorf("%s: not mended by %q", why, fix)
		}
		if strings.Contains(fix, "vswitch capture") { // the frame came in at a port that is no container's
			for _, facts := range []reasons.Facts{{Iface: "eth0"}, {Network: "blue", Iface: "vs-0"}} {
				_, fix := reasons.Explain(why, facts)
				words := strings.Fields(prose.ReplaceAllString(regexp.MustCompile(`vswitch capture [^;,]*`).FindString(fix), ""))
				if out := r.carriedOut(words[1:]); out != "" {
					t.Errorf("%s: %s: %s", why, words, out)
				}
			}
		}
		// The next finds web as it was.
		r.must("detach", "web")
		r.must("attach", "web", "--netns", at["web"], "-p", "8080:80")
	}
	if ran < 45 {
		t.Errorf("%d commands", ran)
	}
}

// carriedOut runs a command in the host for as long as it takes, one that looks on for a moment, and
// returns what is wrong with it.
func (r *rig) carriedOut(args []string) string {
	r.t.Helper()
	long := slices.Contains([]string{"capture", "events", "top"}, args[0])
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	cmd := r.command(args...)
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := r.world.Host.Start(cmd); err != nil {
		return err.Error()
	}
	if long {
		stop := time.AfterFunc(300*time.Millisecond, func() { cmd.Process.Signal(unix.SIGINT) })
		defer stop.Stop()
	}
	defer context.AfterFunc(ctx, func() { cmd.Process.Kill() })()
	err := cmd.Wait()
	if err != nil && !(long && cmd.ProcessState.ExitCode() == -1) {
		return fmt.Sprintf("%v: %s", err, out.String())
	}
	return ""
}
