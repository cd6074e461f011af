package gen

import (
	"context"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// nobody is a user without rights.
const nobody = 65534

// How a Strain uses sockets.
const (
	Churn   = "churn"   // connects and closes
	Keep    = "keep"    // connects and stays connected
	Scatter = "scatter" // sends one datagram from each socket
)

// Strain describes a load of sockets that a program without rights may open.
type Strain struct {
	Kind string  `json:"kind"`
	Rate float64 `json:"rate"` // sockets a second
	// Most is how many connections are kept, 0 for no limit.
	Most int `json:"most,omitempty"`
}

// straining is how many threads of an agent take part, so that one that waits for an answer does
// not make all of it wait.
const straining = 8

// sinkPorts is where a Sink listens, and sinkBacklog how many connections it takes at each.
const (
	SinkPort    = 7011
	sinkPorts   = 4
	sinkBacklog = 4096
)

// Run lets ns strain the path to target for window.
func (s Strain) Run(ctx context.Context, ns Namespace, target netip.AddrPort, window time.Duration) error {
	return call(ctx, ns, Spec{Role: roleStrain, Target: target, Window: window, Strain: s}, nil)
}

// Sink lets addr of ns take connections at SinkPort, and some ports after it, that nobody serves.
func Sink(ctx context.Context, ns Namespace, addr netip.Addr) (*Agent, error) {
	a, err := start(ns, Spec{Role: roleSink, Target: netip.AddrPortFrom(addr, SinkPort)})
	if err != nil {
		return nil, err
	}
	if err := a.answer(ctx, 5*time.Second, nil); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

func sink(s Spec) error {
	for i := range uint16(sinkPorts) {
		fd, err := listen(netip.AddrPortFrom(s.Target.Addr(), s.Target.Port()+i))
		if err == nil {
			err = unix.Listen(fd, sinkBacklog)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func strain(s Spec) error {
	if err := raiseFiles(); err != nil {
		return fmt.Errorf("strain: %w", err)
	}
	if err := syscall.Setuid(nobody); err != nil {
		return fmt.Errorf("strain: %w", err)
	}
	var g errgroup.Group
	for i := range straining {
		g.Go(func() error { s.strainOne(i); return nil })
	}
	return g.Wait()
}

// strainOne is one thread. It goes on whatever fails.
func (s Spec) strainOne(thread int) {
	lockThread()
	unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	begin, every := time.Now(), time.Duration(straining*float64(time.Second)/s.Strain.Rate)
	kept := 0
	for n := 0; time.Since(begin) < s.Window; n++ {
		if wait := time.Until(begin.Add(time.Duration(n) * every)); wait > 0 {
			ts := unix.NsecToTimespec(wait.Nanoseconds())
			unix.Nanosleep(&ts, nil)
		}
		target := s.Target
		if s.Strain.Kind == Keep {
			if s.Strain.Most > 0 && kept >= s.Strain.Most/straining {
				time.Sleep(time.Until(begin.Add(s.Window)))
				return
			}
			target = netip.AddrPortFrom(target.Addr(), target.Port()+uint16((thread+n)%sinkPorts))
		}
		kind := unix.SOCK_STREAM
		if s.Strain.Kind == Scatter {
			kind = unix.SOCK_DGRAM
		}
		fd, err := socket(target.Addr(), kind)
		if err != nil {
			continue
		}
		if err = limit(fd); err == nil {
			switch s.Strain.Kind {
			case Scatter:
				err = unix.Sendto(fd, []byte{0}, unix.MSG_DONTWAIT, sockaddr(target))
			default:
				err = connect(fd, sockaddr(target))
			}
		}
		if err == nil && s.Strain.Kind == Keep {
			kept++
			continue
		}
		unix.Close(fd)
	}
}
