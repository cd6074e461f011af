package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/vswitch/vswitch/control/cni"
)

// Exit codes. A command started by `vswitch run` adds its own, and 126 and 127
// as a shell uses them.
const (
	exitOK            = 0
	exitFailure       = 1
	exitUsage         = 2
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128 // plus the signal's number
)

func main() {
	switch os.Args[0] {
	case runInitName:
		os.Exit(runInit(os.Args[1:], os.Stderr))
	case demoContainerName:
		os.Exit(demoContainer(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	// A container runtime calls a CNI plugin so, by whatever name it lies there.
	if os.Getenv("CNI_COMMAND") != "" {
		os.Exit(cni.Main(os.Stderr))
	}
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run executes one command line and returns its exit code. It reads the
// environment, but neither os.Args nor the process's own streams.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if calledByWireshark(args) {
		args = append([]string{"extcap"}, args...)
	}
	root := newRoot(&cli{stdin: stdin, stdout: stdout, stderr: stderr})
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)

	var usage *usageError
	var exit *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &usage):
		sayf(stderr, "vswitch: %v: see %s --help\n", usage.err, usage.command)
		return exitUsage
	case errors.As(err, &exit):
		if exit.err != nil {
			sayf(stderr, "vswitch: %v\n", exit.err)
		}
		return exit.code
	}
	sayf(stderr, "vswitch: %v\n", err)
	return exitFailure
}

// usageError is a command line that cannot be carried out as written.
type usageError struct {
	command string // path of the command whose help explains it
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// exitError ends the process with code; err is nil when all has been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }
