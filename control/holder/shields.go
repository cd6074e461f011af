package holder

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/kernel"
)

// RemoveShields removes the shields of an owner from all interfaces but some, and returns the
// names of those that had one.
func RemoveShields(h *host.Host, owner string, but ...int) (from []string, err error) {
	links, err := h.Links()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		if strings.HasPrefix(l.Alias, "vswitch:") || slices.Contains(but, l.Index) {
			continue // of those there may be thousands, and none has a shield
		}
		had, err1 := kernel.RemoveShield(owner, l.Index)
		if errors.Is(err1, kernel.ErrNoTCX) {
			break
		}
		if err1 != nil {
			err = errors.Join(err, fmt.Errorf("interface %s: %w", l.Name, err1))
		}
		if had {
			from = append(from, l.Name)
		}
	}
	more, err1 := h.RemoveShields(owner, but...)
	return append(from, more...), errors.Join(err, err1)
}
