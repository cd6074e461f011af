package server

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"runtime"
	"strconv"
	"sync"

	"github.com/vswitch/vswitch/control/api"
)

// Longest profile, and how long one takes that is of a time when none is named.
const (
	maxProfile     = 300 // seconds
	defaultProfile = 10
)

// profiles are what GET /v1/debug/pprof/{profile} knows: how each is served, and
// whether it is of a time. What has to be switched on for it runs only that long.
var profiles = map[string]struct {
	timed bool
	serve http.HandlerFunc
}{
	"cpu":       {true, pprof.Profile},
	"trace":     {true, pprof.Trace},
	"mutex":     {true, sampling(func(rate int) { runtime.SetMutexProfileFraction(rate) }, "mutex")},
	"block":     {true, sampling(runtime.SetBlockProfileRate, "block")},
	"goroutine": {false, pprof.Handler("goroutine").ServeHTTP},
	"heap":      {false, pprof.Handler("heap").ServeHTTP},
	"allocs":    {false, pprof.Handler("allocs").ServeHTTP},
}

// profile serves the daemon's profiles in the format of go tool pprof (a trace: of go
// tool trace).
func (s *server) profile(w http.ResponseWriter, r *http.Request) {
	name, q := r.PathValue("profile"), r.URL.Query()
	p, ok := profiles[name]
	if !ok {
		s.refuse(w, r, fmt.Errorf("profile %s: %w: use cpu, trace, mutex, block, goroutine, heap or allocs", name, api.ErrNotFound))
		return
	}
	seconds := q.Get("seconds")
	if n, err := strconv.Atoi(seconds); seconds != "" && (err != nil || n < 1 || n > maxProfile) {
		s.refuse(w, r, fmt.Errorf("%w: seconds %q: want 1 to %d", api.ErrInvalid, seconds, maxProfile))
		return
	}
	switch {
	case !p.timed:
		q.Del("seconds")
	case seconds == "":
		q.Set("seconds", strconv.Itoa(defaultProfile))
	}
	q.Del("debug") // does not go with seconds
	r.URL.RawQuery = q.Encode()
	_ = r.ParseForm()
	p.serve(w, r)
}

// sampling takes a profile of every event while it is asked for.
func sampling(rate func(int), name string) http.HandlerFunc {
	var mu sync.Mutex
	users := 0
	use := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		if users += n; users == 0 {
			rate(0)
		} else {
			rate(1)
		}
	}
	return func(w http.ResponseWriter, r *http.Request) {
		use(1)
		defer use(-1)
		pprof.Handler(name).ServeHTTP(w, r) // what was counted in the time of r
	}
}
