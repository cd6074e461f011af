package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// admitARP passes what speaks for the container's own addresses, and probes,
// which speak for none (RFC 5227 1.1). ARP of other hardware or protocols cannot
// be judged.
func admitARP(f *frame.Frame, in *portConfig) DropReason {
	if f.Layers.Kind != header.KindARP {
		return DropUnreadable
	}
	a := header.ReadARP(f.Data(), &f.Layers)
	switch {
	case a.SenderMAC != in.MAC:
		return DropSpoofedARP
	case in.own.has(&a.Sender):
		return NotDropped
	case a.Sender.IsUnspecified() && a.Op == header.ARPRequest:
		return NotDropped
	}
	return DropSpoofedARP
}
