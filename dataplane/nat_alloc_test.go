package dataplane_test

import (
	"encoding/binary"
	"testing"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// What TestF36TurnNoAllocs shows for whole packets holds for the rest of the NAT
// too: segments, fragments in and out of order, packets that are cut, errors
// that are translated or sent, flows that are refused.
func TestTurnNoAllocsForTheRest(t *testing.T) {
	l := narrow(t, 1400)
	l.Publish(8080, "c1", 80)
	l.Send("c1", TCP("c1", 5000, web, SYN, ""))
	syn := l.Expect("up")
	l.Send("c2", UDP("c2", 5000, web, "x"))
	out := l.Expect("up")
	frags := Fragment(UDP("c2", 5000, web, string(make([]byte, 2500))), 1200)
	kinds := map[string][][]byte{
		"segments":   {TCP("c1", 5000, web, ACK, "data"), TCP("c1", 5000, web, SYN, "")},
		"resets":     {TCP("c1", 5000, web, RST, "")},
		"fragments":  {frags[0], frags[1], frags[2]},
		"overtaking": {frags[2], frags[1], frags[0]},
		"cut":        {UDP("c2", 5000, web, string(make([]byte, 1472)))},
		"too big":    {Bytes(From("c2", web, Packet{Src: "10.1.0.12:5000", Proto: header.ProtoUDP, DF: true, Payload: make([]byte, 1472)}))},
		"martians":   {Bytes(From("c2", web, Packet{Src: "127.0.0.1:5000", Proto: header.ProtoUDP}))},
		"errors":     {fromRouter(3, 3, out), fromRouter(11, 0, syn)},
		"unclaimed":  {Inbound(header.ProtoTCP, World+":9", HostAddr+":9", SYN, "")},
	}
	for name := range Stations {
		l.Memory(name).SetSink(func([]byte, frame.Offload) {})
	}
	id := uint16(0)
	for name, frames := range kinds {
		from := "c2"
		switch name {
		case "segments", "resets":
			from = "c1"
		case "errors", "unclaimed":
			from = "up"
		}
		const turns = 20
		for i := range (turns + 8) * frame.BatchSize {
			f := frames[i%len(frames)]
			if name == "fragments" || name == "overtaking" {
				if i%len(frames) == 0 {
					id++
				}
				binary.BigEndian.PutUint16(f[header.EthernetLen+4:], id)
				SumIPv4(f)
			}
			l.Memory(from).Inject(f, none)
		}
		taken := 0
		for range 7 {
			taken += l.Switch.Step()
		}
		if allocs := testing.AllocsPerRun(turns, func() { taken += l.Switch.Step() }); allocs != 0 {
			t.Errorf("%s: %v allocations in a turn, want none", name, allocs)
		}
		if want := (turns + 8) * frame.BatchSize; taken != want {
			t.Errorf("%s: %d frames went through, want %d", name, taken, want)
		}
	}
}
