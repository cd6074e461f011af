//go:build !amd64 && !arm64

package conntrack

import "sync/atomic"

// Without an instruction for it a load asks, and lets later ones overtake it.

func fetchLine(slot *uint64) {
	if slot != nil {
		atomic.LoadUint64(slot)
	}
}

func fetchConn(c *Conn) {
	c.state.Load()
	c.lastOut.Load()
}

func fetchWindow(c *Conn) { c.rows[0].Load() }
