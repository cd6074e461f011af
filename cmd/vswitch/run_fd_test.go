package main

import (
	"os"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// What runs in a container has standard input, output and error, and no other
// descriptor of vswitch (CVE-2024-21626).
func TestC19RunLeaksNoDescriptor(t *testing.T) {
	labtest.Need(t)
	for _, network := range []string{"none", "bridge", "host"} {
		r := newRegistry(t)
		cmd := r.command("run", "--network", network, "--", "sh", "-c", `for f in /proc/$$/fd/*; do [ -e "$f" ] && readlink "$f"; done; true`)
		// What the caller has left open without thinking.
		null, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		cmd.ExtraFiles = []*os.File{null, null}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", network, err)
		}
		if lines := strings.Split(strings.TrimSpace(string(out)), "\n"); len(lines) != 3 {
			t.Errorf("%s: the container has %d descriptors: %q", network, len(lines), lines)
		}
		r.checkReleased(t)
	}
}
