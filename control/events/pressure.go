package events

import (
	"log/slog"
	"time"

	"github.com/vswitch/vswitch/dataplane/conntrack"
)

// pressureEvery is how often a limit that goes on being hit is told.
const pressureEvery = 10 * time.Second

// PressureLog returns what tells that flows were refused or gave way (RFC 6888 REQ-11 c).
// It is called from one goroutine.
func PressureLog(log *slog.Logger, told *Log) func(conntrack.Pressure) {
	var sum conntrack.Pressure
	var last time.Time
	return func(p conntrack.Pressure) {
		sum.TableFull += p.TableFull
		sum.Evicted += p.Evicted
		sum.PortsExhausted += p.PortsExhausted
		if time.Since(last) < pressureEvery {
			return
		}
		log.Warn("flows refused or evicted", "table_full", sum.TableFull, "evicted", sum.Evicted,
			"ports_exhausted", sum.PortsExhausted)
		told.Pressure(sum)
		sum, last = conntrack.Pressure{}, time.Now()
	}
}
