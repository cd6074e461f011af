package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/daemon"
)

func newDaemon(c *cli) *cobra.Command {
	var (
		cfg                daemon.Config
		pool               string
		file               string
		pool6              string
		ring, readerMemory string
		flowTable          bool
		token              string
		level              slog.Level
		threshold          slog.LevelVar // level, once it is in force
		logFmt             string

		timeouts []string
	)
	cmd := &cobra.Command{
		Use:   "daemon",
		Short: "Run the switch in this network namespace",
		Long: `Run the switch in this network namespace until SIGTERM or SIGINT.

Attached containers survive a restart: the daemon leaves their links standing,
and the next start with the same --state-dir takes them up again. With nothing
attached it removes every trace. Several daemons run side by side when each has
its own --run-dir and --state-dir.

Under systemd it says when it is ready (Type=notify), feeds the watchdog for as
long as each of its threads makes progress, and takes the sockets named api and
docker from socket units.

With --config SIGHUP reads the file again: log-level, timeout, pool and pool6 are
in force at once, the others with the next start. A file that is wrong changes
nothing, and a start that fails with one is tried with the last good one.`,
		Args: args(),
	}
	// build makes the daemon's configuration of the flags.
	build := func() (daemon.Config, error) {
		cfg := cfg
		cfg.NoFlowTable = !flowTable
		if token != "on" && token != "off" {
			return cfg, usagef(cmd, `--http-token %q: must be "on" or "off"`, token)
		}
		cfg.NoHTTPToken = token == "off"
		if pool != "" {
			p, err := netip.ParsePrefix(pool)
			if err != nil {
				return cfg, usagef(cmd, "--pool %q: not a prefix such as 10.88.0.0/13", pool)
			}
			cfg.Pool = p
		}
		if pool6 != "" {
			p, err := netip.ParsePrefix(pool6)
			if err != nil {
				return cfg, usagef(cmd, "--pool6 %q: not a prefix such as fd00:88::/48", pool6)
			}
			cfg.Pool6 = p
		}
		for _, t := range timeouts {
			name, text, _ := strings.Cut(t, "=")
			d, err := time.ParseDuration(text)
			if err != nil {
				return cfg, usagef(cmd, "--timeout %q: not like udp=5m or tcp-established=3h", t)
			}
			if cfg.Timeouts == nil {
				cfg.Timeouts = make(map[string]time.Duration)
			}
			cfg.Timeouts[name] = d
		}
		var err error
		if cfg.Log, err = newLog(c.stderr, logFmt, &threshold); err != nil {
			return cfg, usagef(cmd, "%w", err)
		}
		size, err := fileSize(ring)
		if err != nil || size > 1<<30 {
			return cfg, usagef(cmd, "--capture-ring %q: must be a size such as 16M, at most 1G", ring)
		}
		cfg.CaptureRing = int(size)
		if size == 0 && cmd.Flags().Changed("capture-ring-of") {
			return cfg, usagef(cmd, "--capture-ring-of: needs --capture-ring, the size of the ring")
		}
		memory, err := fileSize(readerMemory)
		if err != nil || memory < 32<<20 || memory > 4<<30 {
			return cfg, usagef(cmd, "--reader-memory %q: must be a size such as 192M, from 32M to 4G", readerMemory)
		}
		cfg.ReaderMemory = int(memory)
		cfg.RunDir, cfg.Version = c.runDir, versionString()
		if cfg.DockerSocket == "on" {
			cfg.DockerSocket = daemon.DockerSocket
		}
		if cfg.Cgroup == "off" {
			cfg.Cgroup = ""
		}
		if cfg.DockerAPI == "off" {
			cfg.DockerAPI = ""
		}
		checked := cfg.Config
		return cfg, checked.Fill()
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		// A reader of the log that goes away is no reason to stop switching.
		signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
		supervise, err := supervised()
		if err != nil {
			return err
		}
		connect := func(cfg *daemon.Config) {
			supervise(cfg)
			if os.Getenv("GOGC") == "" {
				collectWhenReady(cfg)
			}
		}
		if file = configFile(cmd, file); file == "" {
			cfg, err := build()
			if err != nil {
				return err
			}
			threshold.Set(level)
			connect(&cfg)
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			return daemon.Run(ctx, cfg)
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), unix.SIGINT, unix.SIGTERM)
		defer stop()
		hangup := make(chan os.Signal, 1)
		signal.Notify(hangup, unix.SIGHUP)
		defer signal.Stop(hangup)
		options := newOptions(cmd, build)
		return options.run(file, func(cfg daemon.Config) error {
			threshold.Set(level)
			connect(&cfg)
			cfg.Hangup, cfg.Reread = hangup, func() (daemon.Config, []string, error) {
				next, later, err := options.reread(file)
				keep, level := next.Accepted, level
				next.Accepted = func() error {
					threshold.Set(level)
					if keep == nil {
						return nil
					}
					return keep()
				}
				return next, later, err
			}
			return daemon.Run(ctx, cfg)
		})
	}
	flags := cmd.Flags()
	flags.StringVar(&file, "config", "", "TOML file with these options by their names; the command line wins (default "+defaultConfig+", where there is one; --config= for none)")
	flags.StringVar(&cfg.StateDir, "state-dir", daemon.DefaultStateDir, "directory of what must survive a restart")
	flags.StringSliceVar(&cfg.Uplinks, "uplink", []string{"auto"},
		`interfaces through which containers go out; "auto": those that hold a default route`)
	flags.IntVar(&cfg.Workers, "workers", 0, "threads that move frames (default chosen by the number of CPUs)")
	flags.StringVar(&pool, "pool", "", "space from which networks take a subnet (default 10.88.0.0/13)")
	flags.StringVar(&pool6, "pool6", "", "the same for IPv6 (default a random unique local /48 that the state directory keeps)")
	flags.BoolVar(&cfg.IPv6, "ipv6", false, "the default network has IPv6 too, if it is made by this start")
	flags.IntVar(&cfg.MaxFlows, "max-flows", 0, "connections that are tracked at a time (default 262144)")
	flags.StringSliceVar(&cfg.MasqueradePorts, "masquerade-ports", nil,
		"ports of the host that containers' connections leave from, such as 20000-29999 (default those beside ip_local_port_range)")
	flags.StringVar(&cfg.Cgroup, "cgroup", daemon.CgroupAuto,
		`cgroup2 whose programs have a UDP port at once when they bind it, and connect to published ports without a relay; "auto": all, in the machine's own network namespace; "off": none`)
	flags.StringSliceVar(&timeouts, "timeout", nil, "how long connections may be idle, STATE=TIME such as udp=5m (repeatable)")
	flags.StringVar(&ring, "capture-ring", "", "memory such as 16M for the newest frames, for capture --last (default none)")
	flags.StringSliceVar(&cfg.CaptureRingOf, "capture-ring-of", []string{"all"}, "whose frames the ring keeps, named as for capture: long flows of others stay in the kernel's flow table")
	flags.StringVar(&readerMemory, "reader-memory", "192M", "memory for captures and sorted rows of all who read the daemon together")
	flags.StringVar(&cfg.FlowLog, "flow-log", "", "file that gets each connection when it ends, as a line of JSON")
	flags.StringVar(&cfg.IPFIX, "ipfix", "", "IPFIX collector (ADDRESS[:PORT], UDP) that gets the connections")
	flags.StringVar(&cfg.HTTP, "http", "", "serve the page and the metrics there, such as at 127.0.0.1:9595 (default nowhere)")
	flags.StringVar(&token, "http-token", "on", `"on": clients of --http have to show the token that vswitch page prints; "off": nobody has to, on loopback only`)
	flags.StringVar(&cfg.HTTPTokenFile, "http-token-file", "", "file with that token (default one that the state directory keeps)")
	flags.BoolVar(&flowTable, "flow-table", true, "let the kernel carry long flows on that the switch has decided")
	flags.StringVar(&cfg.DockerSocket, "docker-socket", "",
		`serve Docker's plugin protocol at this path; "on": `+daemon.DockerSocket+`, which dockerd knows as driver vswitch`)
	flags.StringVar(&cfg.DockerAPI, "docker-api", daemon.DockerAPI,
		`dockerd's socket, to learn the names of its containers from; "off": they are called by their endpoints' IDs`)
	flags.TextVar(&level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	flags.StringVar(&logFmt, "log-format", "text", `"text" or "json"`)
	return cmd
}

// collectWhenReady has garbage collected rarely until the daemon is ready, for which everybody
// waits: a start with a thousand containers makes 100 MB of it, and as often as later the
// collector took a fifth of its time. An attach makes tens of kilobytes, and the path of the
// frames none: to collect often costs nothing then that anybody waits for, and keeps what 100
// containers take below 100 MB.
func collectWhenReady(cfg *daemon.Config) {
	const starting, running = 400, 50
	debug.SetGCPercent(starting)
	ready := cfg.Ready
	cfg.Ready = func() {
		debug.SetGCPercent(running)
		if ready != nil {
			ready()
		}
	}
}

// newLog is the daemon's log, whose lines are safe to read on a terminal: the text
// handler quotes what is not printable.
func newLog(w io.Writer, format string, level slog.Leveler) (*slog.Logger, error) {
	opts := &slog.HandlerOptions{Level: level}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(jsonLines{w}, opts)), nil
	}
	return nil, fmt.Errorf(`--log-format %q: must be "text" or "json"`, format)
}
