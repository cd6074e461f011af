package web

import (
	"io/fs"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// notHere are GETs of the API that the page leaves out, with the reason.
var notHere = map[string]string{
	"/v1/containers/{name}/check": "for runtimes: it looks into namespaces",
	"/v1/page":                    "holds the token",
	"/v1/debug/pprof/{profile}":   "costs the daemon, and shows its insides",
}

// The page passes on what docs/openapi.yaml has of reading, and nothing else.
func TestOnlyReadingIsServed(t *testing.T) {
	doc, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	h := handlerOf(newFake(0, 0), "")
	path, method, seen, busy := "", "", []string{}, map[string]bool{}
	for line := range strings.Lines(string(doc)) {
		line = strings.TrimRight(line, "\n")
		if m := regexp.MustCompile(`^  (/v1/.*):$`).FindStringSubmatch(line); m != nil {
			path = m[1]
		}
		m := regexp.MustCompile(`^    (get|post|delete|patch|put):$`).FindStringSubmatch(line)
		if m == nil || path == "" {
			busy[method+" "+path] = busy[method+" "+path] || strings.HasPrefix(line, "        '503':")
			continue
		}
		method = strings.ToUpper(m[1])
		url := strings.NewReplacer("{name}", "web", "{network}", "blue").Replace(path)
		w := ask(h, method, url, loop)
		if method != "GET" {
			if w.Code != http.StatusMethodNotAllowed || strings.Contains(w.Body.String(), "echo") {
				t.Errorf("%s %s: status %d, want 405", method, path, w.Code)
			}
			continue
		}
		seen = append(seen, path)
		if want := slices.Contains(readable, path); want != (w.Code == 200) || want == (notHere[path] != "") {
			t.Errorf("GET %s: status %d: put it into readable, or into notHere with the reason", path, w.Code)
		}
	}
	for _, p := range readable {
		if !slices.Contains(seen, p) || !busy["GET "+p] {
			t.Errorf("%s is readable but not in docs/openapi.yaml, or not with its 503", p)
		}
	}
	for _, p := range []string{"/v1", "/v1/", "/v1/nosuch", "/v1/nat/flush", "/v1/networks/prune", "/../v1/nosuch", "/debug/pprof/"} {
		if w := ask(h, "GET", p, loop); strings.HasPrefix(w.Body.String(), "echo") && p != "/v1/networks/prune" {
			t.Errorf("GET %s reached the API", p)
		}
	}
	for _, m := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "BREW"} {
		if w := ask(h, m, "/v1/info", loop); w.Code != 405 {
			t.Errorf("%s: status %d, want 405", m, w.Code)
		}
	}
}

// The page is whole in itself: every file it names is embedded, and no file names
// another host.
func TestAssetsNameNoOtherHost(t *testing.T) {
	h := handlerOf(newFake(0, 0), "")
	names := []string{}
	err := fs.WalkDir(embedded, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		names = append(names, "/"+strings.TrimPrefix(name, "assets/"))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if name == "/index.html" {
			name = "/"
		}
		w := ask(h, "GET", name, loop)
		body, typ := w.Body.String(), w.Header().Get("Content-Type")
		if w.Code != 200 || typ == "" || w.Header().Get("ETag") == "" {
			t.Errorf("%s: status %d, type %q", name, w.Code, typ)
		}
		if again := ask(h, "GET", name, loop, "If-None-Match", w.Header().Get("ETag")); again.Code != 304 || again.Body.Len() > 0 {
			t.Errorf("%s asked for again: status %d, want 304", name, again.Code)
		}
		for _, u := range regexp.MustCompile(`(?:https?:)?//[\w.-]+\.\w+`).FindAllString(strings.ReplaceAll(body, "http://www.w3.org/2000/svg", ""), -1) {
			if !strings.HasPrefix(u, "// ") {
				t.Errorf("%s names %s", name, u)
			}
		}
		for _, m := range regexp.MustCompile(`(?:src|href)="(/[^"#]+)"|from '\.(/[^']+)'`).FindAllStringSubmatch(body, -1) {
			file := m[1]
			if file == "" {
				file = "/js" + m[2]
			}
			if !slices.Contains(names, file) {
				t.Errorf("%s names %s, which is not there", name, file)
			}
		}
		if name == "/" && (strings.Contains(body, "style=") || regexp.MustCompile(`\son\w+=`).MatchString(body) || strings.Count(body, "<script>") != 1) {
			t.Error("index.html has inline styles, or more scripts than the one that the policy lets run")
		}
	}
	if w := ask(h, "GET", "/index.html", loop); w.Code != 404 {
		t.Errorf("/index.html: status %d", w.Code)
	}
}
