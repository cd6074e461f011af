package main

import (
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/control/daemon"
	"github.com/vswitch/vswitch/control/doctor"
)

func newDoctor(c *cli) *cobra.Command {
	var stateDir string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what keeps the switch from working, and say what mends it",
		Long: `Look for what keeps the switch from working: the kernel's features, rights, the
uplink, the seal and wiring of every container, published ports that programs hold,
MTUs that do not fit, foreign programs on the interfaces, links and reserved ports
that a killed daemon left. Nothing is changed; what has to be tried is tried in a
network namespace that exists only meanwhile. Run it as root in the daemon's network
namespace; without a daemon it checks what does not need one.

The exit code is 1 when something does not work; a warning alone is none.`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg := doctor.Config{StateDir: stateDir, Version: versionString()}
			cfg.Daemon, cfg.DaemonErr = doctor.Ask(cmd.Context(), c.client(cmd))
			if errors.Is(cfg.DaemonErr, client.ErrNoDaemon) {
				cfg.DaemonErr = nil
			}
			list, err := doctor.Examine(cfg)
			if err != nil {
				return err
			}
			if err := c.printOr(list, func() error { return printChecks(c.stdout, list) }); err != nil {
				return err
			}
			for _, k := range list {
				if k.Status == doctor.Fail {
					return &exitError{code: exitFailure}
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&stateDir, "state-dir", daemon.DefaultStateDir, "state directory of the daemon, when it does not run")
	c.addFormat(cmd)
	return cmd
}

// printChecks shows what is wrong below all that is well.
func printChecks(w io.Writer, list []doctor.Check) error {
	t := newTable(w, "CHECK", "STATUS", "FOUND")
	t.colours = map[string]string{"FAIL": red, "WARN": yellow, "OK": green}
	for _, k := range list {
		t.row(k.Name, strings.ToUpper(string(k.Status)), k.Message)
	}
	if err := t.flush(); err != nil {
		return err
	}
	n := 0
	for _, k := range list {
		if k.Fix == "" || k.Status == doctor.OK {
			continue
		}
		if n++; n == 1 {
			sayf(w, "\n")
		}
		if err := sayf(w, "%s: %s\n  fix: %s\n", k.Name, k.Message, k.Fix); err != nil {
			return err
		}
	}
	return nil
}
