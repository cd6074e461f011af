package relay

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/bare"
)

// statsWithin is how long who counts waits for a relay.
const statsWithin = time.Second

// remote is the process of a relay, as its daemon has it.
type remote struct {
	slot     int           // of the names with the holder
	door     *net.UnixConn // daemons come by it; the process ends with the last duplicate
	pid      int           // a descriptor of the process
	child    *os.Process   // nil: a daemon before has started it
	conn     *net.UnixConn
	program  string        // what it is
	born     int64         // when it began, in ns
	finishes bool          // it takes nothing new
	ended    chan struct{} // closed when it is heard no more

	mu      sync.Mutex // guards what follows
	asked   uint64
	answers map[uint64]chan Stats
	last    Stats // as it was told
}

// begin starts a process with the files of its sockets, and connects with it.
func begin(slot int, sockets []*os.File) (*remote, error) {
	mine, theirs, err := bare.Socketpair(0)
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	door, err := connOf(mine)
	if err != nil {
		return nil, err
	}
	m := &remote{slot: slot, door: door, pid: -1}
	cmd := bare.Command{Kind: command, Threads: runtime.NumCPU(), Files: append([]*os.File{theirs}, sockets...), PidFD: &m.pid}
	if m.child, err = cmd.Start(); err != nil {
		return nil, errors.Join(err, door.Close())
	}
	if m.pid < 0 {
		err = errors.New("no descriptor of a process: pidfd_open (Linux 5.3)")
	} else {
		err = m.connect()
	}
	if err != nil {
		m.kill()
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

// connect has the process hear this daemon from now on.
func (m *remote) connect() error {
	mine, theirs, err := bare.Socketpair(socketBuffer)
	if err != nil {
		return err
	}
	defer theirs.Close()
	if m.conn, err = connOf(mine); err != nil {
		return err
	}
	m.ended, m.answers = make(chan struct{}), make(map[uint64]chan Stats)
	return write(m.door, struct{}{}, theirs, patience)
}

// hear hears the process until it ends.
func (m *remote) hear(heard func(report)) {
	defer close(m.ended)
	for buf := make([]byte, maxMessage); ; {
		var r report
		f, err := read(m.conn, buf, &r)
		if err != nil {
			return
		}
		if f != nil {
			f.Close()
		}
		if r.Asked == 0 {
			heard(r)
			continue
		}
		m.mu.Lock()
		answer := m.answers[r.Asked]
		delete(m.answers, r.Asked)
		m.mu.Unlock()
		if answer != nil {
			answer <- r.Stats
		}
	}
}

// why is what the process has said at its end.
func (m *remote) why() string {
	buf := make([]byte, maxMessage)
	m.door.SetReadDeadline(time.Now())
	var r report
	if n, err := m.door.Read(buf); err == nil && json.Unmarshal(buf[:n], &r) == nil {
		return r.Failing
	}
	return ""
}

// tell tells the process something. One that does not read is killed.
func (m *remote) tell(o order, f *os.File) {
	if write(m.conn, o, f, patience) != nil {
		m.kill()
	}
}

// lead tells where ways lead.
func (m *remote) lead(drop, add []Way, all bool, heir *os.File) {
	for {
		o := order{All: all}
		n := min(len(drop), mostWays)
		o.Drop, drop = drop[:n], drop[n:]
		n = min(len(add), mostWays-n)
		o.Add, add = add[:n], add[n:]
		if o.More = len(drop)+len(add) > 0; o.More {
			m.tell(o, nil)
			continue
		}
		o.Heir = heir != nil
		m.tell(o, heir)
		return
	}
}

// ask returns how it does when all that it was told before is done. One that does not answer is not ok.
func (m *remote) ask(within time.Duration) (s Stats, ok bool) {
	answer := make(chan Stats, 1)
	m.mu.Lock()
	m.asked++
	n := m.asked
	m.answers[n] = answer
	m.mu.Unlock()
	if write(m.conn, order{Ask: n}, nil, within) == nil {
		timer := time.NewTimer(within)
		defer timer.Stop()
		select {
		case s = <-answer:
			return s, true
		case <-m.ended:
		case <-timer.C:
		}
	}
	m.mu.Lock()
	delete(m.answers, n)
	m.mu.Unlock()
	return s, false
}

// settle waits until the process has done all that it was told. One that does not is ended: the address that
// it speaks to may be another container's next.
func (m *remote) settle() {
	if _, ok := m.ask(patience); !ok {
		m.kill()
		bare.Ended(m.pid, patience)
	}
}

// stats is how it does, or did when it answered last.
func (m *remote) stats() Stats {
	s, ok := m.ask(statsWithin)
	m.mu.Lock()
	defer m.mu.Unlock()
	if ok {
		m.last = s
	}
	return m.last
}

func (m *remote) kill() {
	if m.pid >= 0 {
		_ = bare.Kill(m.pid)
	} else if m.child != nil {
		_ = m.child.Kill()
	}
}

// end ends the process, whose door nobody else has: its connections end with it.
func (m *remote) end() error {
	const patience = 3 * time.Second
	m.door.Close()
	if m.pid >= 0 && !bare.Ended(m.pid, patience) {
		m.kill()
		bare.Ended(m.pid, patience)
	}
	return m.close()
}

// close lets go of the process, which goes on if somebody else has its door.
func (m *remote) close() (err error) {
	if m.conn != nil {
		m.conn.Close() // it may be closed
	}
	m.door.Close() // likewise
	if m.pid >= 0 {
		if m.child != nil && bare.Ended(m.pid, 0) {
			_, _ = m.child.Wait()
		}
		err = os.NewSyscallError("close", unix.Close(m.pid))
		m.pid = -1
	}
	return err
}
