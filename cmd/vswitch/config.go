package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"
)

// applyConfig sets the flags of cmd that a TOML file names and the command line
// does not. A key is the name of a flag, a list stands for a flag that takes
// several values:
//
//	uplink = ["eth0", "eth1"]
//	workers = 2
func applyConfig(cmd *cobra.Command, file string) error {
	var values map[string]any
	if _, err := toml.DecodeFile(file, &values); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("config %s: no such file: name another with --config", file)
		}
		return fmt.Errorf("config %s: %s", file, firstLine(err))
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		flag := cmd.Flags().Lookup(key)
		if flag == nil || key == "config" || key == "help" {
			return fmt.Errorf("config %s: %s is no option of the daemon: see vswitch daemon --help", file, key)
		}
		if flag.Changed {
			continue
		}
		text, err := flagText(values[key])
		if err == nil {
			err = flag.Value.Set(text)
		}
		if err != nil {
			return fmt.Errorf("config %s: %s: %w", file, key, err)
		}
	}
	return nil
}

// flagText is a TOML value as one would write it behind the flag.
func flagText(v any) (string, error) {
	switch v := v.(type) {
	case string, int64, bool:
		return fmt.Sprint(v), nil
	case []any:
		var parts []string
		for _, e := range v {
			text, err := flagText(e)
			if err != nil {
				return "", err
			}
			parts = append(parts, text)
		}
		return strings.Join(parts, ","), nil
	}
	return "", fmt.Errorf("%v: must be a text, a number, a truth value or a list of them", v)
}

// firstLine keeps the library's message and leaves its picture of the place out.
func firstLine(err error) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "toml: "), "\n")
	return first
}
