package main

import (
	"log/slog"
	"net/netip"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control"
)

func newDaemon(c *cli) *cobra.Command {
	var (
		cfg       control.DaemonConfig
		pool      string
		file      string
		pool6     string
		ring      string
		flowTable bool
		level     slog.Level
		logFmt    string

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
docker from socket units.`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file != "" {
				if err := applyConfig(cmd, file); err != nil {
					return err
				}
			}
			cfg.NoFlowTable = !flowTable
			if pool != "" {
				p, err := netip.ParsePrefix(pool)
				if err != nil {
					return usagef(cmd, "--pool %q: not a prefix such as 10.88.0.0/13", pool)
				}
				cfg.Pool = p
			}
			if pool6 != "" {
				p, err := netip.ParsePrefix(pool6)
				if err != nil {
					return usagef(cmd, "--pool6 %q: not a prefix such as fd00:88::/48", pool6)
				}
				cfg.Pool6 = p
			}
			for _, t := range timeouts {
				name, text, _ := strings.Cut(t, "=")
				d, err := time.ParseDuration(text)
				if err != nil {
					return usagef(cmd, "--timeout %q: not like udp=5m or tcp-established=3h", t)
				}
				if cfg.Timeouts == nil {
					cfg.Timeouts = make(map[string]time.Duration)
				}
				cfg.Timeouts[name] = d
			}
			opts := &slog.HandlerOptions{Level: level}
			switch logFmt {
			case "text":
				cfg.Log = slog.New(slog.NewTextHandler(c.stderr, opts))
			case "json":
				cfg.Log = slog.New(slog.NewJSONHandler(c.stderr, opts))
			default:
				return usagef(cmd, `--log-format %q: must be "text" or "json"`, logFmt)
			}
			size, err := fileSize(ring)
			if err != nil || size > 1<<30 {
				return usagef(cmd, "--capture-ring %q: must be a size such as 16M, at most 1G", ring)
			}
			cfg.CaptureRing = int(size)
			if size == 0 && cmd.Flags().Changed("capture-ring-of") {
				return usagef(cmd, "--capture-ring-of: needs --capture-ring, the size of the ring")
			}
			cfg.RunDir, cfg.Version = c.runDir, versionString()
			if cfg.DockerSocket == "on" {
				cfg.DockerSocket = control.DockerSocket
			}
			if cfg.DockerAPI == "off" {
				cfg.DockerAPI = ""
			}
			if err := supervised(&cfg); err != nil {
				return err
			}
			// What is decided anew for each attach is garbage of tens of kilobytes, and the
			// path of the frames makes none: collecting twice as often costs nothing that
			// anybody waits for, and keeps what 100 containers take below 100 MB.
			if os.Getenv("GOGC") == "" {
				debug.SetGCPercent(50)
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			return control.Run(ctx, cfg)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&file, "config", "", "TOML file with these options by their names; the command line wins")
	flags.StringVar(&cfg.StateDir, "state-dir", control.DefaultStateDir, "directory of what must survive a restart")
	flags.StringSliceVar(&cfg.Uplinks, "uplink", []string{"auto"},
		`interfaces through which containers go out; "auto": those that hold a default route`)
	flags.IntVar(&cfg.Workers, "workers", 0, "threads that move frames (default chosen by the number of CPUs)")
	flags.StringVar(&pool, "pool", "", "space from which networks take a subnet (default 10.88.0.0/13)")
	flags.StringVar(&pool6, "pool6", "", "the same for IPv6 (default a random unique local /48 that the state directory keeps)")
	flags.BoolVar(&cfg.IPv6, "ipv6", false, "the default network has IPv6 too, if it is made by this start")
	flags.IntVar(&cfg.MaxFlows, "max-flows", 0, "connections that are tracked at a time (default 262144)")
	flags.StringSliceVar(&timeouts, "timeout", nil, "how long connections may be idle, STATE=TIME such as udp=5m (repeatable)")
	flags.StringVar(&ring, "capture-ring", "", "memory such as 16M for the newest frames, for capture --last (default none)")
	flags.StringSliceVar(&cfg.CaptureRingOf, "capture-ring-of", []string{"all"}, "whose frames the ring keeps, named as for capture: long flows of others stay in the kernel's flow table")
	flags.StringVar(&cfg.FlowLog, "flow-log", "", "file that gets each connection when it ends, as a line of JSON")
	flags.StringVar(&cfg.IPFIX, "ipfix", "", "IPFIX collector (ADDRESS[:PORT], UDP) that gets the connections")
	flags.StringVar(&cfg.HTTP, "http", "", "serve the page and the metrics there, such as at 127.0.0.1:9595 (default nowhere)")
	flags.StringVar(&cfg.HTTPTokenFile, "http-token-file", "", "file with the token that clients of --http have to show; needed beyond loopback")
	flags.BoolVar(&flowTable, "flow-table", true, "let the kernel carry long flows on that the switch has decided")
	flags.StringVar(&cfg.DockerSocket, "docker-socket", "",
		`serve Docker's plugin protocol at this path; "on": `+control.DockerSocket+`, which dockerd knows as driver vswitch`)
	flags.StringVar(&cfg.DockerAPI, "docker-api", control.DockerAPI,
		`dockerd's socket, to learn the names of its containers from; "off": they are called by their endpoints' IDs`)
	flags.TextVar(&level, "log-level", slog.LevelInfo, "debug, info, warn or error")
	flags.StringVar(&logFmt, "log-format", "text", `"text" or "json"`)
	return cmd
}
