package control

import (
	"context"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
)

// A connection that both sides have closed is told within seconds, and once, leaves the list at
// once, and another of the same ends is a flow of its own. What is refused is told with its reason.
func TestFlowsAreToldAsTheyBeginAndEnd(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	if _, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "blue", Subnet: "10.7.0.0/24"}); err != nil {
		t.Fatal(err)
	}
	web, _ := r.attach("web", api.Attach{})
	_, dct := r.attach("db", api.Attach{})
	_, bct := r.attach("blue1", api.Attach{Networks: []api.Connect{{Network: "blue"}}})
	serve(t, r.world.Outside, ":9000", "outside")
	log := follow(t, func(ctx context.Context, fn func(api.Flow) error) error {
		return r.FlowLog(ctx, api.FlowQuery{Container: "web", Begins: true}, fn)
	})
	ends := follow(t, func(ctx context.Context, fn func(api.Flow) error) error {
		return r.FlowLog(ctx, api.FlowQuery{Peer: netlab.OutsideAddr, Port: 9000}, fn)
	})
	outside := func(f api.Flow) bool { return f.PeerAddress == netlab.OutsideAddr+":9000" }
	for range 2 { // the second with the same port
		c, err := web.DialFrom("tcp", ":45678", netlab.OutsideAddr+":9000", 20*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if f := next(t, log, "begin", outside); f.Event != api.FlowBegins || f.Verdict != api.FlowPasses || f.Container != "web" || f.End != nil {
			t.Fatalf("begin: %+v", f)
		}
		list, err := r.Flows(ctx, api.FlowQuery{Port: 9000, Direction: api.FlowOut, Proto: "tcp", Peer: "198.51.100.0/24"})
		if err != nil || len(list) != 1 || list[0].Carrier == "" {
			t.Fatalf("while it is there: %+v, %v", list, err)
		}
		if _, err := io.ReadAll(c); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		c.Close()
		for _, told := range []<-chan api.Flow{log, ends} {
			f := next(t, told, "end", outside)
			if f.Event != api.FlowEnds || f.State != "closing" || f.SentPackets < 4 || f.SentPackets > 6 || f.End == nil || time.Since(began) > 20*time.Second {
				t.Errorf("end after %s: %+v", time.Since(began), f)
			}
		}
		if list, err := r.Flows(ctx, api.FlowQuery{Port: 9000}); err != nil || len(list) != 0 {
			t.Errorf("closed: %+v, %v", list, err)
		}
		if nat, err := r.NAT(ctx, api.NATQuery{}); err != nil || !slices.ContainsFunc(nat, func(n api.NATEntry) bool { return n.State == "closing" }) {
			t.Errorf("its port is held: %+v, %v", nat, err)
		}
		time.Sleep(1500 * time.Millisecond) // the socket may be used again: its initial number has to grow
	}
	if _, err := fetchFast(web, addr(bct)+":80"); err == nil {
		t.Error("web reaches blue")
	}
	if f := next(t, log, "refusal", func(f api.Flow) bool { return f.Event == api.FlowRefused }); f.Verdict != "route-isolated" || f.Peer != "blue1" || f.Container != "web" {
		t.Errorf("refused: %+v", f)
	}
	for _, bad := range []api.FlowQuery{{State: "nosuch"}, {Proto: "xtp"}, {Direction: "up"}, {Peer: "nosuch"}, {Container: "nosuch"}} {
		if _, err := r.Flows(ctx, bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	if list, err := r.Flows(ctx, api.FlowQuery{Peer: addr(dct)}); err != nil || len(list) != 0 {
		t.Errorf("flows with db: %+v, %v", list, err)
	}
}
