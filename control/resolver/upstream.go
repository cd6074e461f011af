package resolver

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	// budget is how long a name is asked for. Programs wait five seconds, and would hear of no
	// answer that takes as long.
	budget = 2 * time.Second
	// headStart is for how long one server is asked alone.
	headStart = 300 * time.Millisecond
	// dead is after how many questions in a row without an answer a server counts as failing.
	dead = 3
)

// upstream asks name servers. Its methods are safe for concurrent use.
type upstream struct {
	servers func(now time.Time) []netip.AddrPort
	changed func(Server) // a server fails, or answers again; it must not block

	mu     sync.Mutex
	health map[netip.AddrPort]*Server
}

// Server is how a name server does.
type Server struct {
	Addr    string `json:"addr"`
	Failing bool   `json:"failing"`
	Why     string `json:"why,omitempty"` // of the last failure
	Asked   uint64 `json:"asked"`
	Failed  uint64 `json:"failed"`
	row     int    // failures without an answer between
	at      time.Time
}

// answer is what came of asking one.
type answer struct {
	msg *dns.Msg
	err error
}

// ask returns the first answer that settles the question: that there is something, or nothing. One server
// is asked first, the others when it does not answer at once; what they say when none has a better
// answer is said. The error says that nobody answered.
func (u *upstream) ask(ctx context.Context, m *dns.Msg, servers []netip.Addr) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	var list []netip.AddrPort
	for _, a := range servers {
		list = append(list, netip.AddrPortFrom(a, 53))
	}
	if list == nil {
		list = u.servers(time.Now())
	}
	list = u.order(list)
	results := make(chan answer, len(list))
	asked, waiting := 0, 0
	more := func(n int) {
		for ; n > 0 && asked < len(list); n-- {
			at := list[asked]
			asked, waiting = asked+1, waiting+1
			go func() {
				r, err := exchange(ctx, m, at)
				u.note(ctx, at, err)
				results <- answer{r, err}
			}()
		}
	}
	more(1)
	rest := time.NewTimer(headStart)
	defer rest.Stop()
	var last *dns.Msg
	var errs error
	for {
		select {
		case <-rest.C:
			more(len(list))
		case r := <-results:
			waiting--
			switch {
			case r.err != nil:
				errs = errors.Join(errs, r.err)
			case r.msg.Rcode == dns.RcodeSuccess || r.msg.Rcode == dns.RcodeNameError:
				return r.msg, nil
			default:
				last = r.msg
			}
			more(len(list))
			if waiting > 0 {
				continue
			}
			if last != nil {
				return last, nil
			}
			return nil, errs
		case <-ctx.Done():
			if last != nil {
				return last, nil
			}
			return nil, errors.Join(errs, ctx.Err())
		}
	}
}

// order puts the ones that fail last.
func (u *upstream) order(list []netip.AddrPort) (out []netip.AddrPort) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, failing := range []bool{false, true} {
		for _, at := range list {
			if h := u.health[at]; (h != nil && h.Failing) == failing {
				out = append(out, at)
			}
		}
	}
	return out
}

// note counts an answer, or that there was none.
func (u *upstream) note(ctx context.Context, at netip.AddrPort, err error) {
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return // another was faster, or nobody waits any more
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.health == nil {
		u.health = make(map[netip.AddrPort]*Server)
	}
	h := u.health[at]
	if h == nil {
		h = &Server{Addr: at.Addr().String()}
		u.health[at] = h
	}
	h.Asked, h.at = h.Asked+1, time.Now()
	was := h.Failing
	if err == nil {
		h.row, h.Failing, h.Why = 0, false, ""
	} else {
		h.Failed, h.row, h.Why = h.Failed+1, h.row+1, err.Error()
		h.Failing = h.row >= dead
	}
	if h.Failing != was && u.changed != nil {
		u.changed(*h)
	}
}

// forgotten is after how long nothing is known any more of a server that is not the host's.
const forgotten = 10 * time.Minute

// all is how the servers do that the host names now, and the others that were asked lately.
func (u *upstream) all() (list []Server) {
	now := u.servers(time.Now())
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, at := range now {
		if h := u.health[at]; h != nil {
			list = append(list, *h)
		} else {
			list = append(list, Server{Addr: at.Addr().String()})
		}
	}
	for at, h := range u.health {
		switch {
		case slices.Contains(now, at):
		case time.Since(h.at) > forgotten:
			delete(u.health, at)
		default:
			list = append(list, *h)
		}
	}
	slices.SortFunc(list[len(now):], func(a, b Server) int { return strings.Compare(a.Addr, b.Addr) })
	return list
}

// exchange asks one server, by TCP where the answer is too long for UDP.
func exchange(ctx context.Context, m *dns.Msg, at netip.AddrPort) (*dns.Msg, error) {
	for _, network := range []string{"udp", "tcp"} {
		c := dns.Client{Net: network, UDPSize: ednsSize, Timeout: budget}
		r, _, err := c.ExchangeContext(ctx, m, at.String())
		switch {
		case err != nil:
			return nil, err
		case !answers(r, m):
			return nil, fmt.Errorf("%s answers another question", at.Addr())
		case !r.Truncated || network == "tcp":
			return r, nil
		}
	}
	return nil, nil // not reached
}
