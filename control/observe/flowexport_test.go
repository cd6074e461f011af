package observe

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/ipfix"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
)

// A flow that goes on is exported by what it did since; the last record has the
// rest.
func TestExportOfALongFlow(t *testing.T) {
	x := &flowExport{sent: make(map[flowKey][2]counted)}
	at := time.Unix(1_700_000_000, 0)
	tuple := header.Tuple{
		Src: header.AddrFrom(netip.MustParseAddr("10.0.0.1")), Dst: header.AddrFrom(netip.MustParseAddr("203.0.113.9")), SrcPort: 1, DstPort: 2, Proto: 6,
	}
	reply := tuple.Reverse()
	reply.Dst, reply.DstPort = header.AddrFrom(netip.MustParseAddr("198.51.100.1")), 61000
	f := conntrack.Info{Orig: tuple, Reply: reply, Packets: [2]uint64{10, 5}, Bytes: [2]uint64{1000, 500}, Age: 60 * time.Second, Idle: time.Second, Created: 7}
	list := x.add(nil, &f, at, ipfix.ActiveTimeout)
	if len(list) != 2 || list[0].Packets != 10 || list[1].Bytes != 500 || !list[0].End.Equal(at.Add(-time.Second)) || !list[0].Start.Equal(at.Add(-time.Minute)) {
		t.Fatalf("first: %+v", list)
	}
	if list[0].NATSrc.String() != "198.51.100.1:61000" || list[1].Dst.String() != "198.51.100.1:61000" || list[1].NATDst.String() != "10.0.0.1:1" {
		t.Errorf("addresses: %+v", list)
	}
	if list := x.add(nil, &f, at, ipfix.ActiveTimeout); len(list) != 0 {
		t.Errorf("nothing happened since: %+v", list)
	}
	f.Packets[0], f.Bytes[0] = 12, 1300
	f.Age, f.Idle = 70*time.Second, 20*time.Second // ended: Age is that at the last packet
	list = x.add(nil, &f, at, ipfix.EndOfFlow)
	if len(list) != 1 || list[0].Packets != 2 || list[0].Bytes != 300 || !list[0].Start.Equal(at.Add(-90*time.Second)) || len(x.sent) != 0 {
		t.Errorf("last: %+v", list)
	}
}

func TestFlowFileIsReopened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flows.json")
	f, err := openFlowFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { f.close() }()
	if err := f.reopen(); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := f.reopen(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.f.WriteString("x\n"); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "x\n" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := openFlowFile(filepath.Join(path, "nowhere")); err == nil {
		t.Error("a file in a file was opened")
	}
}

// A closed flow is remembered for late packets, after its end was told: it is not exported again.
func TestClosedFlowsAreExportedOnce(t *testing.T) {
	o, l := withFlows(t, 0)
	e, err := ipfix.Dial("127.0.0.1:9", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	o.log = slog.New(slog.DiscardHandler) // nobody listens there
	x := &flowExport{o: o, out: e, sent: make(map[flowKey][2]counted)}
	from, to := "203.0.113.5:4000", switchtest.HostAddr+":8080"
	in := func(flags uint8, seq uint32) {
		l.Send("up", switchtest.Bytes(switchtest.Packet{EthSrc: switchtest.NextHopMAC, EthDst: switchtest.MAC("up"), Src: from, Dst: to, Proto: header.ProtoTCP, Flags: flags, Seq: seq}))
	}
	in(header.TCPSYN, 100)
	l.Send("c1", switchtest.Bytes(switchtest.From("c1", from, switchtest.Packet{
		Src: switchtest.Stations["c1"] + ":80", Proto: header.ProtoTCP, Flags: header.TCPSYN | header.TCPACK, Seq: 500, Ack: 101,
	})))
	x.active(nil)
	if len(x.sent) != 1 {
		t.Fatalf("a living flow: %v", x.sent)
	}
	in(header.TCPRST, 101)
	infos := make([]conntrack.Info, 8)
	if n, _ := l.Switch.ReadConns(infos, 0); n != 1 || !infos[0].Closed {
		t.Fatalf("%d flows, the first %+v", n, infos[0])
	}
	if x.active(nil); len(x.sent) != 1 {
		t.Errorf("its end is not told yet: %v", x.sent)
	}
	clear(x.sent) // told
	if x.active(nil); len(x.sent) != 0 {
		t.Errorf("told, and exported again: %v", x.sent)
	}
}
