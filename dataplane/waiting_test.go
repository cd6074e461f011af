package dataplane_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

func TestAFullWaitingRoomIsEmptiedToTheLast(t *testing.T) {
	l := New(t)
	l.Switch.SetNeighbors(nil)
	const hops, each = 15, 8
	for i := range hops {
		for range each {
			l.Send("c1", UDP("c1", uint16(5000+i), fmt.Sprintf("198.51.100.%d:80", 100+i), "x"))
		}
	}
	l.ExpectNothing()
	macs := map[dataplane.NeighborKey]header.MAC{}
	for i := range hops {
		macs[l.NextHop(fmt.Sprintf("198.51.100.%d", 100+i))] = NextHopMAC
	}
	l.Switch.SetNeighbors(macs)
	for l.Switch.Step() > 0 {
	}
	if n := len(l.Got("up")); n != hops*each {
		t.Errorf("%d frames went on, want %d: more than a batch waited", n, hops*each)
	}
}

func TestAFrameThatWaitedInVainIsCounted(t *testing.T) {
	l := New(t)
	l.Switch.SetNeighbors(nil)
	l.Send("c1", UDP("c1", 5000, web, "x"))
	l.ExpectDrop("c1", dataplane.DropNoNeighbor, 0)
	l.Advance(4 * time.Second)
	l.ExpectDrop("c1", dataplane.DropNoNeighbor, 1)
	l.Neighbor(NextHop, NextHopMAC)
	l.Switch.Step()
	l.ExpectNothing()
}

func TestAFrameThatWaitedIsCapturedOnce(t *testing.T) {
	l := New(t)
	c, err := dataplane.StartCapture(l.Switch, dataplane.CaptureConfig{Ports: []frame.PortID{l.Port("c1")}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	l.Switch.SetNeighbors(nil)
	l.Send("c1", UDP("c1", 5000, web, "x"))
	l.Neighbor(NextHop, NextHopMAC)
	l.Switch.Step()
	l.Expect("up")
	records := 0
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		_, ok, _ := c.Next(ctx)
		cancel()
		if !ok {
			break
		}
		records++
	}
	if records != 1 {
		t.Errorf("captured %d times, want once", records)
	}
}
