package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vswitch/vswitch/control/daemon"
)

// defaultConfig is read where there is one and --config does not say otherwise.
const defaultConfig = "/etc/vswitch/vswitch.toml"

// configFile is the file that a command reads, "" for none.
func configFile(cmd *cobra.Command, named string) string {
	if cmd.Flags().Changed("config") {
		return named
	}
	if _, err := os.Stat(defaultConfig); errors.Is(err, os.ErrNotExist) {
		return ""
	}
	return defaultConfig
}

// options are the daemon's flags, which files set again and again.
type options struct {
	cmd     *cobra.Command
	slices  map[string][]string // defaults of flags that take several values
	build   func() (daemon.Config, error)
	started map[string]string // the flags of the daemon that runs
}

// newOptions begins with what the command line says.
func newOptions(cmd *cobra.Command, build func() (daemon.Config, error)) *options {
	o := &options{cmd: cmd, slices: make(map[string][]string), build: build}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if v, ok := f.Value.(pflag.SliceValue); ok {
			o.slices[f.Name] = slices.Clone(v.GetSlice())
		}
	})
	return o
}

// reset takes back what a file has set.
func (o *options) reset() (err error) {
	o.cmd.Flags().VisitAll(func(f *pflag.Flag) {
		switch v, ok := f.Value.(pflag.SliceValue); {
		case f.Changed || f.Name == "config" || f.Name == "help":
		case ok:
			err = errors.Join(err, v.Replace(o.slices[f.Name]))
		default:
			err = errors.Join(err, f.Value.Set(f.DefValue))
		}
	})
	return err
}

// read makes a configuration of a file and the command line. text is what the file said.
func (o *options) read(file string) (cfg daemon.Config, text []byte, err error) {
	if err := o.reset(); err != nil {
		return cfg, nil, err
	}
	if text, err = applyConfig(o.cmd, file); err != nil {
		return cfg, text, err
	}
	if cfg, err = o.build(); err != nil {
		return cfg, text, fmt.Errorf("config %s: %w", file, err)
	}
	return cfg, text, nil
}

// run has the daemon run as a file says. When the file is wrong, or the daemon does not
// get ready with it, the last good one is tried, once. What run does with a configuration
// calls its Accepted when the daemon is ready.
func (o *options) run(file string, run func(daemon.Config) error) error {
	good := lastGood(o.cmd.Flag("state-dir").Value.String())
	cfg, text, refused := o.read(file)
	if refused == nil {
		good = lastGood(cfg.StateDir)
		ready := false
		cfg.Accepted = func() error { ready = true; return keepGood(text, good) }
		old, err := os.ReadFile(good)
		cfg.Strict = err == nil && !bytes.Equal(old, text)
		o.started = o.texts()
		if refused = run(cfg); refused == nil || ready {
			return refused
		}
	}
	if old, err := os.ReadFile(good); err != nil || bytes.Equal(old, text) {
		return refused
	}
	cfg, _, err := o.read(good)
	if err != nil {
		return refused
	}
	cfg.Log.Error("the configuration is not taken: the last good one is tried", "err", refused)
	ready := false
	cfg.Accepted = func() error { ready = true; return nil }
	o.started = o.texts()
	if err := run(cfg); err == nil || ready {
		return err
	}
	return refused
}

// live are the options that a running daemon takes.
var live = []string{"log-level", "pool", "pool6", "timeout"}

// reread makes the next configuration of a file. The options of later differ and wait for the next
// start; as long as some do the file has not shown that it is good.
func (o *options) reread(file string) (next daemon.Config, later []string, err error) {
	next, text, err := o.read(file)
	if err != nil {
		return next, nil, err
	}
	for name, value := range o.texts() {
		if value != o.started[name] && !slices.Contains(live, name) {
			later = append(later, name)
		}
	}
	slices.Sort(later)
	if len(later) == 0 {
		next.Accepted = func() error { return keepGood(text, lastGood(next.StateDir)) }
	}
	return next, later, nil
}

// texts are the values of all flags.
func (o *options) texts() map[string]string {
	m := make(map[string]string)
	o.cmd.Flags().VisitAll(func(f *pflag.Flag) { m[f.Name] = f.Value.String() })
	return m
}

// lastGood is where the state directory keeps the last configuration that was in force.
func lastGood(stateDir string) string { return filepath.Join(stateDir, "config.toml") }

// keepGood keeps the text of a file as the last good one. An end at any moment, also the
// machine's, leaves this one or the one before.
func keepGood(text []byte, good string) error {
	if old, err := os.ReadFile(good); err == nil && bytes.Equal(old, text) {
		return nil
	}
	tmp := good + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(tmp, good)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	d, err := os.Open(filepath.Dir(good))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// applyConfig sets the flags of cmd that a TOML file names and the command line
// does not. A key is the name of a flag, a list stands for a flag that takes
// several values:
//
//	uplink = ["eth0", "eth1"]
//	workers = 2
//
// It returns what the file said.
func applyConfig(cmd *cobra.Command, file string) (text []byte, err error) {
	text, values, err := readConfig(file)
	if err != nil {
		return text, err
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if cmd.Flags().Lookup(key) == nil || key == "config" || key == "help" {
			return text, fmt.Errorf("config %s: %s is no option of the daemon: see vswitch daemon --help", file, key)
		}
		if err := setFlag(cmd, key, values); err != nil {
			return text, fmt.Errorf("config %s: %w", file, err)
		}
	}
	return text, nil
}

// applyDirectories sets the flags of cmd that name directories to what the daemon had that has run
// with a file. Its other options do not matter.
func applyDirectories(cmd *cobra.Command, file string) error {
	_, values, err := readConfig(file)
	if err == nil {
		err = setFlag(cmd, "state-dir", values)
	}
	// The file may say something else by now, or be wrong: the daemon ran with the last good one.
	if _, good, refused := readConfig(lastGood(cmd.Flag("state-dir").Value.String())); refused == nil {
		values, err = good, nil
	}
	if err == nil {
		err = setFlag(cmd, "run-dir", values)
	}
	if err != nil {
		return fmt.Errorf("%w; or name the directories with --run-dir and --state-dir", err)
	}
	return nil
}

// readConfig reads a TOML file. text is what it said, also when it is wrong.
func readConfig(file string) (text []byte, values map[string]any, err error) {
	text, err = os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("config %s: no such file: name another with --config", file)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("config: %w", err)
	}
	if err := toml.Unmarshal(text, &values); err != nil {
		return text, nil, fmt.Errorf("config %s: %s", file, firstLine(err))
	}
	return text, values, nil
}

// setFlag sets a flag to what values say, if they do and the command line does not.
func setFlag(cmd *cobra.Command, key string, values map[string]any) error {
	flag := cmd.Flags().Lookup(key)
	value, ok := values[key]
	if !ok || flag.Changed {
		return nil
	}
	parts, err := flagTexts(value)
	if list, ok := flag.Value.(pflag.SliceValue); ok && err == nil {
		err = list.Replace(parts) // Set would add to what a file before has set
	} else if err == nil {
		err = flag.Value.Set(strings.Join(parts, ","))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// flagTexts is a TOML value as one would write it after the flag, in its parts.
func flagTexts(v any) (parts []string, err error) {
	switch v := v.(type) {
	case string:
		if v == "" {
			return nil, nil
		}
		return strings.Split(v, ","), nil
	case int64, bool:
		return []string{fmt.Sprint(v)}, nil
	case []any:
		for _, e := range v {
			more, err := flagTexts(e)
			if err != nil {
				return nil, err
			}
			parts = append(parts, more...)
		}
		return parts, nil
	}
	return nil, fmt.Errorf("%v: must be a text, a number, a truth value or a list of them", v)
}

// firstLine keeps the library's message and leaves its picture of the place out.
func firstLine(err error) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(err.Error(), "toml: "), "\n")
	return first
}
