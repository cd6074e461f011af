// Command bare is an OCI runtime for a machine whose cgroup2 has no controllers: it runs runc on a bundle
// without limits, which nobody could keep there.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

const runc = "/usr/sbin/runc"

func main() {
	if i := slices.Index(os.Args, "--bundle"); slices.Contains(os.Args, "create") && i > 0 && i+1 < len(os.Args) {
		if err := unlimit(filepath.Join(os.Args[i+1], "config.json")); err != nil {
			fmt.Fprintln(os.Stderr, "bare:", err)
			os.Exit(1)
		}
	}
	fmt.Fprintln(os.Stderr, "bare:", syscall.Exec(runc, append([]string{runc}, os.Args[1:]...), os.Environ()))
	os.Exit(1)
}

// unlimit takes all limits out of a config.json and leaves the devices.
func unlimit(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var spec map[string]any
	if err := json.Unmarshal(b, &spec); err != nil {
		return err
	}
	if linux, ok := spec["linux"].(map[string]any); ok {
		if all, ok := linux["resources"].(map[string]any); ok {
			linux["resources"] = map[string]any{"devices": all["devices"]}
		}
	}
	if b, err = json.Marshal(spec); err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}
