package main

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// commandOf are the commands of a way out, as they are to be typed.
var commandOf = regexp.MustCompile(`vswitch [a-z][^;,]*`)

// What why prints as the way out is carried out as it is printed, but for what stands in
// capitals, and why then says that the packet arrives.
func TestFixesMend(t *testing.T) {
	r := newRig(t)
	for _, args := range []string{
		"blue --subnet 10.7.0.0/24", "inside --subnet 10.6.0.0/24 --internal", "apart --subnet 10.5.0.0/24 --icc=false",
		"closed --subnet 10.4.0.0/24 --host-access=false",
	} {
		r.must(append([]string{"network", "create"}, strings.Fields(args)...)...)
	}
	attach := func(name, args string) {
		t.Helper()
		r.must(append([]string{"attach", name, "--netns", labtest.New(t, name).Path()}, strings.Fields(args)...)...)
	}
	attach("web", "-p 8080:80")
	attach("blue1", "--network blue")
	attach("hid", "--network inside")
	attach("hid2", "--network inside")
	attach("iso1", "--network apart")
	attach("iso2", "--network apart")
	attach("shut", "--network closed")
	fill := strings.NewReplacer("CONTAINER", "web", "PORT", "8099", "NAME", "made")
	for _, tc := range []struct {
		from, to string
		then     string // where the packet goes afterwards, "": to the same
		commands int    // how many the way out has
	}{
		{from: "hid2", to: netlab.HostAddr + ":8080", then: "10.6.0.1:8080"}, // "use its own gateway"
		{from: "web", to: "blue1:80", commands: 1},
		{from: "hid", to: netlab.OutsideAddr + ":80", commands: 1},
		{from: "iso1", to: "iso2:80", commands: 1},
		{from: "shut", to: "host:7000", commands: 1},
		{from: "outside", to: "blue1:80", then: netlab.HostAddr + ":8099", commands: 1},
		{from: "outside", to: netlab.HostAddr + ":8081", commands: 1},
		{from: "host", to: "127.0.0.1:8082", commands: 1},
		{from: "web", to: "[2001:db8::9]:80", commands: 2},
		{from: "blue1", to: "[2001:db8::9]:80", commands: 1},
	} {
		ask := func(to string) api.Why {
			t.Helper()
			var why api.Why
			out, stderr, _ := r.vswitch("why", tc.from, to, "--format", "json")
			if err := json.Unmarshal([]byte(out), &why); err != nil {
				t.Fatalf("why %s %s: %v: %s%s", tc.from, to, err, out, stderr)
			}
			return why
		}
		why := ask(tc.to)
		if why.Verdict == api.VerdictSent {
			t.Errorf("why %s %s: sent already", tc.from, tc.to)
		}
		commands := commandOf.FindAllString(why.Fix, -1)
		if len(commands) != tc.commands {
			t.Errorf("why %s %s: %d commands, want %d in %q", tc.from, tc.to, len(commands), tc.commands, why.Fix)
		}
		for _, c := range commands {
			r.must(strings.Fields(fill.Replace(c))[1:]...)
		}
		to := tc.to
		if tc.then != "" {
			if tc.commands == 0 && !strings.Contains(why.Fix, tc.then) {
				t.Errorf("why %s %s: no %s in %q", tc.from, tc.to, tc.then, why.Fix)
			}
			to = tc.then
		}
		arrives := func() bool {
			switch again := ask(to); again.Verdict {
			case api.VerdictSent, api.VerdictWaits:
				return true
			case api.VerdictHost:
				return tc.from == "shut"
			}
			return false
		}
		if !eventually(arrives) {
			t.Errorf("why %s %s after %q: %+v", tc.from, to, why.Fix, ask(to))
		}
	}
}

// What an error prints as the way out is carried out as it is printed, and what was refused is done then.
func TestErrorsMend(t *testing.T) {
	r := newRig(t)
	web, other := labtest.New(t, "web"), labtest.New(t, "other")
	r.must("attach", "web", "--netns", web.Path(), "-p", "8080:80", "-p", "127.0.0.1:53:53/udp")
	r.must("network", "create", "blue")
	r.must("network", "create", "inside", "--internal")
	r.must("network", "connect", "inside", "web")
	for _, refused := range []string{
		"network create blue --subnet 10.7.0.0/24",
		"attach late --network nosuch --netns " + other.Path(),
		"network disconnect bridge web",
	} {
		_, errs, code := r.vswitch(strings.Fields(refused)...)
		commands := mendingCommand.FindAllString(errs, -1)
		if code == 0 || len(commands) != 1 {
			t.Errorf("%s: code %d, commands %q of %s", refused, code, commands, errs)
			continue
		}
		r.must(strings.Fields(commands[0])[1:]...)
		r.must(strings.Fields(refused)...)
	}
}

// mendingCommand is a command that changes something.
var mendingCommand = regexp.MustCompile(`vswitch (?:network create|network rm|port rm|detach) (?:[^;,:\n]|:\S)*`)

// A daemon that has died is FAIL, and exit code 1: doctor says how to start it, and that mends.
func TestDoctorStartsADeadDaemon(t *testing.T) {
	r := newRig(t)
	web := labtest.New(t, "web")
	r.must("attach", "web", "--netns", web.Path(), "-p", "8080:80")
	state := []string{"doctor", "--state-dir", filepath.Join(r.dir, "state")}
	examine := func() (out string, code int) {
		t.Helper()
		cmd := r.command(state...)
		var b lockedBuffer
		cmd.Stdout, cmd.Stderr = &b, &b
		if err := r.world.Host.Start(cmd); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
		return b.String(), cmd.ProcessState.ExitCode()
	}
	if out, code := examine(); code != 0 {
		t.Fatalf("a sound daemon: %d: %s", code, out)
	}
	r.daemon.Process.Kill()
	r.daemon.Wait()
	out, code := examine()
	if code != exitFailure || !strings.Contains(out, "cut off are new connections") || strings.Contains(out, "--all") {
		t.Errorf("a dead daemon: %d: %s", code, out)
	}
	start := regexp.MustCompile(`fix: sudo vswitch (daemon [^;]*);`).FindStringSubmatch(out)
	if start == nil {
		t.Fatalf("no command that starts it in %s", out)
	}
	r.startAs(r.command(append(strings.Fields(start[1]), "--uplink", "eth0")...))
	if out, code := examine(); code != 0 {
		t.Errorf("started again: %d: %s", code, out)
	}
}

// The way out for a router inside a container lets it send from other addresses.
func TestFixOfTheGuardMends(t *testing.T) {
	r := newRig(t)
	ns := labtest.New(t, "router")
	r.must("attach", "router", "--netns", ns.Path())
	drops := func() []api.Drop {
		t.Helper()
		// Sealed or not, what it sends comes to the switch from its device.
		if err := ns.AddAddr("eth0", "172.17.0.2/32"); err != nil {
			t.Fatal(err)
		}
		c, err := ns.DialFrom("udp", "172.17.0.2:5000", "10.88.0.1:53", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var list []api.Drop
		sent := func() bool {
			c.Write([]byte("x"))
			list = decode[[]api.Drop](r, "why", "--last-drops", "router")
			return slices.ContainsFunc(list, func(d api.Drop) bool { return d.Reason == "guard-spoofed-ip" })
		}
		for range 10 {
			if sent() {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		return slices.DeleteFunc(list, func(d api.Drop) bool { return d.Reason != "guard-spoofed-ip" })
	}
	list := drops()
	if len(list) == 0 {
		t.Fatal("nothing is dropped")
	}
	commands := commandOf.FindAllString(strings.ReplaceAll(list[0].Fix, "PATH", ns.Path()), -1)
	var done []string
	for _, c := range commands {
		if words := strings.Fields(c)[1:]; words[0] == "detach" || words[0] == "attach" {
			r.must(words...)
			done = append(done, words[0])
		}
	}
	if strings.Join(done, " ") != "detach attach" {
		t.Errorf("did %v of %q", done, list[0].Fix)
	}
	if list := drops(); len(list) > 0 {
		t.Errorf("still dropped: %+v", list)
	}
}

// Every command that a message names is there, with the flags that it names.
func TestMessagesNameCommands(t *testing.T) {
	root := newRoot(&cli{})
	named := 0
	texts := regexp.MustCompile("\\bvswitch ((?:[a-z]+ )?[a-z]+[^;,:`)]*)")
	for _, dir := range []string{"../../control", "."} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(f, func(n ast.Node) bool {
				lit, ok := n.(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING {
					return true
				}
				text, err := strconv.Unquote(lit.Value)
				if err != nil {
					return true
				}
				for _, m := range texts.FindAllStringSubmatch(text, -1) {
					cmd, rest, err := root.Find(strings.Fields(m[1]))
					if err != nil || cmd == root {
						continue // prose: "vswitch daemon at PATH" is none, "the switch" no command
					}
					named++
					for _, w := range rest {
						name, flag := strings.CutPrefix(strings.TrimRight(w, ".\"'"), "--")
						name, _, _ = strings.Cut(name, "=")
						if flag && name != "" && name != "help" && !strings.Contains(name, "%") && cmd.Flags().Lookup(name) == nil && root.PersistentFlags().Lookup(name) == nil {
							t.Errorf("%s: %q: %s has no flag --%s", path, text, cmd.CommandPath(), name)
						}
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if named < 60 {
		t.Errorf("%d commands found", named)
	}
}
