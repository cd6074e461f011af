package readers

import (
	"io"
	"net"
	"testing"
	"time"
)

// crowd is a listener at which connections wait, of readers by their order.
type crowd struct {
	net.Listener
	n, most int
	ends    []net.Conn // of the clients
}

func (c *crowd) Accept() (net.Conn, error) {
	if c.n == c.most {
		return nil, io.EOF
	}
	c.n++
	here, there := net.Pipe()
	c.ends = append(c.ends, there)
	return here, nil
}

// TestConnectionsInMasses: who connects by the thousand is turned away before that costs
// anything, and others get in, root always.
func TestConnectionsInMasses(t *testing.T) {
	hog, other, root := Reader{Page: true, UID: 7, Known: true}, visitor("192.0.2.1/32"), Reader{UID: 0, Known: true}
	const most = 6000
	c := &crowd{most: most}
	l := New(BoundsFor(0), nil).Listen(c, 128, func(net.Conn) Reader {
		switch {
		case c.n == 3000 || c.n == most:
			return other
		case c.n == 3001:
			return root
		}
		return hog
	})
	began, in := time.Now(), map[Reader]int{}
	for {
		conn, err := l.Accept()
		if err != nil {
			break
		}
		in[conn.(*Conn).Reader]++
		conn.Close()
	}
	if in[other] != 2 || in[root] != 1 {
		t.Errorf("others got in %d and %d times", in[other], in[root])
	}
	if may := connectBurst + int(time.Since(began)/connectPause) + 1; in[hog] > may || in[hog] < connectBurst {
		t.Errorf("%d of the connections in masses got in, want %d to %d", in[hog], connectBurst, may)
	}
	for i, end := range c.ends[:most/2] {
		end.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := end.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("connection %d: %v, want its end", i, err)
		}
	}
}
