// Command make makes the root file systems that `make test-runtimes` uses. It is
// a program of its own because tests have no way to the mirror.
package main

import (
	"fmt"
	"os"

	"github.com/vswitch/vswitch/internal/debroot"
)

func main() {
	if why := debroot.Missing(); why != "" {
		fmt.Fprintln(os.Stderr, "debroot:", why)
		os.Exit(2)
	}
	for _, spec := range debroot.Specs {
		dir, err := debroot.Make(spec, os.Stderr)
		if err != nil {
			fmt.Fprintln(os.Stderr, "debroot:", err)
			os.Exit(1)
		}
		fmt.Println(dir)
	}
}
