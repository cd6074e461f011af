package relay

import (
	"encoding/json"
	"net"
	"os"
	"sync"
	"time"

	"github.com/vswitch/vswitch/control/anyport"
	"github.com/vswitch/vswitch/control/bare"
	"github.com/vswitch/vswitch/control/host/others"
)

// command is the one argument of a program that is a relay.
const command = "relay"

// finishedAfter is how often a relay that takes nothing new looks whether it has nothing left.
const finishedAfter = time.Second

// A relay is the program of its daemon, begun anew, as a holder is.
func init() {
	bare.Become(command, run, func(err error) []byte {
		b, _ := json.Marshal(report{Failing: err.Error()})
		return b
	})
}

// process is a relay that is a process of its own. By its door daemons come, one after the other, each with a
// connection; it serves as long as somebody has the other end of the door.
type process struct {
	door    *net.UnixConn
	ways    Ways
	relay   *Relay
	serves  bool // it was told where ways lead; of who hears a daemon
	reports chan report

	mu     sync.Mutex // guards what follows
	daemon *net.UnixConn
	back   chan struct{} // closed when a daemon comes; nil: it is there
}

func run(files []*os.File) error {
	door, err := connOf(files[0])
	if err != nil {
		return err
	}
	p := &process{door: door, back: make(chan struct{}), reports: make(chan report, 64)}
	families, err := anyport.Families(files[1:])
	if err != nil {
		return err
	}
	for _, f := range files[1:] {
		f.Close() // nil is allowed
	}
	users, err := others.OpenSocketUsers()
	if err != nil {
		return err
	}
	p.relay = New(Config{
		Resolve: p.ways.Resolve, Alone: p.alone, Whose: users.Of,
		Reached: func(r Reached) { p.report(report{Reached: &r}) },
		Failing: func(err error) { p.report(report{Failing: err.Error()}) },
	}, families)
	go p.tell()
	heard := make(chan struct{})
	close(heard)
	for buf := make([]byte, maxMessage); ; {
		f, err := read(door, buf, new(struct{}))
		if err != nil {
			return p.relay.Close() // nobody will come any more, or nothing is left to do
		}
		if f == nil {
			continue
		}
		c, err := connOf(f)
		if err != nil {
			return err
		}
		// One after the other: the one before has ended.
		if last := p.come(c); last != nil {
			last.Close()
		}
		<-heard
		heard = make(chan struct{})
		go func(done chan struct{}) {
			defer close(done)
			p.hear(c)
		}(heard)
	}
}

// come has a daemon be the one that is told things, and returns the one before.
func (p *process) come(c *net.UnixConn) (last *net.UnixConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last, p.daemon = p.daemon, c
	return last
}

// hear does what a daemon says, until it ends.
func (p *process) hear(c *net.UnixConn) {
	var change order
	for buf := make([]byte, maxMessage); ; {
		var o order
		f, err := read(c, buf, &o)
		if err != nil {
			break
		}
		if o.changes() {
			change.All = change.All || o.All
			change.Drop, change.Add = append(change.Drop, o.Drop...), append(change.Add, o.Add...)
			if !o.More {
				if !o.Heir {
					p.change(change, nil)
				} else {
					p.change(change, f)
					f = nil
				}
				change = order{}
			}
		}
		if o.Finish {
			p.finish(f)
		} else if f != nil {
			f.Close()
		}
		if o.Ask != 0 && write(c, report{Asked: o.Ask, Stats: p.relay.Stats()}, nil, patience) != nil {
			break
		}
	}
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.daemon == c {
		p.daemon = nil
	}
	if p.back == nil {
		p.back = make(chan struct{})
	}
}

// change is done in one step: who asks meanwhile is told of before or after. With the first the relay begins,
// and has the sessions that come by heir, unless that is nil.
func (p *process) change(c order, heir *os.File) {
	if c.All {
		p.ways.Set(c.Add)
	} else {
		p.ways.Change(c.Drop, c.Add)
	}
	if heir != nil {
		if c, err := connOf(heir); err == nil {
			p.relay.inherit(c)
			c.Close()
		}
	}
	if !p.serves {
		p.serves = true
		p.relay.Serve()
	} else if c.All || len(c.Drop) > 0 {
		p.relay.Recheck()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.back != nil { // frames are moved again
		close(p.back)
		p.back = nil
	}
}

func (p *process) alone() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.back
}

// report has the daemon be told something, or nothing where there is no room for it.
func (p *process) report(r report) {
	select {
	case p.reports <- r:
	default:
	}
}

func (p *process) tell() {
	for r := range p.reports {
		p.mu.Lock()
		c := p.daemon
		p.mu.Unlock()
		if c != nil {
			_ = write(c, r, nil, 100*time.Millisecond)
		}
	}
}

// finish leaves what is new to another relay, to which its sessions go by heir, and ends the process
// when nothing is left.
func (p *process) finish(heir *os.File) {
	r := p.relay
	r.Finish()
	if heir != nil {
		if c, err := connOf(heir); err == nil {
			r.bequeath(c)
			c.Close()
		}
	}
	go func() {
		for range time.Tick(finishedAfter) {
			if s := r.Stats(); s.TCP+s.UDP == 0 {
				p.door.Close()
				return
			}
		}
	}()
}
