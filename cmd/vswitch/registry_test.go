package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
)

// registry is the part of a daemon that `vswitch run` talks to: it registers
// processes and wires nothing, so that these tests see what run does by itself.
type registry struct {
	socket    string
	endpoints []api.Endpoint // of what is attached
	refuse    string         // message with which attach is refused
	block     chan struct{}  // attach waits for it, when not nil

	mu       sync.Mutex
	attached map[string]api.Attach // by ID
	seen     []api.Attach
	peers    map[string]api.Container
	arrived  chan struct{} // closed when the first attach is there
}

// newRegistry serves until the end of the test; configure runs before.
func newRegistry(t *testing.T, configure ...func(*registry)) *registry {
	t.Helper()
	r := &registry{
		socket:   filepath.Join(t.TempDir(), "s"),
		attached: map[string]api.Attach{},
		peers:    map[string]api.Container{},
		arrived:  make(chan struct{}),
	}
	for _, c := range configure {
		c(r)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/containers", r.attach)
	mux.HandleFunc("DELETE /v1/containers/{id}", func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.attached, req.PathValue("id"))
	})
	mux.HandleFunc("GET /v1/containers/{id}", func(w http.ResponseWriter, req *http.Request) {
		json.NewEncoder(w).Encode(r.peers[req.PathValue("id")])
	})
	l, err := net.Listen("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(mux)
	srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
	return r
}

func (r *registry) attach(w http.ResponseWriter, req *http.Request) {
	var at api.Attach
	if err := json.NewDecoder(req.Body).Decode(&at); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	r.seen = append(r.seen, at)
	if len(r.seen) == 1 {
		close(r.arrived)
	}
	r.mu.Unlock()
	if r.block != nil {
		select {
		case <-r.block:
		case <-req.Context().Done():
		}
	}
	if r.refuse != "" {
		w.WriteHeader(http.StatusConflict)
		json.NewEncoder(w).Encode(api.Error{Message: r.refuse})
		return
	}
	id := fmt.Sprintf("id-%d", at.PID)
	r.mu.Lock()
	r.attached[id] = at
	r.mu.Unlock()
	json.NewEncoder(w).Encode(api.Container{ID: id, Name: at.Name, PID: at.PID, Mode: at.Mode, Endpoints: r.endpoints})
}

// command is vswitch as a process of its own.
func (r *registry) command(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = programName
	cmd.Env = append(os.Environ(), "VSWITCH_SOCKET="+r.socket)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // no terminal
	return cmd
}

// run runs `vswitch run ARGS` to its end.
func (r *registry) run(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := r.command(append([]string{"run"}, args...)...)
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	r.checkReleased(t)
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

// checkReleased fails the test when a container is registered or a process of
// one alive.
func (r *registry) checkReleased(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.attached) > 0 {
		t.Errorf("still attached: %v", r.attached)
	}
	for _, at := range r.seen {
		if err := unix.Kill(at.PID, 0); !errors.Is(err, unix.ESRCH) {
			t.Errorf("process %d of %s is alive: %v", at.PID, at.Name, err)
		}
	}
}
