package main

import (
	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control/api"
)

func newNetworkUpdate(c *cli) *cobra.Command {
	var (
		icc, hostAccess, noDNS bool
		filter                 string
		exempt, labels         []string
		dnsAdd, dnsDrop        []string
	)
	cmd := &cobra.Command{
		Use:   "update NAME [flags]",
		Short: "Change a network and all its containers as they run",
		Example: `  vswitch network update blue --icc=false
  vswitch network update games --nat-filter eif
  vswitch network update blue --exempt 10.9.9.0/24 --label owner=`,
		Args: args("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var in api.NetworkUpdate
			set := cmd.Flags().Changed
			if set("icc") {
				in.ICC = &icc
			}
			if set("host-access") {
				in.HostAccess = &hostAccess
			}
			if set("disable-dns") {
				in.DisableDNS = &noDNS
			}
			if set("nat-filter") || set("filter") {
				in.Filter = &filter
			}
			if set("exempt") {
				list := make([]string, 0, len(exempt))
				for _, e := range exempt {
					if e != "" { // --exempt= empties the list
						list = append(list, e)
					}
				}
				in.Exempt = &list
			}
			var err error
			if in.Labels, err = parsePairs(labels); err != nil {
				return usagef(cmd, "--label %w", err)
			}
			in.DNSAdd, in.DNSDrop = dnsAdd, dnsDrop
			if in.ICC == nil && in.HostAccess == nil && in.DisableDNS == nil && dnsAdd == nil && dnsDrop == nil && in.Filter == nil && in.Exempt == nil && in.Labels == nil {
				return usagef(cmd, "nothing to change: give --icc, --host-access, --disable-dns, --dns-add, --dns-drop, --nat-filter, --exempt or --label")
			}
			n, err := c.client(cmd).UpdateNetwork(cmd.Context(), args[0], in)
			if err != nil {
				return err
			}
			return c.printOr(n, func() error { return printNetwork(c.stdout, n) })
		},
		ValidArgsFunction: complete(c.networks, noMore),
	}
	flags := cmd.Flags()
	flags.BoolVar(&icc, "icc", true, "its containers reach each other; with --icc=false only the gateway and the world")
	flags.BoolVar(&hostAccess, "host-access", true, "its containers reach the services of the host; with --host-access=false only published ports")
	flags.BoolVar(&noDNS, "disable-dns", false, "its gateway answers no names; with --disable-dns=false it does again")
	flags.StringArrayVar(&dnsAdd, "dns-add", nil, "one more name server that is asked for names outside, in the place of the host's (repeatable)")
	flags.StringArrayVar(&dnsDrop, "dns-drop", nil, "one of them less; without any the host's are asked (repeatable)")
	natFilter(cmd, &filter, filterUsage)
	flags.StringArrayVar(&exempt, "exempt", nil, "destinations that see the containers' own addresses, CIDR; replaces the list, --exempt= empties it (repeatable)")
	flags.StringArrayVar(&labels, "label", nil, "KEY=VALUE sets a label, KEY= takes it away (repeatable)")
	c.addFormat(cmd)
	return cmd
}

// natFilter is --nat-filter. Scripts may have its older word, which everywhere else selects rows.
func natFilter(cmd *cobra.Command, to *string, usage string) {
	cmd.Flags().StringVar(to, "nat-filter", "", usage)
	cmd.Flags().StringVar(to, "filter", "", usage)
	cmd.Flags().Lookup("filter").Hidden = true
	cmd.MarkFlagsMutuallyExclusive("nat-filter", "filter")
}

const filterUsage = "who comes in by the port that a container went out by: apdf, only who it wrote to, or eif, everybody (RFC 4787)"
