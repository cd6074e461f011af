package events

import (
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
)

// A container that makes a lot of events leaves others theirs, the switch's own too, and who
// reads late hears how many are missing.
func TestEventsOfOthersStay(t *testing.T) {
	l := New(t.Context(), time.UnixMicro(1), new(directory.Live))
	l.Emit(api.Event{Type: api.EventNetworkCreate, Network: "n"})
	l.Emit(api.Event{Type: api.EventAttach, Container: "vic"})
	for range 10 * kept {
		l.Emit(api.Event{Type: "ip-spoof", Container: "mal"})
	}
	since := uint64(0)
	s, err := l.Events(t.Context(), api.EventQuery{Since: &since, Once: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	found, lost := map[string]bool{}, uint64(0)
	for n := 0; ; {
		list, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(list) == 0 {
			if n != kept {
				t.Errorf("%d events, want %d", n, kept)
			}
			break
		}
		for _, e := range list {
			if e.Type == api.EventLost {
				lost += e.Lost
				continue
			}
			n++
			found[e.Type] = true
		}
	}
	if !found[api.EventNetworkCreate] || !found[api.EventAttach] || lost != 9*kept+2 {
		t.Errorf("found %v, %d lost", found, lost)
	}
}
