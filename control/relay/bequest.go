package relay

import (
	"net"
	"net/netip"
	"time"
)

// bequest is a session of UDP that goes on with another relay; its socket comes with it. A container sees
// its client by the port that it had.
type bequest struct {
	Client netip.AddrPort `json:"client"`
	Local  netip.AddrPort `json:"local"`
	Who    User           `json:"who"`
	To     netip.AddrPort `json:"to"`
}

// bequeath gives the sessions away, those first that were used last.
func (r *Relay) bequeath(c *net.UnixConn) {
	for _, s := range r.sessions.all() {
		f, err := s.conn.(*net.UDPConn).File()
		if err != nil {
			return // it was closed meanwhile, or no descriptor is left: they go on here
		}
		err = write(c, bequest{s.flow.client, s.flow.local, s.who, s.to}, f, patience)
		f.Close()
		if err != nil {
			return
		}
		r.sessions.remove(s)
	}
}

// inherit takes the sessions of another relay, before any of its own begins.
func (r *Relay) inherit(c *net.UnixConn) {
	c.SetReadDeadline(time.Now().Add(patience))
	for buf := make([]byte, maxMessage); ; {
		var b bequest
		f, err := read(c, buf, &b)
		if err != nil {
			return
		}
		if f == nil {
			continue
		}
		k, err := net.FileConn(f)
		f.Close()
		if err != nil {
			continue
		}
		udp, ok := k.(*net.UDPConn)
		out := r.families[0].Out
		if b.Client.Addr().Is6() {
			out = r.families[1].Out
		}
		if !ok || out == nil {
			k.Close()
			continue
		}
		r.enter(&session{flow: flow{b.Client, b.Local}, who: b.Who, to: b.To, conn: udp}, out)
	}
}
