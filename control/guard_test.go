package control

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/kernel"
	"github.com/vswitch/vswitch/internal/netlab"
)

// withoutTCX makes the daemons of rigs guard their uplinks as on a kernel that
// has no TCX.
var withoutTCX bool

// TestWithoutTCX runs tests that need the guard on a kernel that lacks TCX, or as
// if it did.
func TestWithoutTCX(t *testing.T) {
	withoutTCX = true
	defer func() { withoutTCX = false }()
	for _, test := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"AttachPublishDetach", TestAttachPublishDetach},
		{"ConnectDisconnect", TestConnectDisconnect},
		{"PortsOfARunningContainer", TestPortsOfARunningContainer},
		{"HostChanges", TestHostChanges},
		{"Restart", TestRestart},
		{"SecondDaemon", TestSecondDaemon},
		{"KilledInTheMiddle", TestKilledInTheMiddle},
		{"GuardAfterKill", TestGuardAfterKill},
		{"HostFlow", TestHostFlow},
	} {
		t.Run(test.name, test.run)
	}
}

// hasTCX asks the kernel, on lo of the test's own namespace.
func hasTCX(t testing.TB) bool {
	t.Helper()
	k, err := kernel.Open(kernel.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	guard, err := k.GuardUplink(1)
	if errors.Is(err, kernel.ErrNoTCX) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	guard.Close()
	return true
}

// TestGuardAfterKill wants the host as it was soon after kill -9, and nothing of
// ours on the uplink after the next daemon.
func TestGuardAfterKill(t *testing.T) {
	r := newRig(t)
	filter := withoutTCX || !hasTCX(t)
	r.start()
	web, _ := r.attach("web", api.Attach{Publish: []string{"8080:80"}})
	serve(t, web, ":80", "web")
	serve(t, r.world.Host, ":7000", "host")
	guarded := func() {
		t.Helper()
		wantFetch(t, r.world.Outside, netlab.HostAddr+":8080", "web", netlab.OutsideAddr)
		wantFetch(t, r.world.Outside, netlab.HostAddr+":7000", "host", netlab.OutsideAddr)
		if _, err := fetch(r.world.Outside, netlab.HostAddr+":8081"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a port of nobody: got %v, want connection refused by the host", err)
		}
		if got := r.uplink(); filter != strings.Contains(got, "vswitch:") {
			t.Errorf("guarded by a filter: %v, on the uplink:\n%s", filter, got)
		}
	}
	guarded()

	r.kill()
	eventually(t, 4*time.Second, "the host answers for its port again", func() bool {
		c, err := r.world.Outside.Dial("tcp", netlab.HostAddr+":8080", 100*time.Millisecond)
		if err == nil {
			c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	wantFetch(t, r.world.Outside, netlab.HostAddr+":7000", "host", netlab.OutsideAddr)

	r.start()
	if got := r.log.String(); strings.Contains(got, "leftover guard removed") != filter {
		t.Errorf("guarded by a filter: %v, the daemon's log:\n%s", filter, got)
	}
	guarded()
	if err := r.Detach(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	r.stop()
	r.wantNoTrace()
}
