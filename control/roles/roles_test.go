package roles

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/vswitch/vswitch/control/readers"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// Groups of nobody: a process is a member by its number alone.
const admins, capturers, looks, other, stranger = 61001, 61002, 61003, 61004, 61005

// dialer is this test again, as a process of somebody else: it says by its exit status whether
// it may connect, and holds the connection until its standard input ends.
const dialer = "VSWITCH_ROLES_DIAL"

func TestMain(m *testing.M) {
	path := os.Getenv(dialer)
	if path == "" {
		labtest.Main(m)
		return
	}
	if _, err := net.Dial("unix", path); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("connected")
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

// TestRolesByGroup: root and the socket's own group may all, members of the groups what these may, a
// member of two the more, and nobody else connects at all.
func TestRolesByGroup(t *testing.T) {
	labtest.NeedRoot(t)
	dir := t.TempDir()
	// Others have to reach it, and this program.
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	self := filepath.Join(dir, "dial")
	if out, err := exec.Command("cp", exe, self).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	run := filepath.Join(dir, "run")
	if err := os.Mkdir(run, 0o750); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(run, "api.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, f := range []string{run, path} {
		if err := os.Chown(f, 0, other); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(path, 0o660); err != nil {
		t.Fatal(err)
	}
	r := find(func(name string) (uint32, bool) {
		return map[string]uint32{"vswitch-admin": admins, "vswitch-capture": capturers, "vswitch-ro": looks}[name], true
	})
	for range 2 { // the second start finds its own list
		if err := r.LetIn(path); err != nil {
			t.Fatal(err)
		}
	}
	many := []uint32{looks}
	for g := uint32(70000); len(many) < 300; g++ {
		many = append(many, g)
	}
	for name, test := range map[string]struct {
		as   syscall.Credential
		want Role
	}{
		"root":                  {syscall.Credential{}, Changes},
		"own group":             {syscall.Credential{Uid: stranger, Gid: other}, Changes},
		"admin":                 {syscall.Credential{Uid: stranger, Gid: stranger, Groups: []uint32{admins}}, Changes},
		"captures":              {syscall.Credential{Uid: stranger, Gid: stranger, Groups: []uint32{capturers}}, Captures},
		"reads":                 {syscall.Credential{Uid: stranger, Gid: stranger, Groups: []uint32{looks}}, Reads},
		"by its first group":    {syscall.Credential{Uid: stranger, Gid: looks}, Reads},
		"reads and captures":    {syscall.Credential{Uid: stranger, Gid: looks, Groups: []uint32{capturers}}, Captures},
		"reads, in many groups": {syscall.Credential{Uid: stranger, Gid: stranger, Groups: many}, Reads},
		"nobody":                {syscall.Credential{Uid: stranger, Gid: stranger}, None},
	} {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), dialer+"="+path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &test.as}
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said := make([]byte, 200)
		n, _ := stdout.Read(said)
		got := None
		if connected := strings.HasPrefix(string(said[:n]), "connected"); connected {
			c, err := l.AcceptUnix()
			if err != nil {
				t.Fatal(err)
			}
			got = r.Of(c)
			c.Close()
		} else if !strings.Contains(string(said[:n]), "permission denied") {
			t.Errorf("%s: %s", name, said[:n])
		}
		if got != test.want {
			t.Errorf("%s: role %d, want %d", name, got, test.want)
		}
		stdin.Close()
		cmd.Wait()
	}
}

// TestRolesByHand: who was let in by hand may all, as without the groups, and keeps his entry.
func TestRolesByHand(t *testing.T) {
	labtest.NeedProgram(t, "setfacl")
	path := filepath.Join(t.TempDir(), "api.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := os.Chmod(path, 0o660); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("setfacl", "-m", fmt.Sprintf("u:%d:rw", stranger), path).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r := find(func(name string) (uint32, bool) { return looks, name == "vswitch-ro" })
	if err := r.LetIn(path); err != nil {
		t.Fatal(err)
	}
	list, err := exec.Command("getfacl", "-cEp", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("user::rw-\nuser:%d:rw-\ngroup::rw-\ngroup:%d:rw-\nmask::rw-\nother::---\n\n", stranger, looks)
	if string(list) != want {
		t.Errorf("the list is\n%swant\n%s", list, want)
	}
}

// TestGuard: a role gets what it may and a refusal that names the group for the rest; each
// request to change something has one line in the log, refused or not, and its body is whole.
func TestGuard(t *testing.T) {
	var log strings.Builder
	var body string
	h := Guard(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body = string(b)
		w.WriteHeader(http.StatusCreated)
	}), slog.New(slog.NewTextHandler(&log, nil)))
	for _, test := range []struct {
		method, path string
		need         Role
	}{
		{"GET", "/v1/containers", Reads}, {"GET", "/metrics", Reads}, {"HEAD", "/v1/info", Reads}, {"GET", "/v1/flows/log", Reads},
		{"GET", "/v1/capture", Captures}, {"DELETE", "/v1/capture/1", Captures}, {"GET", "/v1/page", Captures},
		{"GET", "/v1/debug/pprof/heap", Changes}, {"POST", "/v1/containers", Changes}, {"PATCH", "/v1/networks/a", Changes},
		{"DELETE", "/v1/containers/web", Changes}, {"PUT", "/metrics", Changes},
	} {
		for role := None; role <= Changes; role++ {
			log.Reset()
			const sent = `{"name":"web","x":[1,2]}`
			r := httptest.NewRequest(test.method, test.path, strings.NewReader(sent))
			r = r.WithContext(With(readers.With(r.Context(), readers.Reader{UID: 1000, Known: true}), role))
			w := httptest.NewRecorder()
			body = ""
			h.ServeHTTP(w, r)
			if role >= test.need {
				if w.Code != http.StatusCreated || body != sent {
					t.Errorf("%s %s as %d: %d, %q", test.method, test.path, role, w.Code, body)
				}
			} else {
				var e struct{ Error string }
				if json.Unmarshal(w.Body.Bytes(), &e) != nil || w.Code != http.StatusForbidden || !strings.Contains(e.Error, "user 1000 may not "+may[test.need]+": run as root or join the group "+GroupOf(test.need)) {
					t.Errorf("%s %s as %d: %d %s", test.method, test.path, role, w.Code, w.Body)
				}
			}
			line := ""
			if test.need == Changes && test.method != "GET" {
				line = fmt.Sprintf("msg=\"asked to change\" by=\"user 1000\" pid=0 request=%q name=web status=%d\n", test.method+" "+test.path, w.Code)
			}
			if !strings.HasSuffix(log.String(), line) || strings.Count(log.String(), "\n") != min(len(line), 1) {
				t.Errorf("%s %s as %d: the log says %q", test.method, test.path, role, log.String())
			}
		}
	}
}
