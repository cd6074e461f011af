package resolver

import (
	"fmt"
	"os"

	"github.com/vswitch/vswitch/control/anyport"
)

// receiveBuffer is the most memory that questions may wait in, per family.
const receiveBuffer = 1 << 20

// Listen opens the sockets of a resolver in the network namespace of the calling thread: nobody reaches them but
// who is led to them. Where the host has no IPv6 there are none of it.
func Listen() (*anyport.Sockets, error) {
	s, err := anyport.Listen(receiveBuffer, nil)
	if err != nil {
		return nil, fmt.Errorf("resolver: %w", err)
	}
	return s, nil
}

// serve answers what comes by the sockets, which it borrows for the call, until they end.
func (r *Resolver) serve(files []*os.File) error {
	families, err := anyport.Families(files)
	if err != nil {
		return err
	}
	var out [2]*anyport.Sender
	for family, f := range families {
		if out[family] = f.Out; f.TCP != nil {
			r.serving.Go(func() { r.serveTCP(f.TCP) })
		}
	}
	for range workers() {
		r.serving.Go(func() { r.work(out) })
	}
	for family, f := range families {
		if f.UDP != nil {
			r.serving.Go(func() { r.serveUDP(family, f.UDP) })
		}
	}
	return nil
}
