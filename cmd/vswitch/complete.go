package main

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control/api"
)

// names finds what a word on the command line may be.
type names func(*cobra.Command) ([]string, error)

// complete offers names for the arguments, kind by kind; the last kind goes on for all that
// follow. Nothing is offered twice.
func complete(kinds ...names) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		kind := kinds[min(len(args), len(kinds)-1)]
		if kind == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		list, err := kind(cmd)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return slices.DeleteFunc(list, func(name string) bool { return slices.Contains(args, name) }), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFlag offers names for a flag.
func completeFlag(cmd *cobra.Command, flag string, kind names) {
	cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		list, err := kind(cmd)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return list, cobra.ShellCompDirectiveNoFileComp
	})
}

// containers are the names of those that are attached.
func (c *cli) containers(cmd *cobra.Command) (list []string, err error) {
	cs, err := c.client(cmd).Containers(cmd.Context())
	for _, ct := range cs {
		list = append(list, ct.Name)
	}
	return list, err
}

// networks are the names of all networks.
func (c *cli) networks(cmd *cobra.Command) (list []string, err error) {
	ns, err := c.client(cmd).Networks(cmd.Context())
	for _, n := range ns {
		list = append(list, n.Name)
	}
	return list, err
}

// runNetworks are what vswitch run takes for --network.
func (c *cli) runNetworks(cmd *cobra.Command) ([]string, error) {
	list, err := c.networks(cmd)
	list = append(list, api.ModeHost, api.ModeNone)
	cs, err2 := c.containers(cmd)
	for _, name := range cs {
		list = append(list, api.ModeContainer+":"+name)
	}
	if err == nil {
		err = err2
	}
	return list, err
}

// targets are what can be captured.
func (c *cli) targets(cmd *cobra.Command) ([]string, error) {
	list, err := c.containers(cmd)
	ns, err2 := c.networks(cmd)
	for _, name := range ns {
		list = append(list, "network:"+name)
	}
	if err == nil {
		err = err2
	}
	return append(list, "uplink", "all"), err
}

// senders are from whom why may follow a packet, and receivers to whom.
func (c *cli) senders(cmd *cobra.Command) ([]string, error) {
	list, err := c.containers(cmd)
	return append(list, "outside", "host"), err
}

func (c *cli) receivers(cmd *cobra.Command) ([]string, error) {
	list, err := c.containers(cmd)
	return append(list, "host"), err
}

// noMore ends the arguments that have names.
var noMore names
