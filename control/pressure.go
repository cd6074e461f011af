package control

import (
	"crypto/sha256"
	"time"

	"github.com/vswitch/vswitch/dataplane"
)

// pressureEvery is how often a limit that goes on being hit is told.
const pressureEvery = 10 * time.Second

// pressureLog returns dataplane.Config.Pressure: who runs the switch hears that
// flows were refused or gave way (RFC 6888 REQ-11 c). It is called from one
// goroutine.
func (c *Controller) pressureLog() func(dataplane.Pressure) {
	var sum dataplane.Pressure
	var told time.Time
	return func(p dataplane.Pressure) {
		sum.TableFull += p.TableFull
		sum.Evicted += p.Evicted
		sum.PortsExhausted += p.PortsExhausted
		if time.Since(told) < pressureEvery {
			return
		}
		c.log.Warn("flows refused or evicted", "table_full", sum.TableFull, "half_open_evicted", sum.Evicted,
			"ports_exhausted", sum.PortsExhausted)
		c.emitPressure(sum)
		sum, told = dataplane.Pressure{}, time.Now()
	}
}

// portKey makes masquerade choose the same ports after a restart as before. It
// comes from the identity of the state directory, which no container sees.
func portKey(identity string) (key [16]byte) {
	sum := sha256.Sum256([]byte("masquerade ports " + identity))
	copy(key[:], sum[:])
	return key
}
