package oci

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/resolvconf"
)

// bundle is what the hook reads of a container's config.json.
type bundle struct {
	Root struct {
		Path string `json:"path"`
	} `json:"root"`
	Mounts []struct {
		Destination string `json:"destination"`
	} `json:"mounts"`
}

// name gives the container a resolv.conf that names the gateway, unless its runtime mounts one: an engine knows what
// its user wants. At createRuntime the container has its mounts, and not yet its root.
func (s *state) name(ct api.Container) error {
	host, _ := os.ReadFile(resolvconf.Path)
	f, ok := resolvconf.Of(ct, resolvconf.Parse(string(host)))
	if !ok || s.Bundle == "" {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(s.Bundle, "config.json"))
	if err != nil {
		return err
	}
	var c bundle
	if err := json.Unmarshal(b, &c); err != nil {
		return fmt.Errorf("config.json: %w", err)
	}
	for _, m := range c.Mounts {
		if d := path.Clean(m.Destination); d == resolvconf.Path || d == path.Dir(resolvconf.Path) {
			return nil
		}
	}
	if !filepath.IsAbs(c.Root.Path) {
		c.Root.Path = filepath.Join(s.Bundle, c.Root.Path)
	}
	t, err := resolvconf.NewText(s.Bundle, f.Text()) // on the disk that the container has anyway
	if err != nil {
		return err
	}
	defer t.Close()
	mounts, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", s.PID))
	if err != nil {
		return err
	}
	defer mounts.Close()
	return resolvconf.Among(mounts, func() error { return t.CoverInside(c.Root.Path) })
}
