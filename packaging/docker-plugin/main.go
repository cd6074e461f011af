// Command docker-plugin is all there is in the managed Docker plugin: it forwards
// what dockerd asks of its network driver to the vswitch daemon of the host. The
// plugin may be upgraded, disabled and removed as Docker does it; the daemon, its
// networks and the containers' traffic know nothing of that.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// listenAt is where dockerd looks for the socket that config.json names.
	listenAt = "/run/docker/plugins/vswitch.sock"
	// targetEnv names the daemon's socket; config.json sets it.
	targetEnv = "VSWITCH_DOCKER_SOCKET"
)

func main() {
	log.SetFlags(0) // dockerd's log has its own time
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := serve(ctx, listenAt, os.Getenv(targetEnv)); err != nil {
		log.Fatalln("vswitch plugin:", err)
	}
}

// serve forwards requests at the socket listenAt to the one at target until ctx
// ends.
func serve(ctx context.Context, listenAt, target string) error {
	if target == "" {
		return errors.New(targetEnv + " is not set: docker plugin set it to the daemon's socket")
	}
	if err := os.MkdirAll(filepath.Dir(listenAt), 0o700); err != nil {
		return err
	}
	// Of the process before us; dockerd runs one at a time.
	if err := os.Remove(listenAt); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	l, err := net.Listen("unix", listenAt)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: forward(target), ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() {
		// What is under way is the daemon's to finish; dockerd waits for the answer.
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		srv.Shutdown(grace)
	})
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// forward sends each request to the daemon. Without one it answers at once, in the
// form of the plugin protocol: dockerd would try a broken connection again for
// fifteen seconds, with all who wait for it.
func forward(target string) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host = "http", "vswitch"
		},
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", target)
			},
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			w.Header().Set("Content-Type", "application/vnd.docker.plugins.v1.2+json")
			w.WriteHeader(http.StatusInternalServerError)
			json.NewEncoder(w).Encode(map[string]string{
				"Err": fmt.Sprintf("the vswitch daemon does not answer at %s of the plugin: start it on the host (%v)", target, err),
			})
		},
	}
}
