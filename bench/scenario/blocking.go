package scenario

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/report"
	"github.com/vswitch/vswitch/bench/rig"
	"github.com/vswitch/vswitch/control/api"
)

// cleanRate is what the clean port gets, frames a second: far below what gets through
// without loss when nobody else sends.
const cleanRate = 20000

// blocking is the head-of-line test of RFC 2889 5.5: one container floods another that
// takes nothing, its interface being down, while a stream to a third must lose nothing.
func blocking(ctx context.Context, opt rig.Options, x Extent) (found Findings, err error) {
	r, err := rig.Build(ctx, rig.VSwitch, opt)
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	loud, _, err := r.Attach(ctx, api.Attach{Name: "loud"})
	if err != nil {
		return found, err
	}
	deaf, _, err := r.Attach(ctx, api.Attach{Name: "deaf"})
	if err != nil {
		return found, err
	}
	if err := deaf.NS.SetDown(deaf.Ifname); err != nil {
		return found, err
	}
	path := func(from, to *rig.Container) frameEnds {
		return frameEnds{
			sender: from.NS, senderIfname: from.Ifname, src: from.MAC,
			receiver: to.NS, receiverIfname: to.Ifname, dst: to.MAC,
			from: netip.AddrPortFrom(from.Addr, framePort), to: netip.AddrPortFrom(to.Addr, gen.DiscardPort),
		}
	}
	window := 2 * x.Window
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		blocked := path(loud, deaf)
		_, err := gen.Frames(ctx, loud.NS, gen.FrameSpec{
			Ifname: blocked.senderIfname, Src: blocked.src, Dst: blocked.dst, From: blocked.from, To: blocked.to, Size: 64, Rate: 2 * cleanRate,
		}, window)
		done <- err
	}()
	clean := path(r.A, r.B)
	t, err := clean.send(ctx, gen.FrameSpec{Size: 64, Rate: cleanRate}, window*9/10)
	if err = errors.Join(err, <-done); err != nil {
		return found, err
	}
	lost := float64(t.sent.Frames) - float64(min(t.arrived, t.sent.Frames))
	found.Figures = []report.Figure{figure("blocking", "beside a stopped receiver", "lost on the clean port", report.Lost, 0.5, lost,
		fmt.Sprintf("of %d, while %d frames a second go to a container whose interface is down", t.sent.Frames, 2*cleanRate))}
	return found, nil
}
