package keyed

import (
	"sync"
	"testing"
)

func TestMutexExcludesByKey(t *testing.T) {
	var k Mutex
	var wg sync.WaitGroup
	counts := [2]int{}
	for i := range 200 {
		wg.Go(func() {
			defer k.Lock([]string{"a", "b"}[i%2])()
			counts[i%2]++ // the race detector sees who is not kept out
		})
	}
	wg.Wait()
	if counts != [2]int{100, 100} {
		t.Fatalf("counts are %v", counts)
	}
	if len(k.held) != 0 {
		t.Fatalf("%d keys are held by nobody", len(k.held))
	}
}

func TestOtherKeysDoNotWait(t *testing.T) {
	var k Mutex
	defer k.Lock("a")()
	k.Lock("b")()
	k.Lock("")()
	k.Lock("")()
}
