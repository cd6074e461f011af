package main

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/vswitch/vswitch/control/daemon"
)

// Names (FileDescriptorName=) of the sockets that a service manager may pass.
const (
	apiSocket    = "api"
	dockerSocket = "docker" // for Docker's plugin protocol
)

// supervised returns what connects a daemon with the service manager that started this
// process, by sd_listen_fds(3) and sd_notify(3). Without one that changes nothing.
func supervised() (connect func(*daemon.Config), err error) {
	sockets, err := inherited(apiSocket, dockerSocket)
	if err != nil {
		return nil, err
	}
	timeout, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("watchdog of the service manager: %w: set WatchdogSec= in the unit", err)
	}
	return func(cfg *daemon.Config) {
		log := cfg.Log
		notify := func(state ...string) {
			if _, err := sd.SdNotify(false, strings.Join(state, "\n")); err != nil {
				log.Warn("the service manager does not listen", "err", err)
			}
		}
		cfg.Socket, cfg.Docker = sockets[apiSocket], sockets[dockerSocket]
		cfg.Ready = func() { notify(sd.SdNotifyReady, "STATUS=Switching") }
		cfg.Stopping = func() { notify(sd.SdNotifyStopping) }
		// As sd_watchdog_enabled(3) recommends.
		cfg.Watchdog, cfg.Alive = timeout/2, func() { notify(sd.SdNotifyWatchdog) }
	}, nil
}

// inherited returns the sockets that were passed to this process, by name, of
// which only the known ones may be there, each once.
func inherited(known ...string) (map[string]*net.UnixListener, error) {
	sockets := make(map[string]*net.UnixListener)
	for _, f := range activation.Files(true) {
		name := f.Name()
		l, err := net.FileListener(f) // a duplicate
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("socket %s, by the service manager: %w", name, err)
		}
		unix, ok := l.(*net.UnixListener)
		if !ok {
			return nil, fmt.Errorf("socket %s, by the service manager, is %s: use a path of a unix socket", name, l.Addr().Network())
		}
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("socket %s, by the service manager, has the name %q: FileDescriptorName= must be one of %s",
				l.Addr(), name, strings.Join(known, ", "))
		}
		if sockets[name] != nil {
			return nil, fmt.Errorf("socket %s, by the service manager: there is another one named %s", l.Addr(), name)
		}
		sockets[name] = unix
	}
	return sockets, nil
}
