package dataplane_test

import (
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// rx is how many frames came in at a station's port.
func (l *stationLab) rx(name string) uint64 { return l.ports()[l.Port(name)][0] }

// TestStationsCountWhatARowCarried: what a row has carried is told and counted also when it ends
// before anybody has looked.
func TestStationsCountWhatARowCarried(t *testing.T) {
	for name, room := range map[string]int{"a flow": 8, "no room for a flow": 0} {
		t.Run(name, func(t *testing.T) {
			l := newStationLab(t)
			l.k.Residents.MaxFlows = room
			for range 3 {
				l.meet("c1", toStation("c1", "c2", false, Packet{Flags: SYN}))
			}
			q, err := l.Switch.OpenCapture(dataplane.CaptureConfig{Ports: []frame.PortID{l.Port("c1")}})
			if err != nil {
				t.Fatal(err)
			}
			defer l.Switch.EndCapture(q.ID)
			l.settle()
			if flows := l.flows(); room > 0 && (len(flows) != 1 || flows[0].Packets != [2]uint64{3, 0}) {
				t.Errorf("told of %+v", flows)
			}
			if n := l.rx("c1"); n != 3 {
				t.Errorf("%d frames are counted, want 3", n)
			}
		})
	}
}

// TestStationsCountForNobodyElse: a number of a port counts from zero, whoever had it before.
func TestStationsCountForNobodyElse(t *testing.T) {
	l := newStationLab(t)
	l.k.Residents.MaxFlows = 0
	syn := toStation("c1", "c2", false, Packet{Flags: SYN})
	begun := l.Switch.Stats().Flows
	for range 3 {
		l.meet("c1", syn)
	}
	l.Unplug("c1")
	l.Plug("c1")
	l.settle()
	if n := l.rx("c1"); n != 0 {
		t.Errorf("%d frames of the port before are counted", n)
	}
	if st := l.Switch.Stats().Flows; st.Untold-begun.Untold != 3 || st.Frames-begun.Frames != 3 {
		t.Errorf("%+v", st)
	}
	// A process before had another with the number.
	l.meet("c1", syn)
	row := l.Port("c3")
	l.k.Residents.At[row].Sent, l.k.Residents.At[row].State = 7, 0
	l.Restart(l.k)
	l.Switch.TakeOver()
	l.settle()
	l.meet("c3", toStation("c3", "c2", false, Packet{Proto: header.ProtoUDP}))
	if n := l.rx("c3"); n != 1 {
		t.Errorf("%d frames are counted, want 1", n)
	}
}
