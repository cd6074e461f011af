package journal

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

func TestJournalIsReadInOrder(t *testing.T) {
	j := New(8, 100, anybody)
	put := func(n int) {
		for range n {
			j.Add(func(n uint64) uint64 { return n })
		}
	}
	read := func(c *Cursor[uint64]) ([]uint64, uint64) {
		t.Helper()
		list, lost, err := c.Read(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		return list, lost
	}
	early := j.Tail()
	if list, lost := read(early); len(list) != 0 || lost != 0 {
		t.Errorf("an empty journal: %v, %d lost", list, lost)
	}
	put(3)
	late := j.Tail()
	if list, lost := read(early); len(list) != 3 || list[0] != 100 || lost != 0 {
		t.Errorf("three entries: %v, %d lost", list, lost)
	}
	put(10)
	if list, lost := read(early); len(list) != 8 || list[0] != 105 || lost != 2 {
		t.Errorf("behind a slow reader: %v, %d lost, want 8 from 105 on and 2 lost", list, lost)
	}
	if list, lost := read(late); len(list) != 8 || lost != 2 {
		t.Errorf("the other reader: %v, %d lost", list, lost)
	}
	if list, lost := read(j.From(110)); len(list) != 3 || list[0] != 110 || lost != 0 {
		t.Errorf("from 110: %v, %d lost", list, lost)
	}
	if list, lost := read(j.From(0)); len(list) != 8 || lost != 5 {
		t.Errorf("from before the first: %v, %d lost, want 5 of 13", list, lost)
	}
	if list, lost := read(j.From(113)); len(list) != 0 || lost != 0 {
		t.Errorf("from the next: %v, %d lost", list, lost)
	}
	if list, _ := read(j.From(999)); len(list) != 8 {
		t.Errorf("from a number that another daemon gave: %v, want all", list)
	}
	if list, lost := read(j.After(func(n uint64) bool { return n <= 111 })); len(list) != 1 || list[0] != 112 || lost != 0 {
		t.Errorf("after 111: %v, %d lost", list, lost)
	}
}

// Writers never wait, and each reader sees every entry once or counts it.
func TestJournalOfSlowReaders(t *testing.T) {
	const total = 20_000
	j := New(64, 1, anybody)
	var readers sync.WaitGroup
	for i := range 4 {
		c := j.Tail()
		readers.Add(1)
		go func() {
			defer readers.Done()
			next := uint64(1)
			for next <= total {
				list, lost, err := c.Read(t.Context(), true)
				if err != nil {
					t.Error(err)
					return
				}
				next += lost
				for _, n := range list {
					if n != next {
						t.Errorf("got %d, want %d", n, next)
						return
					}
					next++
				}
				if i > 1 {
					time.Sleep(time.Millisecond)
				}
			}
		}()
	}
	for range total {
		j.Add(func(n uint64) uint64 { return n })
	}
	readers.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := j.Tail().Read(ctx, true); !errors.Is(err, context.Canceled) {
		t.Errorf("an end while waiting: %v", err)
	}
}

func anybody(uint64) string { return "" }
