package metrics

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// dashboard is what the test looks at of Grafana's file.
type dashboard struct {
	Panels []struct {
		ID      int
		Type    string
		Title   string
		GridPos struct{ H, W, X, Y int }
		Targets []struct{ Expr string }
	}
	Templating struct {
		List []struct {
			Name  string
			Query json.RawMessage
		}
	}
}

func readDashboard(t *testing.T) (text string, d dashboard) {
	t.Helper()
	b, err := os.ReadFile("../../docs/grafana/vswitch.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	return string(b), d
}

func TestDashboardNamesWhatExists(t *testing.T) {
	text, d := readDashboard(t)
	checkNames(t, "docs/grafana/vswitch.json", text)
	ids, shown := map[int]bool{}, map[string]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %s: its ID is another's, or it hangs over the edge", p.Title)
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %s shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			for _, name := range used.FindAllString(target.Expr, -1) {
				shown[name] = true
			}
		}
	}
	// Whoever adds a metric decides where it is seen.
	for _, f := range families(t) {
		name, _, _ := strings.Cut(f, " ")
		if !shown[name] && !shown[name+"_bucket"] && !notShown[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
}

var notShown = map[string]bool{
	"vswitch_build_info":                    true, // in the variables
	"vswitch_networks":                      true, // rarely changes
	"vswitch_relay_sessions_limit":          true, // far away
	"vswitch_names_questions_total":         true, // the resolver's, apart from traffic
	"vswitch_names_results_total":           true,
	"vswitch_name_server_up":                true, // an event tells
	"vswitch_name_server_questions_total":   true,
	"vswitch_name_server_failures_total":    true,
	"vswitch_readers_held":                  true, // events tell who
	"vswitch_readers_limit":                 true,
	"vswitch_readers_refused_total":         true,
	"vswitch_relay_sessions_evicted_total":  true, // an event tells whose
	"vswitch_relay_dropped_datagrams_total": true, // a user who floods the host itself
}

// The dashboard's expressions and the alerts of docs/metrics.md are read by
// Prometheus' own parser.
func TestPromtoolCheckRules(t *testing.T) {
	labtest.NeedProgram(t, "promtool")
	_, d := readDashboard(t)
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	n := 0
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			n++
			expr := strings.NewReplacer("$__rate_interval", "1m").Replace(target.Expr)
			fmt.Fprintf(&rules, "  - record: panel:%d\n    expr: %q\n", n, expr)
		}
	}
	md, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, alerts, _ := strings.Cut(string(md), "## Alerts\n\n```yaml\n")
	alerts, _, _ = strings.Cut(alerts, "```")
	dir := t.TempDir()
	for name, text := range map[string]string{"dashboard.yml": rules.String(), "alerts.yml": alerts} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("promtool", "check", "rules", file).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "rules found") || strings.Contains(string(out), " 0 rules") {
			t.Errorf("promtool check rules %s: %v\n%s\n%s", name, err, out, text)
		}
	}
}
