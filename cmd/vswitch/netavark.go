package main

import (
	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/control/netavark"
)

// newNetavark are the verbs that netavark calls a plugin with. It knows nothing
// but the plugin's path, so they stand among the commands, where people do not
// see them.
func newNetavark(c *cli) (list []*cobra.Command) {
	for verb, path := range netavark.Verbs {
		use, names := verb, []string(nil)
		if path {
			use, names = verb+" NETNS", []string{"NETNS"}
		}
		list = append(list, &cobra.Command{
			Use:    use,
			Short:  "Answer Podman's network program netavark, in its own JSON",
			Hidden: true,
			Args:   args(names...),
			RunE: func(cmd *cobra.Command, args []string) error {
				netns := ""
				if path {
					netns = args[0]
				}
				err := netavark.Run(cmd.Context(), verb, netns, client.Socket(c.runDir), versionString(), c.stdin, c.stdout)
				if err != nil {
					netavark.Fail(c.stdout, err)
					return &exitError{code: exitFailure}
				}
				return nil
			},
		})
	}
	return list
}
