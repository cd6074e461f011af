//go:build amd64 || arm64

package conntrack

// fetchLine asks for the cache line of a cell, which may be nil, and does not wait.
//
//go:noescape
func fetchLine(cell *uint64)

// fetchConn asks for what each frame of a flow reads and writes.
//
//go:noescape
func fetchConn(c *Conn)

// fetchWindow asks for what the segments of a TCP flow need beside.
//
//go:noescape
func fetchWindow(c *Conn)
