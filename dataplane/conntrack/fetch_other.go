//go:build !amd64 && !arm64

package conntrack

import "sync/atomic"

// Without an instruction for it a load asks, and lets later ones overtake it.

func fetchLine(cell *uint64) {
	if cell != nil {
		atomic.LoadUint64(cell)
	}
}

func fetchConn(c *Conn) {
	c.state.Load()
	c.lastOut.Load()
}

func fetchWindow(c *Conn) { c.rows[0].Load() }
