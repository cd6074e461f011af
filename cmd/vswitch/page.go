package main

import (
	"github.com/spf13/cobra"
)

func newPage(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "page",
		Short: "Print the link that opens the daemon's page",
		Long: `Print the link that opens the daemon's page, which it serves with --http. The link
holds the token that the page asks for: whoever has it sees every packet of every
container. The token stays the same over restarts; without the file http-token in the
state directory the next start makes another.`,
		Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			page, err := c.client(cmd).Page(cmd.Context())
			if err != nil {
				return err
			}
			return c.printOr(page, func() error {
				return sayf(c.stdout, "%s\n", page.Link())
			})
		},
	}
	c.addFormat(cmd)
	return cmd
}
