package main

import (
	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control/daemon"
)

func newDown(c *cli) *cobra.Command {
	var (
		file, stateDir string
		all            bool
	)
	cmd := &cobra.Command{
		Use:   "down",
		Short: "End the daemon, and what outlives it",
		Long: `End the daemon, and what outlives it: a daemon that ends leaves the host as it is, so
that connections go on until the next one starts. This ends the process that keeps
devices and sockets open, removes the networks' devices and the programs on uplinks, and
gives reserved ports back to the host. It works whether or not a daemon runs. One that a
service manager runs is to be stopped there first.

Containers keep their interfaces, which are sealed: nothing passes until a daemon with the
same --state-dir takes them up again. With --all they are removed.

A daemon with directories of its own is found by --run-dir and --state-dir, or by its --config.`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file = configFile(cmd, file); file != "" {
				if err := applyDirectories(cmd, file); err != nil {
					return err
				}
			}
			did, err := daemon.Down(cmd.Context(), c.runDir, stateDir, all)
			for _, line := range did {
				sayf(c.stdout, "%s\n", line)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&stateDir, "state-dir", daemon.DefaultStateDir, "state directory of the daemon")
	cmd.Flags().StringVar(&file, "config", "", "configuration file of the daemon, which may name its directories; the command line wins")
	cmd.Flags().BoolVar(&all, "all", false, "remove the interfaces of containers, too")
	return cmd
}
