package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/vswitch/vswitch/control/daemon"
)

// daemonFlags is a command with flags of the kinds that the daemon has.
func daemonFlags(args ...string) (cmd *cobra.Command, uplinks *[]string, workers *int, dir *string) {
	cmd = &cobra.Command{Use: "daemon"}
	uplinks = cmd.Flags().StringSlice("uplink", []string{"auto"}, "")
	workers = cmd.Flags().Int("workers", 0, "")
	dir = cmd.Flags().String("state-dir", "/var/lib/none", "")
	cmd.Flags().String("run-dir", "/run/vswitch", "")
	cmd.Flags().String("config", "", "")
	if err := cmd.ParseFlags(args); err != nil {
		panic(err) // the test's own mistake
	}
	return cmd, uplinks, workers, dir
}

func writeConfig(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "vswitch.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestConfigSetsWhatTheCommandLineDoesNot(t *testing.T) {
	cmd, uplinks, workers, dir := daemonFlags("--workers", "3")
	file := writeConfig(t, "uplink = [\"eth0\", \"eth1\"]\nworkers = 2 # the command line wins\nstate-dir = \"/srv/vs\"\n")
	if _, err := applyConfig(cmd, file); err != nil {
		t.Fatal(err)
	}
	if want := []string{"eth0", "eth1"}; !slices.Equal(*uplinks, want) || *workers != 3 || *dir != "/srv/vs" {
		t.Errorf("uplinks %v, workers %d, state-dir %s", *uplinks, *workers, *dir)
	}
}

func TestConfigRefusals(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"uplnk = \"eth0\"", "uplnk is no option of the daemon"},
		{"config = \"other\"", "config is no option of the daemon"},
		{"workers = \"many\"", "workers: strconv.ParseInt: parsing \"many\": invalid syntax"},
		{"workers = { a = 1 }", "workers: map[a:1]: must be a text"},
		{"workers = ", "line 1"},
	} {
		cmd, _, _, _ := daemonFlags()
		file := writeConfig(t, tc.text)
		_, err := applyConfig(cmd, file)
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "config "+file) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line with %q", tc.text, err, tc.want)
		}
	}
	cmd, _, _, _ := daemonFlags()
	if _, err := applyConfig(cmd, "/nosuch.toml"); err == nil || err.Error() != "config /nosuch.toml: no such file: name another with --config" {
		t.Errorf("got %v", err)
	}
}

// An empty list is no value at all.
func TestConfigEmptyLists(t *testing.T) {
	for _, text := range []string{"uplink = []", `uplink = ""`} {
		cmd, uplinks, _, _ := daemonFlags()
		if _, err := applyConfig(cmd, writeConfig(t, text)); err != nil || len(*uplinks) != 0 {
			t.Errorf("%s: uplinks %q, %v", text, *uplinks, err)
		}
	}
}

// daemonRun is a daemon that gets ready unless it has an uplink "missing" or ends with an
// error once it has run with the uplink "late". Configurations with an uplink "bad" cannot be.
type daemonRun struct {
	*options
	state, file string
	tried       [][]string
	log         bytes.Buffer
}

func newDaemonRun(t *testing.T) *daemonRun {
	r := &daemonRun{state: t.TempDir(), file: writeConfig(t, "")}
	cmd, uplinks, workers, dir := daemonFlags("--workers", "3", "--state-dir", r.state)
	cmd.Flags().String("pool", "", "")
	r.options = newOptions(cmd, func() (cfg daemon.Config, err error) {
		cfg.Uplinks, cfg.Workers, cfg.StateDir = slices.Clone(*uplinks), *workers, *dir
		cfg.Log = slog.New(slog.NewTextHandler(&r.log, nil))
		if slices.Contains(*uplinks, "bad") {
			err = errors.New("uplink bad")
		}
		return cfg, err
	})
	return r
}

func (r *daemonRun) write(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// start returns the uplinks that the daemon is ready with, nil: it is not.
func (r *daemonRun) start() (up []string, err error) {
	r.tried = nil
	err = r.run(r.file, func(cfg daemon.Config) error {
		r.tried = append(r.tried, cfg.Uplinks)
		if slices.Contains(cfg.Uplinks, "missing") {
			return errors.New("uplink missing: no such interface")
		}
		up = cfg.Uplinks
		if err := cfg.Accepted(); err != nil {
			return err
		}
		if slices.Contains(cfg.Uplinks, "late") {
			return errors.New("the late end")
		}
		return nil
	})
	return up, err
}

// Start after start with a file that is wrong takes the last good one, whether the file
// cannot be read or the daemon does not get ready with it.
func TestF04LastGoodConfiguration(t *testing.T) {
	r := newDaemonRun(t)
	wrong := []string{`uplnk = 1`, `uplink = ["bad"]`, `uplink = [`, `uplink = ["missing"]`}
	for _, text := range wrong {
		r.write(t, text)
		if up, err := r.start(); up != nil || err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s without a good one: %v, %v", text, up, err)
		}
	}
	good := []string{"eth0", "eth1"}
	r.write(t, `uplink = ["eth0", "eth1"]`)
	if up, err := r.start(); err != nil || !slices.Equal(up, good) {
		t.Fatalf("%v, %v", up, err)
	}
	for _, text := range wrong {
		r.write(t, text)
		for range 3 {
			r.log.Reset()
			if up, err := r.start(); err != nil || !slices.Equal(up, good) || !strings.Contains(r.log.String(), "not taken") {
				t.Errorf("%s: %v, %v, want the last good one, log %s", text, up, err, r.log.String())
			}
		}
	}
	// A daemon that was ready ends with its own error, and is not started again.
	r.write(t, `uplink = ["late"]`)
	if _, err := r.start(); err == nil || err.Error() != "the late end" || len(r.tried) != 1 {
		t.Errorf("tried %v, %v", r.tried, err)
	}
	// When the last good one does not work either the file's own error is told.
	r.write(t, `uplink = ["missing", "now"]`)
	if err := os.WriteFile(lastGood(r.state), []byte(`uplink = ["missing"]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.start(); err == nil || len(r.tried) != 2 {
		t.Errorf("tried %v, %v", r.tried, err)
	}
	// An option that the file does not name any more has its default again.
	r.write(t, "")
	if up, err := r.start(); err != nil || !slices.Equal(up, []string{"auto"}) {
		t.Errorf("an empty file: %v, %v", up, err)
	}
}

// What waits for the next start is named, and is no good configuration before one has started.
func TestF38RereadNamesWhatWaits(t *testing.T) {
	r := newDaemonRun(t)
	first := `uplink = ["eth0"]`
	r.write(t, first)
	if _, err := r.start(); err != nil {
		t.Fatal(err)
	}
	reread := func(text string, later ...string) {
		t.Helper()
		r.write(t, text)
		next, got, err := r.reread(r.file)
		if err != nil || !slices.Equal(got, later) {
			t.Fatalf("%s: later %v, %v, want %v", text, got, err, later)
		}
		if next.Accepted != nil {
			if err := next.Accepted(); err != nil {
				t.Fatal(err)
			}
		}
	}
	kept := func(want string) {
		t.Helper()
		if b, err := os.ReadFile(lastGood(r.state)); err != nil || string(b) != want {
			t.Errorf("kept is %q, %v, want %q", b, err, want)
		}
	}
	reread(`uplink = ["missing"]`, "uplink")
	kept(first)
	pool := first + "\npool = \"10.9.0.0/16\""
	reread(pool)
	kept(pool)
	reread(first + "\nworkers = 9") // the command line wins
	r.write(t, `uplink = ["bad"]`)
	if next, _, err := r.reread(r.file); err == nil || next.Accepted != nil {
		t.Errorf("a wrong file: %v", err)
	}
}

// vswitch down finds the directories of the daemon that has run with a file, whatever the file
// says by now.
func TestDirectoriesOfAConfiguration(t *testing.T) {
	state := t.TempDir()
	names := fmt.Sprintf("state-dir = %q\n", state)
	for what, tc := range map[string]struct {
		file, good string // good: the last good one in the state directory, "": none
		args       []string
		run, state string
	}{
		"nothing":                 {"", "", nil, "/run/vswitch", "/var/lib/none"},
		"both":                    {names + `run-dir = "/run/own"`, "", nil, "/run/own", state},
		"other options are wrong": {names + "run-dir = \"/run/own\"\nworkers = \"many\"\nnosuch = 1", "", nil, "/run/own", state},
		"changed since":           {names + `run-dir = "/run/new"`, names + `run-dir = "/run/old"`, nil, "/run/old", state},
		"named since":             {names + `run-dir = "/run/new"`, names, nil, "/run/vswitch", state},
		"the command line wins":   {names + `run-dir = "/run/own"`, "", []string{"--run-dir", "/run/mine", "--state-dir", "/var/lib/mine"}, "/run/mine", "/var/lib/mine"},
		"damaged":                 {`run-dir = `, `run-dir = "/run/old"`, []string{"--state-dir", state}, "/run/old", state},
		"damaged, never good":     {`run-dir = `, "", []string{"--state-dir", state}, "", ""},
		"no text":                 {"state-dir = 7\nrun-dir = { a = 1 }", "", nil, "", ""},
	} {
		cmd, _, _, dir := daemonFlags(tc.args...)
		good := lastGood(state)
		if err := os.RemoveAll(good); err != nil {
			t.Fatal(err)
		}
		if tc.good != "" {
			if err := os.WriteFile(good, []byte(tc.good), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err := applyDirectories(cmd, writeConfig(t, tc.file))
		if tc.run == "" {
			if err == nil || !strings.HasSuffix(err.Error(), "name the directories with --run-dir and --state-dir") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v", what, err)
			}
			continue
		}
		if run := cmd.Flag("run-dir").Value.String(); err != nil || run != tc.run || *dir != tc.state {
			t.Errorf("%s: %s and %s, %v, want %s and %s", what, run, *dir, err, tc.run, tc.state)
		}
	}
}
