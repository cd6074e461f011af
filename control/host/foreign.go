package host

import "fmt"

// ForeignFilters describes the filters at the ingress of an interface that are
// neither seal nor shield.
func (h *Host) ForeignFilters(index int) (list []string, err error) {
	there, err := h.route.filters(index, tcIngress)
	if err != nil {
		return nil, fmt.Errorf("read the filters: %w", err)
	}
	for _, f := range there {
		if f.name == sealName || f.isShield() || f.handle == 0 {
			continue
		}
		s := fmt.Sprintf("%s, priority %d", f.kind, f.info>>16)
		if f.name != "" {
			s = f.name + " (" + s + ")"
		}
		list = append(list, s)
	}
	return list, nil
}
