package rig

import (
	"sync"

	"github.com/vswitch/vswitch/internal/netlab"
)

// hooked is the cgroup that this process and all it starts is in for as long as there is a daemon,
// which has its hooks there: programs of other cgroups have nothing to do with the benchmark.
var hooked struct {
	mu    sync.Mutex // guards what follows
	users int
	dir   string
	leave func() error
}

// enterCgroup returns the cgroup for a daemon; leaveCgroup is called at its end.
func enterCgroup() (dir string, err error) {
	hooked.mu.Lock()
	defer hooked.mu.Unlock()
	if hooked.users == 0 {
		if hooked.dir, hooked.leave, err = netlab.EnterCgroup("vswitch-bench"); err != nil {
			return "", err
		}
	}
	hooked.users++
	return hooked.dir, nil
}

func leaveCgroup() error {
	hooked.mu.Lock()
	defer hooked.mu.Unlock()
	if hooked.users--; hooked.users > 0 {
		return nil
	}
	return hooked.leave()
}
