package client

import (
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// A daemon that has taken its directory is waited for; where there is none, or a dead one has
// left its number, the answer comes at once.
func TestWaitsForAStart(t *testing.T) {
	gone := exec.Command("true")
	if err := gone.Run(); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		pid     int
		listens time.Duration // after so long, 0: never
		ok      bool
		least   time.Duration
		most    time.Duration
	}{
		"none":          {0, 0, false, 0, 2 * time.Second},
		"a dead one":    {gone.Process.Pid, 0, false, 0, 2 * time.Second},
		"starts":        {os.Getpid(), 300 * time.Millisecond, true, 300 * time.Millisecond, startWait},
		"never listens": {os.Getpid(), 0, false, startWait, startWait + 5*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			socket := filepath.Join(dir, "vswitch.sock")
			if tc.pid != 0 {
				if err := os.WriteFile(filepath.Join(dir, "vswitch.pid"), []byte(strconv.Itoa(tc.pid)+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("[]")) })}
			if tc.listens > 0 {
				timer := time.AfterFunc(tc.listens, func() {
					if l, err := net.Listen("unix", socket); err == nil {
						_ = srv.Serve(l)
					}
				})
				defer timer.Stop()
			}
			defer srv.Close()
			c := New(socket)
			defer c.Close()
			began := time.Now()
			_, err := c.Networks(t.Context())
			took := time.Since(began)
			if (err == nil) != tc.ok || err != nil && !errors.Is(err, ErrNoDaemon) {
				t.Errorf("got %v", err)
			}
			if took < tc.least || took > tc.most {
				t.Errorf("it took %v", took)
			}
		})
	}
}
