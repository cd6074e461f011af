// Package readers bounds what those who read the daemon may take of it, by its API or the
// page: connections, answers under way, streams, memory, and filter work for each frame.
//
// A reader is a user of this host or an address of another one. Everybody may have so much,
// readers of the page together no more than a part, and all together what there is. root on the
// API's socket is bound by the last only: the host is his. The last of each is kept for readers
// who have none, so that no two of them cut off the third. A refusal is an error that says
// what to do. Nothing that is under way is taken away, except for connections: the reader who
// has the most gives his idlest.
package readers

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/vswitch/vswitch/control/api"
)

// Reader is who reads. The zero value is somebody of this host who is not known.
type Reader struct {
	// UID is the number of a user of this host, where Known.
	UID   uint32
	Known bool
	// Page says that the reader came by the listener of the page, From from which other host;
	// of IPv6 the network of 64 bits, all of which one host can have.
	Page bool
	From netip.Prefix
}

// Root reports whether the reader is bound by what there is only.
func (r Reader) Root() bool { return r.Known && r.UID == 0 && !r.Page }

// String names the reader in messages.
func (r Reader) String() string {
	switch {
	case r.Known:
		return fmt.Sprintf("user %d", r.UID)
	case r.From.IsValid() && r.From.IsSingleIP():
		return r.From.Addr().String()
	case r.From.IsValid():
		return r.From.String()
	}
	return "an unknown user"
}

type key struct{}

// With is ctx of a connection of a reader, and From the reader of a request.
func With(ctx context.Context, r Reader) context.Context { return context.WithValue(ctx, key{}, r) }

// From returns whose request has the context ctx.
func From(ctx context.Context) Reader {
	r, _ := ctx.Value(key{}).(Reader)
	return r
}

// Kind is what readers take.
type Kind uint8

// What readers take.
const (
	Answers  Kind = iota // requests under way that go through a table
	Streams              // events, flow logs and pages that are kept up to date
	Captures             // bytes: buffers of captures
	Rows                 // bytes: rows that are sorted
	Filter               // instructions of captures' filters that a frame may have to pass
	Heads                // requests under way whose heads are large

	NumKinds
)

var words = [NumKinds]struct{ name, what, out string }{
	Answers:  {"answers", "answers under way", "wait for one to end, or ask for fewer rows with limit"},
	Streams:  {"streams", "streams", "end one of them"},
	Captures: {"capture_bytes", "MiB of memory for captures", "end a capture, or start the daemon with a larger --reader-memory"},
	Rows:     {"row_bytes", "MiB of memory for sorted rows", "ask for fewer rows, or start the daemon with a larger --reader-memory"},
	Filter:   {"filter_instructions", "instructions of filters a frame", "end a capture or shorten its filter"},
	Heads:    {"large_heads", "requests with large heads", "send fewer cookies"},
}

// String is the kind's name in metrics.
func (k Kind) String() string { return words[k].name }

// Bound is how much of a kind there is, how much of it the readers of the page may have
// together, and how much one reader who is not root.
type Bound struct{ All, Page, Each int }

// Of what the page has and of all that there is, one part in so many is for readers who hold
// none of it, at most half of that for one.
const (
	pageReserve = 4
	allReserve  = 8
)

// DefaultMemory is the memory for readers when nothing else is said: two thirds for captures.
const DefaultMemory = 192 << 20

// CaptureBytes is the memory that a capture takes at most for frames that were not read.
const CaptureBytes = 8 << 20

// BoundsFor are the bounds with so much memory in bytes, 0: DefaultMemory.
func BoundsFor(memory int) [NumKinds]Bound {
	if memory == 0 {
		memory = DefaultMemory
	}
	return [NumKinds]Bound{
		Answers:  {64, 24, 6},
		Streams:  {256, 64, 16},
		Captures: {memory / 3 * 2, memory / 3, max(CaptureBytes, memory/6)},
		Rows:     {memory / 3, memory / 4, memory / 8},
		Filter:   {4096, 768, 512},
		Heads:    {16, 12, 6},
	}
}

// Reached says that a bound refused a reader something.
type Reached struct {
	Reader Reader
	Kind   Kind
	Bound  int
}

// reachedPause is how long nothing more is said of a kind.
const reachedPause = time.Minute

// Readers counts what readers hold. Its methods are safe for concurrent use; nil bounds
// nothing.
type Readers struct {
	bounds  [NumKinds]Bound
	reached func(Reached)
	work    Turns

	mu      sync.Mutex // guards what follows
	all     [NumKinds]int
	page    [NumKinds]int
	each    map[Reader]*[NumKinds]int
	refused [NumKinds]uint64
	told    [NumKinds]time.Time
}

// New bounds readers. reached, unless nil, is called at most once a minute for each kind, and
// must not block.
func New(bounds [NumKinds]Bound, reached func(Reached)) *Readers {
	if reached == nil {
		reached = func(Reached) {}
	}
	return &Readers{bounds: bounds, reached: reached, each: make(map[Reader]*[NumKinds]int)}
}

// Take gives a reader n of a kind until the result is called. The error wraps api.ErrBusy,
// or api.ErrInvalid if there will never be so much.
func (r *Readers) Take(who Reader, k Kind, n int) (release func(), err error) {
	if r == nil || n == 0 {
		return func() {}, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	mine := r.each[who]
	if mine == nil {
		mine = new([NumKinds]int)
	}
	b, w := r.bounds[k], words[k]
	refuse := func(whose string, held, bound, reserve int) error {
		r.refused[k]++
		if now := time.Now(); now.Sub(r.told[k]) >= reachedPause {
			r.told[k] = now
			r.reached(Reached{who, k, bound})
		}
		never := n > bound-reserve
		if k == Captures || k == Rows {
			n, held, bound, reserve = n>>20, held>>20, bound>>20, reserve>>20
		}
		kept := ""
		if reserve > 0 {
			kept = fmt.Sprintf(" (%d are kept for readers who have none)", reserve)
		}
		if never {
			return fmt.Errorf("%w: %d %s are asked for, and %s may have %d%s: %s", api.ErrInvalid, n, w.what, whose, bound, kept, w.out)
		}
		return fmt.Errorf("%w: %s has %d of %d %s%s, and %d more are asked for: %s", api.ErrBusy, whose, held, bound, w.what, kept, n, w.out)
	}
	// reserve is what a reader has to leave free of a bound.
	reserve := func(bound, part int) int {
		if kept := bound / part; mine[k] > 0 || n > (kept+1)/2 {
			return kept
		}
		return 0
	}
	page, all := reserve(b.Page, pageReserve), reserve(b.All, allReserve)
	switch {
	case !who.Root() && mine[k]+n > b.Each:
		return nil, refuse(who.String(), mine[k], b.Each, 0)
	case who.Page && r.page[k]+n > b.Page-page:
		return nil, refuse("the page", r.page[k], b.Page, page)
	case r.all[k]+n > b.All-all:
		return nil, refuse("the daemon", r.all[k], b.All, all)
	}
	r.addLocked(who, mine, k, n)
	return sync.OnceFunc(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.addLocked(who, mine, k, -n)
	}), nil
}

func (r *Readers) addLocked(who Reader, mine *[NumKinds]int, k Kind, n int) {
	mine[k] += n
	r.all[k] += n
	if who.Page {
		r.page[k] += n
	}
	if *mine == [NumKinds]int{} {
		delete(r.each, who)
	} else {
		r.each[who] = mine
	}
}

// Use is what all readers hold of a kind, what they may, and how often one was refused.
type Use struct {
	Kind        Kind
	Held, Bound int
	Refused     uint64
}

// Uses tells of every kind.
func (r *Readers) Uses() (list []Use) {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for k := range NumKinds {
		list = append(list, Use{k, r.all[k], r.bounds[k].All, r.refused[k]})
	}
	return list
}

// Work does a piece of the work for readers: some hundred rows of a table, a filter. Pieces
// are done one at a time, the readers' in turn, and between two of them is as long a pause as the first
// one took, so that the threads that forward find a CPU free. It returns ctx's error if that
// ends first.
func (r *Readers) Work(ctx context.Context, fn func()) error {
	if r == nil {
		fn()
		return ctx.Err()
	}
	if err := r.work.Begin(ctx); err != nil {
		return err
	}
	begin := time.Now()
	defer func() {
		time.Sleep(min(time.Since(begin), longestPause))
		r.work.End()
	}()
	fn()
	return ctx.Err()
}

// longestPause bounds the pause after a piece that was slow because the machine is.
const longestPause = 100 * time.Millisecond
