package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// daemonFlags is a command with flags of the kinds that the daemon has.
func daemonFlags(args ...string) (cmd *cobra.Command, uplinks *[]string, workers *int, dir *string) {
	cmd = &cobra.Command{Use: "daemon"}
	uplinks = cmd.Flags().StringSlice("uplink", []string{"auto"}, "")
	workers = cmd.Flags().Int("workers", 0, "")
	dir = cmd.Flags().String("state-dir", "/var/lib/vswitch", "")
	cmd.Flags().String("config", "", "")
	if err := cmd.ParseFlags(args); err != nil {
		panic(err) // the test's own mistake
	}
	return cmd, uplinks, workers, dir
}

func writeConfig(t *testing.T, text string) string {
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
	if err := applyConfig(cmd, file); err != nil {
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
		err := applyConfig(cmd, file)
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "config "+file) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line with %q", tc.text, err, tc.want)
		}
	}
	cmd, _, _, _ := daemonFlags()
	if err := applyConfig(cmd, "/nosuch.toml"); err == nil || err.Error() != "config /nosuch.toml: no such file: name another with --config" {
		t.Errorf("got %v", err)
	}
}
