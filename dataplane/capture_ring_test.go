package dataplane

import (
	"bytes"
	"testing"

	"github.com/vswitch/vswitch/dataplane/frame"
)

// put writes a record of n bytes that all have one value, as a worker does.
func put(r *ring, n int, value byte) bool {
	at := r.reserve(n)
	if at < 0 {
		return false
	}
	f := frame.Frame{Buf: append(make([]byte, frame.Headroom), bytes.Repeat([]byte{value}, n)...)}
	r.write(at, &f, 1, PointTx, 0)
	r.settle(at, &Verdict{})
	return true
}

// whole reports whether all of a record is of one value.
func whole(b []byte) bool {
	data := b[recordHeader : recordHeader+int(le.Uint32(b[atCapLen:]))]
	return len(data) > 0 && bytes.Count(data, data[:1]) == len(data)
}

// A reader that was stopped while it copies keeps no writer waiting: what has no room is
// lost to the recorder, what it copies stays as it was, and all goes on when it goes on.
func TestCaptureReaderStopsWhileItCopies(t *testing.T) {
	memory := newRing(8 << 10)
	w, reader := mapRing(memory, true), mapRing(memory, true)
	for i := range 100 {
		if !put(&w, 100, byte(i)) {
			t.Fatalf("record %d: no room in a recorder", i)
		}
	}
	at := reader.ctl.head.Load()
	reader.ctl.pin.Store(at) // and nothing more, for long
	want := bytes.Clone(reader.mem)
	lost := 0
	for i := range 100 {
		if !put(&w, 100, byte(100+i)) {
			lost++
		}
	}
	if lost == 0 || !bytes.Equal(reader.mem, want) {
		t.Errorf("%d records lost, memory changed %v: want the pinned records kept", lost, !bytes.Equal(reader.mem, want))
	}
	reader.ctl.pin.Store(noPin)
	if !put(&w, 100, 1) {
		t.Error("no room after the reader went on")
	}
}

// A writer and a reader that share nothing but memory: each record is read whole, and of a
// queue none twice. The race detector looks on.
func TestCaptureRingBesideAReader(t *testing.T) {
	const records = 20_000
	for name, recorder := range map[string]bool{"queue": false, "recorder": true} {
		t.Run(name, func(t *testing.T) {
			memory := newRing(16 << 10)
			done := make(chan int)
			go func() {
				w, kept := mapRing(memory, recorder), 0
				for i := range records {
					if put(&w, 1+i%700, byte(i)) {
						kept++
					}
				}
				done <- kept
			}()
			r, read := mapRing(memory, recorder), 0
			look := func() {
				if recorder {
					chunk, _ := r.copyFrom(nil, 0, r.ctl.tail.Load(), 4096)
					for ; len(chunk) > 0; chunk = chunk[recordSize(chunk):] {
						read++
						if !whole(chunk) {
							t.Fatal("a record that was overwritten")
						}
					}
					return
				}
				for b := r.first(); b != nil; b = r.first() {
					read++
					if !whole(b) {
						t.Fatal("a record that was overwritten")
					}
					r.drop()
				}
			}
			for {
				select {
				case kept := <-done:
					look()
					if !recorder && read != kept || read == 0 {
						t.Errorf("%d records written, %d read", kept, read)
					}
					return
				default:
					look()
				}
			}
		})
	}
}
