package control

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/kernel"
	"github.com/vswitch/vswitch/internal/netlab"
)

// withoutTCX makes the daemons of rigs shield their uplinks as on a kernel that
// has no TCX.
var withoutTCX bool

// TestWithoutTCX runs tests that need the shield on a kernel that lacks TCX, or as
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
		{"KilledInTheMiddle", TestF26KilledInTheMiddle},
		{"ShieldAfterKill", TestShieldAfterKill},
		{"OtherLayout", TestOtherLayout},
		{"HostFlow", TestHostFlow},
	} {
		t.Run(test.name, test.run)
	}
}

// hasTCX asks the kernel, on lo of the test's own namespace.
func hasTCX(t testing.TB) bool {
	t.Helper()
	_, err := kernel.RemoveShield("", 1)
	if err != nil && !errors.Is(err, kernel.ErrNoTCX) {
		t.Fatal(err)
	}
	return err == nil
}

// TestShieldAfterKill: after kill -9 a published port is silent, so that its peers try again,
// and all else is the host's. The next daemon goes on with it; the last one leaves nothing
// of ours on the uplink.
func TestShieldAfterKill(t *testing.T) {
	r := newRig(t)
	filter := withoutTCX || !hasTCX(t)
	r.start()
	web, _ := r.attach("web", api.Attach{Publish: []string{"8080:80"}})
	serve(t, web, ":80", "web")
	serve(t, r.world.Host, ":7000", "host")
	shielded := func() {
		t.Helper()
		wantFetch(t, r.world.Outside, netlab.HostAddr+":8080", "web", netlab.OutsideAddr)
		wantFetch(t, r.world.Outside, netlab.HostAddr+":7000", "host", netlab.OutsideAddr)
		if _, err := fetch(r.world.Outside, netlab.HostAddr+":8081"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a port of nobody: got %v, want connection refused by the host", err)
		}
		if got := r.uplink(); filter != strings.Contains(got, "vswitch:") {
			t.Errorf("shielded by a filter: %v, on the uplink:\n%s", filter, got)
		}
	}
	shielded()

	r.kill()
	if c, err := r.world.Outside.Dial("tcp", netlab.HostAddr+":8080", 300*time.Millisecond); !os.IsTimeout(err) {
		t.Errorf("a published port with nobody there: %v, want silence", err)
		if err == nil {
			c.Close()
		}
	}
	if _, err := fetch(r.world.Outside, netlab.HostAddr+":8081"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a port of nobody: got %v, want connection refused by the host", err)
	}
	wantFetch(t, r.world.Outside, netlab.HostAddr+":7000", "host", netlab.OutsideAddr)

	r.start()
	shielded()
	if err := r.Detach(t.Context(), "web"); err != nil {
		t.Fatal(err)
	}
	r.stop()
	r.wantNoTrace()
}
