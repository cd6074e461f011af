package dataplane

import (
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/conntrack"
)

// What is refused is told once, whoever ticks beside whom. The counters were read before
// the lock: the later of two ticks told the numbers of the earlier minus more.
func TestRefusedIsToldOnce(t *testing.T) {
	var n notices
	n.init()
	var told uint64
	take := func() {
		select {
		case p := <-n.refused:
			if told += p.TableFull; p.TableFull > 2 {
				t.Errorf("%d were told at a time, of 2", p.TableFull)
			}
		default:
		}
	}
	two := func() conntrack.Pressure { return conntrack.Pressure{TableFull: 2} }
	reading, other := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(other)
		<-reading
		n.refuse(two)
	}()
	n.refuse(func() conntrack.Pressure {
		close(reading)
		select {
		case <-other: // it was not kept from telling before
			take()
		case <-time.After(50 * time.Millisecond):
		}
		return conntrack.Pressure{TableFull: 1}
	})
	<-other
	take()
	n.refuse(two)
	take()
	if told != 2 {
		t.Errorf("%d were told, of 2", told)
	}
}
