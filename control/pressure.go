package control

import (
	"crypto/sha256"
	"log/slog"
	"time"

	"github.com/vswitch/vswitch/control/events"
	"github.com/vswitch/vswitch/dataplane/conntrack"
)

// pressureEvery is how often a limit that goes on being hit is told.
const pressureEvery = 10 * time.Second

// pressureLog returns what tells that flows were refused or gave way (RFC 6888 REQ-11 c).
// It is called from one goroutine.
func pressureLog(log *slog.Logger, told *events.Log) func(conntrack.Pressure) {
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

// portKey makes masquerade choose the same ports after a restart as before. It
// comes from the identity of the state directory, which no container sees.
func portKey(identity string) (key [16]byte) {
	sum := sha256.Sum256([]byte("masquerade ports " + identity))
	copy(key[:], sum[:])
	return key
}
