package main

import (
	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control/oci"
)

func newOCIHook(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "oci-hook [createRuntime|poststop]",
		Short: "Attach a container of runc or crun by its annotations, as a hook of the runtime",
		Long: `Attach a container of runc or crun by its annotations, as a hook of the runtime:
it reads the container's state on standard input. At createRuntime (or prestart) a
container with an annotation org.vswitch.* is attached, at poststop it is
released; without an argument the state tells which it is.

  org.vswitch.network  networks, with commas; the first gives the default route
  org.vswitch.ports    published ports, as after -p, with commas
  org.vswitch.name     name, default the container's ID
  org.vswitch.ip, ip6, mac, ifname, guard, vlan, trunk
                       of the interface in the first network
  org.vswitch.labels   KEY=VALUE, with commas

The container is released with its process at the latest, so that nothing is left
where a later hook fails and the runtime calls no poststop.`,
		Args:      args("[STAGE]"),
		ValidArgs: []string{oci.CreateRuntime, oci.Poststop},
		RunE: func(cmd *cobra.Command, args []string) error {
			stage := ""
			if len(args) > 0 {
				stage = args[0]
			}
			return oci.Run(cmd.Context(), stage, c.socket(cmd), c.stdin)
		},
	}
}
