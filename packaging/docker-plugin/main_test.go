package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestForward(t *testing.T) {
	dir := t.TempDir()
	plugin, target := filepath.Join(dir, "run", "vswitch.sock"), filepath.Join(dir, "daemon.sock")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, plugin, target) }()
	dockerd := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", plugin)
	}}}
	ask := func() (int, string) {
		t.Helper()
		var resp *http.Response
		var err error
		for range 3000 {
			if resp, err = dockerd.Post("http://plugin/NetworkDriver.Join", "application/json", strings.NewReader(`{"NetworkID":"1"}`)); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond) // it does not listen yet
		}
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}

	begin := time.Now()
	status, body := ask()
	var refusal struct{ Err string }
	if err := json.Unmarshal([]byte(body), &refusal); err != nil || status != 500 || !strings.Contains(refusal.Err, "start it on the host") {
		t.Errorf("without a daemon: %d %s", status, body)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("without a daemon the answer takes %v", d)
	}

	l, err := net.Listen("unix", target)
	if err != nil {
		t.Fatal(err)
	}
	daemon := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusTeapot)
		io.WriteString(w, r.Method+" "+r.URL.Path+" "+string(b))
	})}
	go daemon.Serve(l)
	if status, body := ask(); status != http.StatusTeapot || body != `POST /NetworkDriver.Join {"NetworkID":"1"}` {
		t.Errorf("%d %s", status, body)
	}
	daemon.Close() // and back, without a restart of the plugin
	if status, _ := ask(); status != 500 {
		t.Errorf("after the daemon: %d", status)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// config.json names what the program and the build know.
func TestConfig(t *testing.T) {
	b, err := os.ReadFile("config.json")
	if err != nil {
		t.Fatal(err)
	}
	var config struct {
		Entrypoint []string
		Interface  struct {
			Types  []string
			Socket string
		}
		Env    []struct{ Name, Value string }
		Mounts []struct{ Source, Destination string }
	}
	if err := json.Unmarshal(b, &config); err != nil {
		t.Fatal(err)
	}
	if config.Interface.Socket != filepath.Base(listenAt) || len(config.Interface.Types) != 2 {
		t.Errorf("interface %+v", config.Interface)
	}
	if len(config.Entrypoint) != 1 || config.Entrypoint[0] != "/bin/docker-plugin" {
		t.Errorf("entrypoint %v", config.Entrypoint)
	}
	if len(config.Env) != 1 || len(config.Mounts) != 1 || config.Env[0].Name != targetEnv ||
		filepath.Dir(config.Env[0].Value) != config.Mounts[0].Destination || config.Mounts[0].Source != filepath.Dir(listenAt) {
		t.Errorf("env %v, mounts %v", config.Env, config.Mounts)
	}
}
