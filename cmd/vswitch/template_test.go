package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
)

// A template has the fields by the names of JSON and of Go, and what strangers have written
// into them stays text.
func TestTemplate(t *testing.T) {
	cs := []api.Container{
		{Name: "web", ID: "3f9a", Labels: map[string]string{"tier": "fr\x1b[31mont", "a.b": "c"}, Created: time.Unix(0, 0).UTC(),
			Endpoints: []api.Endpoint{{Network: "bridge", Addresses: []string{"10.88.0.2/24", "fd00::2/64"}}}},
		{Name: "db"},
	}
	for _, tc := range []struct{ format, want string }{
		{"{{.name}} {{.Name}}", "web web\ndb db\n"},
		{`{{.Name}}\t{{upper .ID}}`, "web\t3F9A\ndb\t\n"},
		{`{{range .endpoints}}{{join .addresses ","}}{{end}}`, "10.88.0.2/24,fd00::2/64\n\n"},
		{`{{index .labels "a.b"}}`, "c\n\n"},
		{"{{json .labels}}", `{"a.b":"c","tier":"fr\u001b[31mont"}` + "\nnull\n"},
		{"{{with .labels}}{{.tier}}{{end}}", `fr\x1b[31mont` + "\n\n"},
		{`{{index .labels "none"}}`, "\n\n"},
		{"{{.created.Year}}", "1970\n1\n"},
		{"{{len .Endpoints}}", "1\n0\n"},
		{"{{json (index .endpoints 0).network}}", `"bridge"` + "\n"},
	} {
		layout, err := parseFormat(tc.format)
		if err != nil {
			t.Errorf("%s: %v", tc.format, err)
			continue
		}
		list := cs
		if strings.Contains(tc.format, "index .endpoints") {
			list = cs[:1]
		}
		var out bytes.Buffer
		if err := printTemplate(&out, layout, list); err != nil || out.String() != tc.want {
			t.Errorf("%s: %v\n%q\nwant\n%q", tc.format, err, out.String(), tc.want)
		}
	}
	var out bytes.Buffer
	layout, _ := parseFormat("{{json .}}")
	if err := printTemplate(&out, layout, cs[1]); err != nil || !strings.HasPrefix(out.String(), `{"id":"","name":"db"`) {
		t.Errorf("%v: %s", err, out.String())
	}
	if _, err := parseFormat("table {{.name}}"); err == nil {
		t.Error("docker's word table is taken")
	}
	layout, _ = parseFormat("{{range .endpoints}}{{.mtu}}{{.foo}}{{end}}")
	if err := printTemplate(&out, layout, cs); err == nil || strings.Contains(err.Error(), "template") || !strings.Contains(err.Error(), `no field "foo"`) {
		t.Errorf("an unknown field inside: %v", err)
	}
}

// Columns stay where they are when the head of a table and the words for a state are painted.
func TestPaint(t *testing.T) {
	const table = "CHECK  STATUS  FOUND\none    FAIL    it FAILs\ntwo    OK      -\n"
	got := string(paint([]byte(table), map[string]string{"FAIL": red, "OK": green}))
	want := bold + "CHECK  STATUS  FOUND" + plain + "\none    " + red + "FAIL" + plain + "    it FAILs\ntwo    " + green + "OK" + plain + "      -\n"
	if got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
	var out bytes.Buffer
	if coloured(&out) {
		t.Error("a buffer is no terminal")
	}
}

// Names are offered wherever one goes: containers, networks, and what is made of them.
func TestCompletion(t *testing.T) {
	newFakeDaemon(t, map[string]string{
		"GET /v1/containers": "200\n" + `[{"name":"web"},{"name":"db"}]`,
		"GET /v1/networks":   "200\n" + `[{"name":"bridge"},{"name":"blue"}]`,
	})
	for line, want := range map[string]string{
		"inspect ":                 "web db",
		"inspect web ":             "",
		"exec ":                    "web db",
		"detach web ":              "db",
		"stats ":                   "web db",
		"flows ":                   "web db",
		"top ":                     "web db",
		"port add ":                "web db",
		"port ls ":                 "web db",
		"capture ":                 "web db network:bridge network:blue uplink all",
		"why ":                     "web db outside host",
		"why web ":                 "db host",
		"network rm blue ":         "bridge",
		"network inspect ":         "bridge blue",
		"network update ":          "bridge blue",
		"network connect ":         "bridge blue",
		"network connect blue ":    "web db",
		"network disconnect blue ": "web db",
		"attach x --network ":      "bridge blue",
		"run --network ":           "bridge blue host none container:web container:db",
		"ps --network ":            "bridge blue",
		"fdb --network ":           "bridge blue",
		"nat ls --container ":      "web db",
		"nat flush --container ":   "web db",
		"ps --filter ":             "name= id= label= network= runtime=",
	} {
		var out, errOut bytes.Buffer
		words := strings.Split(line, " ")
		code := run(t.Context(), append([]string{"__completeNoDesc"}, words...), strings.NewReader(""), &out, &errOut)
		list := strings.Fields(out.String())
		if code != 0 || len(list) == 0 || !strings.HasPrefix(list[len(list)-1], ":") {
			t.Errorf("%s: code %d, %s%s", line, code, out.String(), errOut.String())
			continue
		}
		if got := strings.Join(list[:len(list)-1], " "); got != want {
			t.Errorf("%s: offers %q, want %q", line, got, want)
		}
	}
}

// --version says what version does.
func TestVersionFlag(t *testing.T) {
	var flag, command bytes.Buffer
	if code := run(t.Context(), []string{"--version"}, strings.NewReader(""), &flag, &flag); code != 0 {
		t.Errorf("exit code %d", code)
	}
	run(t.Context(), []string{"version"}, strings.NewReader(""), &command, &command)
	var layout bytes.Buffer
	run(t.Context(), []string{"version", "--format", "vswitch {{.version}}"}, strings.NewReader(""), &layout, &layout)
	if layout.String() != command.String() {
		t.Errorf("a template prints %q, want %q", layout.String(), command.String())
	}
	if flag.String() != command.String() || flag.Len() == 0 {
		t.Errorf("got %q, want %q", flag.String(), command.String())
	}
}
