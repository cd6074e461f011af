package web

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

//go:embed assets
var embedded embed.FS

// contentTypes of what is embedded. The types that the system would guess are not
// the same everywhere, and nosniff makes a wrong one an error.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// assets serves the embedded files by their names, and index.html as the root. A
// browser keeps them and asks whether they are still the same.
func assets(mux *http.ServeMux) {
	err := fs.WalkDir(embedded, "assets", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := embedded.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		tag := `"` + hex.EncodeToString(sum[:8]) + `"`
		url := "/" + strings.TrimPrefix(name, "assets/")
		if url == "/index.html" {
			url = "/{$}"
		}
		mux.HandleFunc("GET "+url, func(w http.ResponseWriter, r *http.Request) {
			h := w.Header()
			h.Set("Content-Type", contentTypes[path.Ext(name)])
			h.Set("Cache-Control", "no-cache")
			h.Set("ETag", tag)
			if r.Header.Get("If-None-Match") == tag {
				w.WriteHeader(http.StatusNotModified)
				return
			}
			w.Write(body)
		})
		return nil
	})
	if err != nil {
		panic(err) // never: the files are part of the program
	}
}

// inlineHash is the source expression of the script within index.html (CSP 3, 2.3.1).
func inlineHash() string {
	page, err := embedded.ReadFile("assets/index.html")
	if err != nil {
		panic(err) // never: the files are part of the program
	}
	_, rest, _ := strings.Cut(string(page), "<script>")
	script, _, _ := strings.Cut(rest, "</script>")
	sum := sha256.Sum256([]byte(script))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}
