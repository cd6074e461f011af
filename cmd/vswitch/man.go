//go:build man

package main

import (
	"github.com/spf13/cobra/doc"

	"fmt"
	"io"
	"os"
)

// With the tag man the program writes the manual pages of its commands into a
// directory, for packages; what users get does not carry the generator.
//
//	go run -tags man ./cmd/vswitch DIR
func init() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run -tags man ./cmd/vswitch DIR")
		os.Exit(exitUsage)
	}
	root := newRoot(&cli{stdin: os.Stdin, stdout: io.Discard, stderr: os.Stderr})
	root.DisableAutoGenTag = true
	err := doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "vswitch " + version, Manual: "vswitch"}, os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "manual pages:", err)
		os.Exit(exitFailure)
	}
	os.Exit(exitOK)
}
