package web

import (
	"io/fs"
	"regexp"
	"strings"
	"testing"
)

// Every icon that a script draws is in the sprite.
func TestIconsHaveSymbols(t *testing.T) {
	page, err := embedded.ReadFile("assets/index.html")
	if err != nil {
		t.Fatal(err)
	}
	icon, found := regexp.MustCompile(`icon\('([^']+)'\)`), 0
	err = fs.WalkDir(embedded, "assets/js", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := embedded.ReadFile(name)
		for _, m := range icon.FindAllStringSubmatch(string(b), -1) {
			if found++; !strings.Contains(string(page), `<symbol id="i-`+m[1]+`"`) {
				t.Errorf("%s: icon %s has no symbol", name, m[1])
			}
		}
		return err
	})
	if err != nil || found < 5 {
		t.Errorf("%d icons, %v", found, err)
	}
}
