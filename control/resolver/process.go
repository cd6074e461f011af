package resolver

import (
	"encoding/json"
	"net"
	"os"
	"runtime"
	"time"

	"github.com/vswitch/vswitch/control/bare"
	"github.com/vswitch/vswitch/control/names"
)

// command is the one argument of a program that is a resolver.
const command = "resolve"

// A resolver is the program of its daemon, begun anew, as a holder is.
func init() {
	bare.Become(command, run, func(err error) []byte {
		b, _ := json.Marshal(report{Failed: err.Error()})
		return b
	})
}

// run is the resolver's process: it answers until nobody has the other end of its first file. The others are
// its sockets.
func run(files []*os.File) error {
	c, err := net.FileConn(files[0])
	if err != nil {
		return err
	}
	zone := new(names.Zone)
	reports := make(chan report, 64)
	tell := func(r report) {
		select {
		case reports <- r:
		default:
		}
	}
	r := New(Config{Zone: zone, Changed: func(s Server) { tell(report{Server: &s}) }})
	go send(c, reports)
	for buf := make([]byte, maxMessage); ; {
		n, err := c.Read(buf)
		if err != nil || n == 0 {
			return nil // the daemon has ended, and the holder too
		}
		var m message
		if json.Unmarshal(buf[:n], &m) != nil {
			continue
		}
		if m.Begin {
			if err := r.serve(files[1:]); err != nil {
				return err
			}
			for _, f := range files[1:] {
				f.Close() // nil is allowed
			}
			go r.tellStats(tell)
			continue
		}
		m.apply(zone)
	}
}

// send sends reports. While nobody reads them they are lost.
func send(c net.Conn, reports <-chan report) {
	for r := range reports {
		c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_ = write(c, r)
	}
}

// tellStats tells how it does, while that changes.
func (r *Resolver) tellStats(tell func(report)) {
	var last []byte
	for range time.Tick(time.Second) {
		s := r.Stats()
		if b, _ := json.Marshal(s); string(b) != string(last) {
			last = b
			tell(report{Stats: &s})
		}
	}
}

// workers is how many questions are read at once.
func workers() int { return min(runtime.GOMAXPROCS(0), 4) }
