package underlay

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestResolvers(t *testing.T) {
	name := filepath.Join(t.TempDir(), "resolv.conf")
	old := resolvConf
	t.Cleanup(func() { resolvConf = old })
	resolvConf = []string{name, name + ".none"}
	if err := os.WriteFile(name, []byte("# nameserver 192.0.2.1\nsearch example\nnameserver 169.254.9.9\n nameserver  fe80::1%eth0 # x\nnameserver\nnameserver nobody\nnameserver ::ffff:192.0.2.2"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(Resolvers()), "[169.254.9.9 fe80::1%eth0 192.0.2.2]"; got != want {
		t.Errorf("resolvers %s, want %s", got, want)
	}
}
