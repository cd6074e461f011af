package server

import (
	"bytes"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/readers"
)

// TestF18CapturesAreLogged: the log says of each capture who made it, of what and with which
// filter, and nothing of one that was refused.
func TestF18CapturesAreLogged(t *testing.T) {
	var log bytes.Buffer
	h := Handler(&echo{}, nil, slog.New(slog.NewTextHandler(&log, nil)))
	for _, path := range []string{"/v1/capture?target=web&target=uplink&filter=tcp+port+80", "/v1/capture?snaplen=none"} {
		r := httptest.NewRequest("GET", path, nil)
		h.ServeHTTP(httptest.NewRecorder(), r.WithContext(readers.With(r.Context(), readers.Reader{UID: 1000, Known: true})))
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `msg="capture begins" of="[web uplink]" by="user 1000" pid=0 filter="tcp port 80"`) {
		t.Errorf("the log says %q", got)
	}
}
