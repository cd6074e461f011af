package plan

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// SideBySide calls fn for each of n changes that do not touch each other, of as many at once as
// there are processors.
func SideBySide(n int, fn func(i int)) {
	var next atomic.Int64
	var done sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		done.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				fn(i)
			}
		})
	}
	done.Wait()
}
