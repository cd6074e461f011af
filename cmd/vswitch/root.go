package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"runtime/debug"
	"strings"
	"text/template"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/control/daemon"
)

// version is set by the Makefile; builds without it take the module's.
var version string

// cli is what the commands of one command line share.
type cli struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	runDir string             // --run-dir
	format string             // --format
	layout *template.Template // that --format gives, nil: none
}

// client returns a client of the daemon: at --run-dir when it was given, else
// at VSWITCH_SOCKET, else in the default directory.
func (c *cli) client(cmd *cobra.Command) *client.Client {
	return client.New(c.socket(cmd))
}

func (c *cli) socket(cmd *cobra.Command) string {
	if cmd.Flags().Changed("run-dir") {
		return socketIn(c.runDir)
	}
	return client.Socket(c.runDir)
}

func socketIn(runDir string) string { return strings.TrimRight(runDir, "/") + "/" + daemon.SocketName }

// valuesOf says what a flag takes, in the words of a user, not the ones of the parser.
func valuesOf(f *pflag.Flag) string {
	switch f.Value.Type() {
	case "bool":
		return "true or false"
	case "int":
		return "a whole number"
	case "uint", "uint64":
		return "a whole number, 0 or more"
	case "duration":
		return "a time such as 30s"
	}
	return f.Usage
}

func newRoot(c *cli) *cobra.Command {
	root := &cobra.Command{
		Use:   "vswitch",
		Short: "A switch for containers that lives in one process",
		Long: `A switch for containers that lives in one process: it joins network namespaces,
the host and the outside world, translates addresses and publishes ports, in the
place of the kernel's bridge, iptables and docker-proxy.`,
		Version:           versionString(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetVersionTemplate("vswitch {{.Version}}\n")
	group(root)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if bad, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
			return usagef(cmd, "--%s %q: must be %s", bad.GetFlag().Name, bad.GetValue(), valuesOf(bad.GetFlag()))
		}
		return usagef(cmd, "%w", err)
	})
	flags := root.PersistentFlags()
	flags.StringVar(&c.runDir, "run-dir", daemon.DefaultRunDir,
		"directory of the daemon's socket; VSWITCH_SOCKET names the socket itself")

	root.AddCommand(
		newDaemon(c), newDown(c),
		newRun(c), newAttach(c), newDetach(c), newExec(c),
		newPs(c), newInspect(c),
		newNetwork(c), newPort(c),
		newFDB(c), newNAT(c), newStats(c), newCapture(c), newExtcap(c),
		newFlows(c), newEvents(c), newTop(c), newWhy(c), newDoctor(c), newPage(c),
		newDemo(c),
		newOCIHook(c),
		newVersion(c), newCompletion(c),
	)
	root.AddCommand(newNetavark(c)...)
	return root
}

func newVersion(c *cli) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  args(),
		RunE: func(*cobra.Command, []string) error {
			return c.printOr(map[string]string{"version": versionString()}, func() error {
				return sayf(c.stdout, "vswitch %s\n", versionString())
			})
		},
	}
	c.addFormat(cmd)
	return cmd
}

func newCompletion(c *cli) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a script that completes commands and names in a shell",
		Long: `Print a script that completes commands and names in a shell:

    source <(vswitch completion bash)`,
		Args:      args("SHELL"),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(c.stdout, true)
			case "zsh":
				return root.GenZshCompletion(c.stdout)
			case "fish":
				return root.GenFishCompletion(c.stdout, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(c.stdout)
			}
			return usagef(cmd, "shell %q: must be one of %s", args[0], strings.Join(shells, ", "))
		},
	}
}

func versionString() string {
	if version != "" {
		return version
	}
	if bi, ok := debug.ReadBuildInfo(); ok && bi.Main.Version != "" {
		return bi.Main.Version
	}
	return "(devel)"
}

// usagef makes the error of a command line that cmd cannot carry out.
func usagef(cmd *cobra.Command, format string, a ...any) error {
	err := fmt.Errorf(format, a...)
	if name := commandName(cmd); name != "" {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return &usageError{command: cmd.CommandPath(), err: err}
}

// commandName is the command's path without the program: "network create".
func commandName(cmd *cobra.Command) string {
	_, name, _ := strings.Cut(cmd.CommandPath(), " ")
	return name
}

// args accepts exactly the named arguments. A last name in brackets may be left
// out, one that ends in "..." takes one or more.
func args(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, got []string) error {
		for i, name := range names {
			optional := strings.HasPrefix(name, "[")
			if i >= len(got) && !optional {
				return usagef(cmd, "%s is missing", strings.TrimSuffix(name, "..."))
			}
			if strings.HasSuffix(strings.Trim(name, "[]"), "...") {
				return nil
			}
		}
		if len(got) > len(names) {
			return usagef(cmd, "unexpected argument %q", got[len(names)])
		}
		return nil
	}
}

// group makes cmd a command that only holds others: alone it prints its help,
// with a word it does not know it fails.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		err := fmt.Errorf("unknown command %q", args[0])
		cmd.SuggestionsMinimumDistance = 2
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			err = fmt.Errorf("%w, perhaps %s", err, strings.Join(near, " or "))
		}
		return usagef(cmd, "%w", err)
	}
	return cmd
}

// addFormat gives cmd the flag --format.
func (c *cli) addFormat(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.format, "format", formatTable, `"table" for people, "json" for programs, or a template such as '{{.name}}'`)
	cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(
		[]string{formatTable, formatJSON}, cobra.ShellCompDirectiveNoFileComp))
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error {
		switch {
		case c.format == formatTable, c.format == formatJSON:
		case strings.Contains(c.format, "{{"):
			var err error
			if c.layout, err = parseFormat(c.format); err != nil {
				return usagef(cmd, "--format %q: %w", c.format, err)
			}
		default:
			return usagef(cmd, `--format %q: must be "table", "json" or a template such as '{{.name}}'`, c.format)
		}
		return nil
	}
}

// printOr prints v as JSON or by a template when that was asked for, else calls human.
func (c *cli) printOr(v any, human func() error) error {
	switch {
	case c.layout != nil:
		return printTemplate(c.stdout, c.layout, v)
	case c.format == formatJSON:
		return printJSON(c.stdout, v)
	}
	return human()
}

// printEachOr is printOr for one of many that come one by one: a line each.
func (c *cli) printEachOr(v any, human func() error) error {
	if c.layout == nil && c.format == formatJSON {
		return printLine(c.stdout, v)
	}
	return c.printOr(v, human)
}

// untilSignal returns a context that ends when the user or the system asks the
// process to end.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
}

// each calls fn for every name and goes on after an error, unless nobody
// answers at all.
func each(names []string, fn func(name string) error) error {
	var errs []error
	for _, name := range names {
		err := fn(name)
		if errors.Is(err, client.ErrNoDaemon) {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
