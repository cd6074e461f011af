package labtest

import (
	"net"
	"sync"
	"testing"
)

// Serve gives each connection that l accepts to answer, in a goroutine of its own, and closes
// it after that. When the test ends the listener and all connections are closed, and every
// answer has returned: none is left for the leak check of a later test.
func Serve(t testing.TB, l net.Listener, answer func(net.Conn)) {
	t.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex
	open := make(map[net.Conn]bool)
	ended := false
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			if ended {
				c.Close()
			}
			open[c] = true
			mu.Unlock()
			all.Go(func() {
				answer(c)
				c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		ended = true
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
}
