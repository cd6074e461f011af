package gen

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// writeSize is what one write of a bulk transfer holds.
const writeSize = 128 << 10

// Transfer is the result of a bulk transfer.
type Transfer struct {
	Bytes   uint64        `json:"bytes"`   // as the receiver counted them
	Elapsed time.Duration `json:"elapsed"` // first byte to last, at the receiver
	// CPU is what the whole machine spent meanwhile: forwarding happens in
	// interrupts and kernel threads that belong to no process.
	CPU time.Duration `json:"cpu"`
}

// BitsPerSecond is the goodput.
func (t Transfer) BitsPerSecond() float64 { return float64(t.Bytes) * 8 / t.Elapsed.Seconds() }

// CPUPerGB is CPU seconds for 1e9 bytes.
func (t Transfer) CPUPerGB() float64 { return t.CPU.Seconds() / (float64(t.Bytes) / 1e9) }

// Bulk sends as fast as it goes from ns to the server behind target for window.
func Bulk(ctx context.Context, ns Namespace, target netip.AddrPort, window time.Duration, streams int) (t Transfer, err error) {
	return t, call(ctx, ns, Spec{Role: roleBulk, Target: target, Window: window, Streams: streams}, &t)
}

// Fetch is Bulk in the other direction: the server sends, ns receives.
func Fetch(ctx context.Context, ns Namespace, target netip.AddrPort, window time.Duration, streams int) (t Transfer, err error) {
	return t, call(ctx, ns, Spec{Role: roleBulk, Target: target, Window: window, Streams: streams, Reverse: true}, &t)
}

// Paced is Bulk of one stream that sends rate bits per second.
func Paced(ctx context.Context, ns Namespace, target netip.AddrPort, rate float64, window time.Duration) (t Transfer, err error) {
	return t, call(ctx, ns, Spec{Role: roleBulk, Target: target, Window: window, Rate: rate}, &t)
}

func bulk(s Spec) (Transfer, error) {
	return transfer(s, func(fd int, deadline time.Time) (Transfer, error) { return pour(fd, payload, deadline) })
}

func fetch(s Spec) (Transfer, error) { return transfer(s, gather) }

// payload is what bulk sends, read by all streams.
var payload = make([]byte, writeSize)

// transfer runs one on every stream and adds up.
func transfer(s Spec, one func(fd int, deadline time.Time) (Transfer, error)) (Transfer, error) {
	sa := sockaddr(s.Target)
	fds := make([]int, max(1, s.Streams))
	for i := range fds {
		fd, err := dial(s.Target, sa)
		if err != nil {
			return Transfer{}, err
		}
		defer unix.Close(fd)
		if s.Rate > 0 {
			// socket(7): TCP paces itself, in bytes per second.
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, int(s.Rate/8)); err != nil {
				return Transfer{}, fmt.Errorf("bulk to %s: pace: %w", s.Target, err)
			}
		}
		fds[i] = fd
	}
	receipts := make([]Transfer, len(fds))
	before, err := machineCPU()
	if err != nil {
		return Transfer{}, err
	}
	deadline := time.Now().Add(s.Window)
	var g errgroup.Group
	for i, fd := range fds {
		g.Go(func() (err error) {
			lockThread()
			receipts[i], err = one(fd, deadline)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return Transfer{}, fmt.Errorf("bulk to %s: %w", s.Target, err)
	}
	after, err := machineCPU()
	if err != nil {
		return Transfer{}, err
	}
	sum := Transfer{CPU: after - before}
	for _, r := range receipts {
		sum.Bytes += r.Bytes
		sum.Elapsed = max(sum.Elapsed, r.Elapsed)
	}
	if sum.Bytes == 0 || sum.Elapsed <= 0 {
		return Transfer{}, fmt.Errorf("bulk to %s: nothing arrived", s.Target)
	}
	return sum, nil
}

// pour writes until deadline and returns the receiver's receipt.
func pour(fd int, buf []byte, deadline time.Time) (Transfer, error) {
	for time.Now().Before(deadline) {
		if _, err := write(fd, buf); err != nil {
			return Transfer{}, err
		}
	}
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		return Transfer{}, err
	}
	var receipt [receiptSize]byte
	for have := 0; have < receiptSize; {
		n, err := read(fd, receipt[have:])
		if err != nil {
			return Transfer{}, err
		}
		if n == 0 {
			return Transfer{}, errors.New("receiver gave up")
		}
		have += n
	}
	return Transfer{
		Bytes:   binary.BigEndian.Uint64(receipt[:]),
		Elapsed: time.Duration(binary.BigEndian.Uint64(receipt[8:])),
	}, nil
}

// gather reads until deadline. Its clock starts with the first byte, as the
// receiver's does in the other direction.
func gather(fd int, deadline time.Time) (t Transfer, err error) {
	buf := make([]byte, 256<<10)
	var first time.Time
	for {
		n, err := read(fd, buf)
		if err != nil {
			return t, err
		}
		if n == 0 {
			return t, errors.New("sender gave up")
		}
		now := time.Now()
		if t.Bytes == 0 {
			first = now
		}
		t.Bytes += uint64(n)
		if now.After(deadline) {
			t.Elapsed = now.Sub(first)
			return t, nil
		}
	}
}

// Exchanges is the result of a load of many small exchanges, one at a time.
type Exchanges struct {
	Count   int           `json:"count"`
	Elapsed time.Duration `json:"elapsed"`
	P50     time.Duration `json:"p50"`
	P99     time.Duration `json:"p99"`
	P999    time.Duration `json:"p999"`
	// Failed are those that came to nothing, of Endure only.
	Failed int `json:"failed,omitempty"`
}

// PerSecond is the rate.
func (e Exchanges) PerSecond() float64 { return float64(e.Count) / e.Elapsed.Seconds() }

// Ping sends one byte back and forth on one connection for window.
func Ping(ctx context.Context, ns Namespace, target netip.AddrPort, window time.Duration) (e Exchanges, err error) {
	return e, call(ctx, ns, Spec{Role: rolePing, Target: target, Window: window}, &e)
}

func ping(s Spec) (Exchanges, error) {
	fd, err := dial(s.Target, sockaddr(s.Target))
	if err != nil {
		return Exchanges{}, err
	}
	defer unix.Close(fd)
	var b [1]byte
	e, err := exchange(s.Window, func() error { return roundTrip(fd, b[:]) })
	if err != nil {
		return Exchanges{}, fmt.Errorf("request and response with %s: %w", s.Target, err)
	}
	return e, nil
}

// Connect opens a connection, exchanges one byte and closes, over and over for
// window.
func Connect(ctx context.Context, ns Namespace, target netip.AddrPort, window time.Duration) (e Exchanges, err error) {
	return e, call(ctx, ns, Spec{Role: roleConnect, Target: target, Window: window}, &e)
}

// Endure is Connect that goes on after one that fails, and counts it.
func Endure(ctx context.Context, ns Namespace, target netip.AddrPort, window time.Duration) (e Exchanges, err error) {
	return e, call(ctx, ns, Spec{Role: roleConnect, Target: target, Window: window, Endure: true}, &e)
}

// Visits is Endure at so many connections a second.
func Visits(ctx context.Context, ns Namespace, target netip.AddrPort, perSecond float64, window time.Duration) (e Exchanges, err error) {
	return e, call(ctx, ns, Spec{Role: roleConnect, Target: target, Window: window, Rate: perSecond, Endure: true}, &e)
}

func connects(s Spec) (Exchanges, error) {
	sa := sockaddr(s.Target)
	var b [1]byte
	one := func() error {
		fd, err := dial(s.Target, sa)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return roundTrip(fd, b[:])
	}
	if s.Endure {
		return endure(s.Window, s.Rate, one), nil
	}
	e, err := exchange(s.Window, one)
	if err != nil {
		return Exchanges{}, fmt.Errorf("connections to %s: %w", s.Target, err)
	}
	return e, nil
}

// endure is exchange that goes on after one that fails, at most so many a second unless that is 0.
func endure(window time.Duration, perSecond float64, one func() error) Exchanges {
	lockThread()
	var times []time.Duration
	failed, start := 0, time.Now()
	for now := start; now.Sub(start) < window; {
		if perSecond > 0 {
			time.Sleep(time.Until(start.Add(time.Duration(float64(failed+len(times)) / perSecond * float64(time.Second)))))
			if now = time.Now(); now.Sub(start) >= window {
				break
			}
		}
		err := one()
		end := time.Now()
		if err != nil {
			failed++
		} else {
			times = append(times, end.Sub(now))
		}
		now = end
	}
	e := sorted(times, time.Since(start))
	e.Failed = failed
	return e
}

func roundTrip(fd int, b []byte) error {
	if _, err := write(fd, b); err != nil {
		return err
	}
	n, err := read(fd, b)
	if err == nil && n == 0 {
		return fmt.Errorf("connection closed by the server")
	}
	return err
}

// maxExchanges bounds the record of one load: 1M/s over a 4 s window is twice
// what any path here has reached.
const maxExchanges = 4 << 20

// exchange repeats one for window and keeps the time of each. The first, which
// finds cold caches and unresolved neighbours, is not counted.
func exchange(window time.Duration, one func() error) (Exchanges, error) {
	lockThread()
	if err := one(); err != nil {
		return Exchanges{}, err
	}
	times := make([]time.Duration, 0, maxExchanges)
	start := time.Now()
	now := start
	for now.Sub(start) < window && len(times) < cap(times) {
		if err := one(); err != nil {
			return Exchanges{}, err
		}
		end := time.Now()
		times = append(times, end.Sub(now))
		now = end
	}
	return sorted(times, now.Sub(start)), nil
}

// sorted sums exchanges up by the time that each took.
func sorted(times []time.Duration, elapsed time.Duration) Exchanges {
	e := Exchanges{Count: len(times), Elapsed: elapsed}
	if len(times) == 0 {
		return e
	}
	slices.Sort(times)
	at := func(q float64) time.Duration { return times[int(q*float64(len(times)-1))] }
	e.P50, e.P99, e.P999 = at(0.5), at(0.99), at(0.999)
	return e
}
