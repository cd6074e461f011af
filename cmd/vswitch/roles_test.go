package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestRolesOfTheDaemon: who is in vswitch-ro lists containers and may not change them, and
// reads why; vswitch-capture may capture too, vswitch-admin may all, and nobody else gets in.
func TestRolesOfTheDaemon(t *testing.T) {
	const user, reads, captures, admins = 61005, 61003, 61002, 61001
	labtest.NeedRoot(t)
	r := newRig(t)
	web := labtest.New(t, "web")
	r.must("attach", "web", "--netns", web.Path())
	r.stop()

	// Others have to reach the socket, and the program.
	for dir := r.dir; dir != filepath.Clean(os.TempDir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(r.dir, programName)
	if out, err := exec.Command("cp", exe, program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// The host's own groups stay as they are: the daemon sees others in their place.
	list, err := os.ReadFile("/etc/group")
	if err != nil {
		t.Fatal(err)
	}
	group := filepath.Join(r.dir, "group")
	list = fmt.Appendf(list, "vswitch-admin:x:%d:\nvswitch-capture:x:%d:\nvswitch-ro:x:%d:\n", admins, captures, reads)
	if err := os.WriteFile(group, list, 0o644); err != nil {
		t.Fatal(err)
	}
	own := r.command("daemon", "--state-dir", filepath.Join(r.dir, "state"), "--uplink", "eth0")
	again := exec.Command("unshare", append([]string{"--mount", "sh", "-c", `mount --bind "$0" /etc/group && exec "$@"`, group, program}, own.Args[1:]...)...)
	again.SysProcAttr = own.SysProcAttr
	r.startAs(again)

	as := func(gid uint32, args ...string) string {
		cmd := exec.Command(program, append([]string{"--run-dir", r.runDir()}, args...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user, Groups: []uint32{gid}}}
		out, err := cmd.CombinedOutput()
		return fmt.Sprintf("%s%v", out, err)
	}
	for _, test := range []struct {
		gid  uint32
		args string
		want string
	}{
		{reads, "ps -q", "web\n<nil>"},
		{reads, "why web 10.88.0.1", "<nil>"},
		{reads, "detach web", "user 61005 may not make changes: run as root or join the group vswitch-admin"},
		{reads, "capture web -c 1", "user 61005 may not capture: run as root or join the group vswitch-capture"},
		{reads, "page", "user 61005 may not capture: run as root or join the group vswitch-capture"},
		{captures, "ps -q", "web\n<nil>"},
		{captures, "capture web --duration 100ms", "<nil>"},
		{captures, "network create blue", "user 61005 may not make changes: run as root or join the group vswitch-admin"},
		{user, "ps", "permission denied: run as root, or join the group vswitch-ro to read or vswitch-admin to make changes"},
		{admins, "network create blue", "<nil>"},
		{admins, "detach web", "<nil>"},
	} {
		if got := as(test.gid, strings.Fields(test.args)...); !strings.Contains(got, test.want) {
			t.Errorf("%s as group %d: %s", test.args, test.gid, got)
		}
	}
	for _, line := range []string{
		`msg="asked to change" by="user 61005"`, `request="POST /v1/networks" name=blue status=403`,
		`request="POST /v1/networks" name=blue status=201`, `request="DELETE /v1/containers/web" name="" status=204`,
		`msg="capture begins" of=[web] by="user 61005"`,
	} {
		if !strings.Contains(r.log.String(), line) {
			t.Errorf("the log has no %s", line)
		}
	}
}
