package control

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/control/holder"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestRestart(t *testing.T) {
	for _, how := range []string{"SIGTERM", "SIGKILL"} {
		t.Run(how, func(t *testing.T) {
			r := newRig(t)
			r.start()
			ctx := t.Context()
			blue, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "blue", Subnet: "10.7.0.0/24", MTU: 1400, Labels: map[string]string{"a": "b"}})
			if err != nil {
				t.Fatal(err)
			}
			web, ct := r.attach("web", api.Attach{Publish: []string{"8080:80", "10000-60000:10000-60000/udp"},
				Networks: []api.Connect{{Network: "bridge"}, {Network: "blue", IP: "10.7.0.77"}}})
			gone, _ := r.attach("gone", api.Attach{Publish: []string{"8081:80"}})
			r.attach("db", api.Attach{})
			serve(t, web, ":80", "web")
			if how == "SIGTERM" {
				r.stop()
			} else {
				r.kill()
			}
			if err := gone.Close(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the cable of a deleted namespace goes", func() bool { return len(r.hostLinks()) == len(r.links)+2+3 })
			r.start()

			got, err := r.Container(ctx, "web")
			if d := cmp.Diff(ct, got); err != nil || d != "" {
				t.Errorf("container after the restart: %v (-want +got):\n%s", err, d)
			}
			gotBlue, err := r.Network(ctx, "blue")
			blue.Containers = []api.NetworkMember{{ID: ct.ID, Name: "web", Address: "10.7.0.77/24", Addresses: []string{"10.7.0.77/24"}, MAC: ct.Endpoints[1].MAC}}
			if d := cmp.Diff(blue, gotBlue); err != nil || d != "" {
				t.Errorf("network after the restart: %v (-want +got):\n%s", err, d)
			}
			if list, err := r.Containers(ctx); err != nil || len(list) != 2 {
				t.Errorf("%d containers after the restart, %v, want web and db", len(list), err)
			}
			if !strings.Contains(r.log.String(), "container=gone") {
				t.Error("no log line about the container that vanished")
			}
			wantFetch(t, r.world.Outside, netlab.HostAddr+":8080", "web", netlab.OutsideAddr)
			wantFetch(t, r.world.Host, addr(ct)+":80", "web", "10.88.0.1")
			wantFetch(t, r.world.Host, "10.7.0.77:80", "web", "10.7.0.1")
			// The pool goes on where it stood.
			_, fresh := r.attach("fresh", api.Attach{})
			if addr(fresh) != "10.88.0.5" {
				t.Errorf("next address %s, want 10.88.0.5", addr(fresh))
			}
			// What vanished gave its port back.
			if _, err := r.Publish(ctx, "fresh", []string{"8081:80"}); err != nil {
				t.Errorf("port of the vanished container: %v", err)
			}
			for _, name := range []string{"web", "db", "fresh"} {
				if err := r.Detach(ctx, name); err != nil {
					t.Error(err)
				}
			}
			r.stop()
			r.wantNoTrace()
		})
	}
}

// TestLeftovers: links that a killed daemon made and did not store are deleted.
func TestLeftovers(t *testing.T) {
	r := newRig(t)
	r.start()
	r.attach("web", api.Attach{})
	r.kill()
	s, c, err := state.Open(r.cfg.StateDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, ct := range c.Containers {
		if err := s.DeleteContainer(ct.ID); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	r.start()
	if got, want := len(r.hostLinks()), len(r.links)+1; got != want {
		t.Errorf("%d links %v, want %d: the leftover cable gone, the TAP there", got, r.hostLinks(), want)
	}
	r.stop()
	r.wantNoTrace()
}

// A network's device that a killed daemon had begun to make is removed: the kernel would keep it. One
// that somebody has open, has set up, or has named otherwise stays.
func TestF26DeviceIsHalfMade(t *testing.T) {
	r := newRig(t)
	stays := []string{"vs-00000000cd", "vs-another-on", "vs-0123abcd"}
	for _, name := range append([]string{"vs-0123456789"}, stays...) {
		if out, err := r.world.Host.Command("ip", "tuntap", "add", "dev", name, "mode", "tap", "multi_queue").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if err := r.world.Host.SetUp(stays[0]); err != nil {
		t.Fatal(err)
	}
	r.start()
	got := r.hostLinks()
	if slices.Contains(got, "vs-0123456789") {
		t.Errorf("it stays: %v", got)
	}
	for _, name := range stays {
		if !slices.Contains(got, name) {
			t.Errorf("%s is removed: %v", name, got)
		}
	}
}

func TestF11NamespaceDeleted(t *testing.T) {
	r := newRig(t)
	r.start()
	web, ct := r.attach("web", api.Attach{Publish: []string{"8080:80"}})
	if err := web.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the container is released", func() bool {
		list, err := r.Containers(t.Context())
		return err == nil && len(list) == 0
	})
	eventually(t, "a log line says so", func() bool { return strings.Contains(r.log.String(), "vanished") })
	// Name, port and address are free.
	_, again := r.attach("web", api.Attach{Publish: []string{"8080:80"}, Networks: []api.Connect{{Network: "bridge", IP: addr(ct)}}})
	if addr(again) != addr(ct) || again.Endpoints[0].MAC != ct.Endpoints[0].MAC {
		t.Errorf("address and MAC %+v, want those of before: %+v", again.Endpoints, ct.Endpoints)
	}
}

// TestF09InterfaceRemoved: one of two interfaces is removed inside the container.
func TestF09InterfaceRemoved(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	if _, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "blue"}); err != nil {
		t.Fatal(err)
	}
	web, _ := r.attach("web", api.Attach{Networks: []api.Connect{{Network: "bridge"}, {Network: "blue"}}})
	if err := web.DelLink("eth0"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "one endpoint is left", func() bool {
		ct, err := r.Container(ctx, "web")
		return err == nil && len(ct.Endpoints) == 1 && ct.Endpoints[0].Network == "blue"
	})
}

func TestEphemeral(t *testing.T) {
	r := newRig(t)
	r.start()
	ns := labtest.New(t, "run")
	sleep := exec.Command("sleep", "60")
	if err := ns.Start(sleep); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sleep.Process.Kill() })
	ct, err := r.Attach(t.Context(), api.Attach{Name: "run", PID: sleep.Process.Pid, Ephemeral: true, Publish: []string{"8080:80"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{api.ModeHost, api.ModeNone, api.ModeContainer} {
		in := api.Attach{Name: mode, PID: sleep.Process.Pid, Mode: mode}
		if mode == api.ModeContainer {
			in.Peer = "run"
		}
		if _, err := r.Attach(t.Context(), in); err != nil {
			t.Errorf("mode %s: %v", mode, err)
		}
	}
	r.stop() // still attached: comes back
	r.start()
	got, err := r.Container(t.Context(), "run")
	if d := cmp.Diff(ct, got); err != nil || d != "" {
		t.Errorf("after the restart: %v (-want +got):\n%s", err, d)
	}
	sleep.Process.Kill()
	sleep.Wait()
	eventually(t, "all are released", func() bool {
		list, err := r.Containers(t.Context())
		return err == nil && len(list) == 0
	})
	eventually(t, "the interface is gone", func() bool {
		l, err := ns.Links()
		return err == nil && slices.Equal(l, []string{"lo"})
	})
	r.stop()
	r.wantNoTrace()
}

func TestSecondDaemon(t *testing.T) {
	r := newRig(t)
	r.start()
	pid := r.cmd.Process.Pid
	for _, cfg := range []daemonSpec{
		r.cfg,
		{RunDir: r.cfg.RunDir, StateDir: r.cfg.StateDir + "2"},
		{RunDir: r.cfg.RunDir + "2", StateDir: r.cfg.StateDir},
	} {
		out := r.fails(cfg)
		if want := "pid " + strconv.Itoa(pid); !strings.Contains(out, want) || !strings.Contains(out, "stop it or choose another") || strings.Count(out, "\n") != 1 {
			t.Errorf("second daemon with %+v says %q, want one line with %q", cfg, out, want)
		}
	}
	// The first one is unharmed.
	if _, err := r.Info(t.Context()); err != nil {
		t.Error(err)
	}
	// Another pair of directories runs beside it.
	r2 := &rig{t: t, world: r.world, cfg: daemonSpec{RunDir: r.cfg.RunDir + "2", StateDir: r.cfg.StateDir + "2", NoTCX: r.cfg.NoTCX}}
	r2.links, r2.before = r.hostLinks(), r.uplink()
	r2.Client = client.New(filepath.Join(r2.cfg.RunDir, socketName))
	r2.start()
	const warned = "another vswitch has this uplink"
	if said := r.cfg.NoTCX || strings.Contains(r2.log.String(), warned); !said || strings.Contains(r.log.String(), warned) {
		t.Errorf("the second says %v that the uplink is shared:\n%s", said, r2.log)
	}
	n, err := r2.Network(t.Context(), model.DefaultNetwork)
	if err != nil || n.Subnet != "10.88.1.0/24" {
		t.Errorf("network of the second daemon %+v, %v, want the next free subnet", n, err)
	}
	r2.stop()
	r2.wantNoTrace()
	r.stop()
	r.wantNoTrace()
}

// fails runs a daemon that must end with exit code 1 and returns what it said.
func (r *rig) fails(cfg daemonSpec) string {
	r.t.Helper()
	cmd, out := r.command(cfg)
	if err := r.world.Host.Start(cmd); err != nil {
		r.t.Fatal(err)
	}
	timer := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	cmd.Wait()
	if cmd.ProcessState.ExitCode() != 1 {
		r.t.Errorf("daemon with %+v: %v, want exit code 1\n%s", cfg, cmd.ProcessState, out)
	}
	return out.String()
}

func TestStartRefused(t *testing.T) {
	r := newRig(t)
	if err := labtestVeth(r, "down0"); err != nil {
		t.Fatal(err)
	}
	r.links = r.hostLinks()
	long := r.cfg
	long.RunDir = filepath.Join(long.RunDir, strings.Repeat("x", 120))
	open := r.cfg
	open.RunDir += "-open"
	if err := os.Mkdir(open.RunDir, 0o777); err != nil {
		t.Fatal(err)
	}
	os.Chmod(open.RunDir, 0o777)
	with := func(up ...string) daemonSpec { c := r.cfg; c.Uplinks = up; return c }
	for _, tc := range []struct {
		cfg daemonSpec
		say []string
	}{
		{with("nosuch0"), []string{"uplink nosuch0", "--uplink"}},
		{with("down0"), []string{"uplink down0", "is down"}},
		{with("lo"), []string{"uplink lo", "Ethernet"}},
		{with("auto", "eth0"), []string{"auto excludes other names"}},
		{long, []string{"too long", "--run-dir"}},
		{open, []string{"writable for everybody"}},
	} {
		out := r.fails(tc.cfg)
		last := strings.TrimSpace(out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:])
		for _, s := range tc.say {
			if !strings.Contains(last, s) {
				t.Errorf("%+v says %q, want %q in it", tc.cfg, last, s)
			}
		}
		if got := r.hostLinks(); !slices.Equal(got, r.links) {
			t.Errorf("%+v: links %v, want %v", tc.cfg, got, r.links)
		}
	}
}

// TestNoRights runs a daemon as nobody, in directories of its own and in those of
// root.
func TestNoRights(t *testing.T) {
	r := newRig(t)
	own := r.cfg
	own.RunDir += "-own"
	own.StateDir += "-own"
	parent := filepath.Dir(r.cfg.RunDir)
	if err := os.Chmod(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{own.RunDir, own.StateDir} {
		if err := errors.Join(os.Mkdir(dir, 0o750), os.Chown(dir, 65534, 65534)); err != nil {
			t.Fatal(err)
		}
	}
	for _, cfg := range []daemonSpec{r.cfg, own} {
		cmd, out := r.command(cfg)
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
		if err := r.world.Host.Start(cmd); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
		cmd.Wait()
		timer.Stop()
		if got := out.String(); cmd.ProcessState.ExitCode() != 1 || strings.Count(got, "\n") != 1 || !strings.Contains(got, "root") {
			t.Errorf("%+v: %v, says %q, want one line that says root", cfg, cmd.ProcessState, got)
		}
	}
	if got := r.hostLinks(); !slices.Equal(got, r.links) {
		t.Errorf("links %v, want %v", got, r.links)
	}
}

func labtestVeth(r *rig, name string) error {
	return netlab.Veth(r.world.Host, name, r.world.Outside, name, 1500)
}

func TestSocketModes(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	r := newRig(t)
	r.start()
	for path, want := range map[string]os.FileMode{
		r.cfg.RunDir: 0o750 | os.ModeDir, r.cfg.StateDir: 0o750 | os.ModeDir,
		filepath.Join(r.cfg.RunDir, socketName): 0o660 | os.ModeSocket, filepath.Join(r.cfg.StateDir, state.FileName): 0o600,
	} {
		fi, err := os.Stat(path)
		if err != nil || fi.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", filepath.Base(path), fi.Mode(), err, want)
		}
	}
	r.stop()
}

// The networks' devices have gone with the holder, and with them what the host knew of the containers:
// a start tells it, so that nothing waits for an answer that came too early.
func TestF01HostKnowsContainersOfANewDevice(t *testing.T) {
	r := newRig(t)
	r.start()
	_, ct := r.attach("web", api.Attach{})
	r.kill()
	if _, err := holder.End(r.cfg.RunDir); err != nil {
		t.Fatal(err)
	}
	r.start()
	out, err := r.world.Host.Command("ip", "neigh", "show", addr(ct)).CombinedOutput()
	if err != nil || !strings.Contains(string(out), ct.Endpoints[0].MAC) {
		t.Errorf("the host knows %q, %v, want %s", out, err, ct.Endpoints[0].MAC)
	}
}
