package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/control/daemon"
	"github.com/vswitch/vswitch/control/web"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// rig is a world with a daemon, and a page, in its host.
type rig struct {
	*client.Client
	t     *testing.T
	world *netlab.World
	cmd   *exec.Cmd
	log   *logBuffer

	socket string
}

type logBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

const pageAt = "127.0.0.1:9595"

var quiet = slog.New(slog.DiscardHandler)

// newRig starts a daemon and waits until it answers.
func newRig(t *testing.T, spec daemonSpec) *rig {
	t.Helper()
	labtest.NeedBPF(t)
	r := &rig{t: t, world: labtest.NewWorld(t), log: new(logBuffer)}
	r.cmd = r.command(&spec)
	r.start()
	t.Cleanup(func() {
		r.stop()
		if t.Failed() || strings.Contains(r.log.String(), "level=ERROR") {
			t.Errorf("daemon's log:\n%s", r.log)
		}
	})
	r.socket = filepath.Join(spec.Dir, "run", daemon.SocketName)
	r.Client = client.New(r.socket)
	t.Cleanup(r.Client.Close)
	r.answers()
	return r
}

func (r *rig) start() {
	r.t.Helper()
	if err := r.world.Host.Start(r.cmd); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) answers() {
	r.t.Helper()
	eventually(r.t, "the daemon answers", func() bool { _, err := r.Info(r.t.Context()); return err == nil })
}

func (r *rig) stop() {
	r.t.Helper()
	r.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(60*time.Second, func() { r.cmd.Process.Kill() })
	err := r.cmd.Wait()
	if !timer.Stop() || err != nil {
		r.t.Errorf("the daemon did not end by itself: %v", err)
	}
}

// goroutines has the daemon's log, which a failed test shows, say what it does now.
func (r *rig) goroutines() {
	_ = r.cmd.Process.Signal(tellSignal)
	time.Sleep(200 * time.Millisecond)
}

// restart runs the same daemon once more.
func (r *rig) restart() {
	r.t.Helper()
	r.stop()
	next := exec.Command(r.cmd.Path)
	next.Env, next.Stdout, next.Stderr = r.cmd.Env, r.log, r.log
	r.cmd = next
	r.start()
	r.answers()
}

func (r *rig) command(spec *daemonSpec) *exec.Cmd {
	r.t.Helper()
	dir, err := os.MkdirTemp("", "vs") // a socket's path is short
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { os.RemoveAll(dir) })
	spec.Dir = dir
	env, err := json.Marshal(spec)
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), daemonEnv+"="+string(env))
	cmd.Stdout, cmd.Stderr = r.log, r.log
	return cmd
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("it is not so: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// attach makes a namespace a container.
func (r *rig) attach(name string, publish ...string) *netlab.NS {
	r.t.Helper()
	ns := labtest.New(r.t, name)
	if _, err := r.Attach(r.t.Context(), api.Attach{Name: name, Netns: ns.Path(), Publish: publish}); err != nil {
		r.t.Fatal(err)
	}
	return ns
}

// get asks from a namespace as curl would. host, when not "", is what Host says.
func get(ns *netlab.NS, url, host string, header ...string) (int, string, error) {
	tr := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			return ns.Dial(network, addr, 2*time.Second)
		},
	}
	c := http.Client{Transport: tr, Timeout: 30 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = host
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// Only the host reaches the page: containers have other loopbacks, and nobody
// listens at the gateway's or the host's address.
func TestPageIsOnTheHostsLoopbackOnly(t *testing.T) {
	r := newRig(t, daemonSpec{HTTP: ":9595"})
	shop := r.attach("web")
	page := r.page()
	if code, _, err := get(r.world.Host, page.URL+"v1/info", "", "Authorization", "Bearer "+page.Token); code != 200 || err != nil {
		t.Fatalf("from the host: status %d, %v", code, err)
	}
	if code, _, err := get(r.world.Host, page.URL+"v1/info", ""); code != 401 || err != nil {
		t.Errorf("from the host, without the token: status %d, %v; want 401", code, err)
	}
	if code, _, err := get(r.world.Host, "http://localhost:9595/", "evil.example:9595"); err == nil && code != http.StatusMisdirectedRequest {
		t.Errorf("a rebound name: status %d, want 421", code)
	}
	for ns, addrs := range map[*netlab.NS][]string{
		shop:            {"10.88.0.1", netlab.HostAddr, "127.0.0.1", "10.88.0.2"},
		r.world.Outside: {netlab.HostAddr},
		r.world.Host:    {netlab.HostAddr, "10.88.0.1"},
	} {
		for _, a := range addrs {
			if code, _, err := get(ns, "http://"+a+":9595/", ""); err == nil {
				t.Errorf("from %s the page at %s answers with %d", ns.Name(), a, code)
			}
		}
	}
	// Nor with the way round that NAT offers: a port that leads back to the host. And no
	// container is localhost:9595 to a browser, at another loopback address.
	for _, rule := range []string{"9595:9595", "[::1]:9595:80", "127.0.0.2:9595:80"} {
		if _, err := r.Publish(t.Context(), "web", []string{rule}); err == nil {
			t.Errorf("the page's own port was published as %s", rule)
		}
	}
}

// page asks the unix socket for the page and its token.
func (r *rig) page() api.Page {
	r.t.Helper()
	p, err := r.Page(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// The token outlives the daemon, is root's alone, and is in no log.
func TestTokenStaysOverARestart(t *testing.T) {
	spec := daemonSpec{HTTP: pageAt}
	r := newRig(t, spec)
	first := r.page()
	dir := filepath.Dir(filepath.Dir(r.socket))
	fi, err := os.Stat(filepath.Join(dir, "state", web.TokenFile))
	if err != nil || fi.Mode() != 0o600 {
		t.Errorf("the token's file has mode %v, %v; want 0600", fi.Mode(), err)
	}
	r.restart()
	if then := r.page(); then != first || len(then.Token) < 32 {
		t.Errorf("after a restart %v, before %v", then, first)
	}
	if strings.Contains(r.log.String(), first.Token) {
		t.Errorf("the token is in the log:\n%s", r.log)
	}
}

func TestNoTokenOnDemand(t *testing.T) {
	r := newRig(t, daemonSpec{HTTP: pageAt, NoToken: true})
	if p := r.page(); p.Token != "" || p.Link() != "http://"+pageAt+"/" {
		t.Errorf("got %+v", p)
	}
	if code, _, err := get(r.world.Host, "http://"+pageAt+"/v1/info", ""); code != 200 || err != nil {
		t.Errorf("status %d, %v", code, err)
	}
	if code, _, err := get(r.world.Host, "http://"+pageAt+"/v1/info", "evil.example:9595"); code != 421 || err != nil {
		t.Errorf("a rebound name: status %d, %v; want 421", code, err)
	}
}

func TestPageBeyondLoopbackWantsItsToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	const token = "0123456789abcdef"
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRig(t, daemonSpec{HTTP: netlab.HostAddr + ":9595", TokenFile: file})
	url := "http://" + netlab.HostAddr + ":9595"
	for _, tc := range []struct {
		path, auth string
		want       int
	}{
		{"/", "", 200}, {"/v1/info", "", 401}, {"/metrics", "", 401}, {"/v1/info", "Bearer nosuch", 401},
		{"/v1/info", "Bearer " + token, 200}, {"/metrics", "Bearer " + token, 200}, {"/v1/info?token=" + token, "", 401},
	} {
		if code, _, err := get(r.world.Outside, url+tc.path, "", "Authorization", tc.auth); code != tc.want || err != nil {
			t.Errorf("%s with %q: status %d, %v; want %d", tc.path, tc.auth, code, err, tc.want)
		}
	}
	if p := r.page(); p.Token != token || p.URL != url+"/" {
		t.Errorf("the page is at %+v", p)
	}
	// Without a token the daemon does not start, and nothing is left of it.
	before, err := r.world.Host.Links()
	if err != nil {
		t.Fatal(err)
	}
	out := new(logBuffer)
	other := r.command(&daemonSpec{HTTP: "0.0.0.0:9596", NoToken: true})
	other.Stdout, other.Stderr = out, out
	if err := r.world.Host.Start(other); err != nil {
		t.Fatal(err)
	}
	if err := other.Wait(); err == nil || !strings.Contains(out.String(), "--http-token=off") {
		t.Errorf("ended with %v and said %s", err, out)
	}
	if after, err := r.world.Host.Links(); err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("links %v, were %v (%v)", after, before, err)
	}
}

// A whole daemon tells its metrics, on both listeners, and they are about what
// happened.
func TestMetricsOfADaemon(t *testing.T) {
	r := newRig(t, daemonSpec{HTTP: pageAt})
	web, db := r.attach("web", "8080:80", "5000-5009:5000-5009/udp"), r.attach("db")
	serve(t, web, "10.88.0.2:80")
	if code, _, err := get(r.world.Outside, "http://"+netlab.HostAddr+":8080/", ""); code != 200 || err != nil {
		t.Fatalf("the published port: %d, %v", code, err)
	}
	if code, _, err := get(db, "http://10.88.0.2/", ""); code != 200 || err != nil {
		t.Fatalf("the neighbour: %d, %v", code, err)
	}
	_, body, err := get(r.world.Host, "http://"+pageAt+"/metrics", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"vswitch_containers 2", "vswitch_networks 1",
		`vswitch_published_ports{container="web",proto="tcp"} 1`, `vswitch_published_ports{container="web",proto="udp"} 10`,
		`vswitch_conntrack_entries{proto="tcp"} 1`, `vswitch_nat_ports_used{address="198.51.100.1",proto="tcp"} 0`,
		`vswitch_relay_sessions_limit{proto="tcp"} `, `vswitch_worker_seconds_total{state="asleep",worker="0"} `,
		`vswitch_port_receive_frames_total{container="web",interface="",kind="container",network="bridge"} `,
		`vswitch_port_receive_frames_total{container="",interface="eth0",kind="uplink",network=""} `,
		`vswitch_api_request_duration_seconds_count{code="201",method="POST",path="/v1/containers"} 2`,
		`vswitch_build_info{`,
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("no line %q", want)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", r.socket) }, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr}).Get("http://vswitch/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || !strings.Contains(string(b), "\nvswitch_containers 2\n") {
		t.Errorf("the unix socket: status %d, %v", resp.StatusCode, err)
	}
}

// serve answers GETs in a namespace with a text until the end of the test.
func serve(t *testing.T, ns *netlab.NS, addr string) {
	t.Helper()
	l, err := ns.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello\n") })}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
}
