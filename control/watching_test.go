package control

import (
	"context"
	"io"
	"net"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/internal/netlab"
)

// follow reads a stream until the end of the test. It returns when the daemon has begun to
// answer: what happens from then on is in the stream.
func follow[T any](t *testing.T, read func(context.Context, func(T) error) error) <-chan T {
	t.Helper()
	ch := make(chan T, 4096)
	ctx, cancel := context.WithCancel(context.Background())
	answered, done := make(chan struct{}), make(chan error, 1)
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotFirstResponseByte: sync.OnceFunc(func() { close(answered) })})
	go func() { done <- read(ctx, func(v T) error { ch <- v; return nil }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-answered:
	case <-time.After(30 * time.Second):
		t.Fatal("no answer after 30 s")
	}
	return ch
}

// next waits for what matches.
func next[T any](t *testing.T, ch <-chan T, what string, matches func(T) bool) T {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case v := <-ch:
			if matches(v) {
				return v
			}
		case <-deadline:
			t.Fatalf("no %s after 30 s", what)
		}
	}
}

func TestEventsTellWhatHappens(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	all := func(q api.EventQuery) (list []api.Event) {
		t.Helper()
		q.Once = true
		if err := r.Events(ctx, q, func(e api.Event) error { list = append(list, e); return nil }); err != nil {
			t.Fatal(err)
		}
		return list
	}
	zero := uint64(0)
	first := all(api.EventQuery{Since: &zero})
	if len(first) < 2 || first[0].Type != api.EventUplinkChanged || first[1].Type != api.EventNetworkCreate || first[1].Network != "bridge" {
		t.Fatalf("of the start: %+v", first)
	}
	live := follow(t, func(ctx context.Context, fn func(api.Event) error) error {
		return r.Events(ctx, api.EventQuery{Since: &first[len(first)-1].Seq}, fn)
	})
	want := func(kind string, matches func(api.Event) bool) {
		t.Helper()
		e := next(t, live, kind, func(e api.Event) bool { return e.Type == kind })
		if e.Message == "" || e.Time.IsZero() || e.Seq <= first[0].Seq || !matches(e) {
			t.Errorf("%s: %+v", kind, e)
		}
	}
	if _, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "blue", Subnet: "10.7.0.0/24"}); err != nil {
		t.Fatal(err)
	}
	want(api.EventNetworkCreate, func(e api.Event) bool { return e.Network == "blue" && e.Addresses[0] == "10.7.0.0/24" })
	web, ct := r.attach("web", api.Attach{Publish: []string{"8080:80"}})
	want(api.EventAttach, func(e api.Event) bool {
		return e.Container == "web" && e.Network == "bridge" && e.Addresses[0] == ct.Endpoints[0].Address && slices.Equal(e.Ports, []string{"8080:80/tcp"})
	})
	if _, err := r.Connect(ctx, "web", api.Connect{Network: "blue"}); err != nil {
		t.Fatal(err)
	}
	want(api.EventConnect, func(e api.Event) bool { return e.Network == "blue" })
	if _, err := r.Publish(ctx, "web", []string{"127.0.0.1:9000-9001:9000-9001/udp"}); err != nil {
		t.Fatal(err)
	}
	want(api.EventPublish, func(e api.Event) bool { return e.Ports[0] == "127.0.0.1:9000-9001:9000-9001/udp" })
	if err := r.Unpublish(ctx, "web", []string{"8080:80"}); err != nil {
		t.Fatal(err)
	}
	want(api.EventUnpublish, func(e api.Event) bool { return e.Container == "web" && e.Ports[0] == "8080:80/tcp" })
	if err := r.Disconnect(ctx, "web", "blue"); err != nil {
		t.Fatal(err)
	}
	want(api.EventDisconnect, func(e api.Event) bool { return e.Network == "blue" })

	// A stolen MAC address: the container takes the gateway's.
	gw, err := r.Network(ctx, "bridge")
	if err != nil {
		t.Fatal(err)
	}
	mac, err := net.ParseMAC(gw.GatewayMAC)
	if err != nil {
		t.Fatal(err)
	}
	frame := slices.Concat([]byte{2, 2, 2, 2, 2, 2}, mac, []byte{0x88, 0xb5}, make([]byte, 50))
	inject(t, web, "eth0", frame)
	next(t, live, "spoof", func(e api.Event) bool {
		return e.Type == api.EventMACSpoof && e.Container == "web" && e.MAC == gw.GatewayMAC
	})

	if err := r.Detach(ctx, "web"); err != nil {
		t.Fatal(err)
	}
	want(api.EventDetach, func(e api.Event) bool { return e.Container == "web" })
	if err := r.RemoveNetwork(ctx, "blue"); err != nil {
		t.Fatal(err)
	}
	want(api.EventNetworkRemove, func(e api.Event) bool { return e.Network == "blue" })

	if list := all(api.EventQuery{SinceTime: time.Now().Add(time.Hour)}); len(list) != 0 {
		t.Errorf("of the future: %+v", list)
	}
	if list := all(api.EventQuery{SinceTime: time.Now().Add(-time.Hour)}); len(list) < 10 {
		t.Errorf("of the last hour: %d", len(list))
	}
	// The numbers go on over a restart.
	last := all(api.EventQuery{Since: &zero})
	r.stop()
	r.start()
	again := all(api.EventQuery{Since: &last[len(last)-1].Seq})
	if len(again) == 0 || again[0].Seq <= last[len(last)-1].Seq {
		t.Errorf("after a restart: %+v", again)
	}
}

func TestFlowsNameBothSides(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	web, wct := r.attach("web", api.Attach{Publish: []string{"8080:80"}})
	db, dct := r.attach("db", api.Attach{})
	serve(t, web, ":80", "web")
	serve(t, db, ":5432", "db")
	serve(t, r.world.Outside, ":9000", "outside")
	serve(t, r.world.Host, ":7000", "host")
	log := follow(t, func(ctx context.Context, fn func(api.Flow) error) error {
		return r.FlowLog(ctx, api.FlowQuery{Container: "web", Begins: true}, fn)
	})

	hold := func(ns *netlab.NS, at string) {
		t.Helper()
		c, err := ns.Dial("tcp", at, 20*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		io.ReadAll(c)
	}
	hold(web, addr(dct)+":5432")
	hold(web, netlab.OutsideAddr+":9000")
	hold(web, "10.88.0.1:7000")
	hold(r.world.Outside, netlab.HostAddr+":8080")
	hold(db, netlab.HostAddr+":8080")

	for _, want := range []struct {
		of, kind, direction, peer, peerAddr, outside string
	}{
		{"web", "bridged", api.FlowOut, "db", addr(dct) + ":5432", ""},
		{"db", "bridged", api.FlowIn, "web", addr(wct) + ":", ""},
		{"web", "masquerade", api.FlowOut, "", netlab.OutsideAddr + ":9000", netlab.HostAddr + ":"},
		{"web", "bridged", api.FlowOut, "host", "10.88.0.1:7000", ""},
		{"web", "publish", api.FlowIn, "", netlab.OutsideAddr + ":", netlab.HostAddr + ":8080"},
		{"web", "hairpin", api.FlowIn, "db", addr(dct) + ":", netlab.HostAddr + ":8080"},
		{"db", "hairpin", api.FlowOut, "web", addr(wct) + ":80", netlab.HostAddr + ":8080"},
	} {
		list, err := r.Flows(ctx, api.FlowQuery{Container: want.of})
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(list, func(f api.Flow) bool {
			return f.Container == want.of && f.Kind == want.kind && f.Direction == want.direction && f.Peer == want.peer &&
				strings.HasPrefix(f.PeerAddress, want.peerAddr) && strings.HasPrefix(f.Outside, want.outside)
		})
		if i < 0 {
			t.Errorf("no flow %+v in %+v", want, list)
			continue
		}
		if f := list[i]; f.SentPackets == 0 || f.ReceivedPackets == 0 || f.SentBytes == 0 || f.ReceivedBytes == 0 || f.Proto != "tcp" || f.Age <= 0 || f.Network != "bridge" {
			t.Errorf("flow %+v", f)
		}
	}
	if list, err := r.Flows(ctx, api.FlowQuery{Limit: 2}); err != nil || len(list) != 2 {
		t.Errorf("two at most: %+v, %v", list, err)
	}
	if _, err := r.Flows(ctx, api.FlowQuery{Container: "nosuch"}); !client.IsNotFound(err) {
		t.Errorf("flows of nobody: %v", err)
	}
	if _, err := r.FlushNAT(ctx, api.NATFlush{}); err != nil {
		t.Fatal(err)
	}
	f := next(t, log, "begin of the hairpin flow", func(f api.Flow) bool { return f.Kind == "hairpin" })
	if f.Container != "web" || f.Peer != "db" || f.Event != api.FlowBegins || f.Verdict != api.FlowPasses || f.End != nil {
		t.Errorf("logged %+v", f)
	}
	f = next(t, log, "end of the hairpin flow", func(f api.Flow) bool { return f.Kind == "hairpin" && f.Event == api.FlowEnds })
	if f.Container != "web" || f.Peer != "db" || f.Direction != api.FlowIn || f.End == nil || f.End.Before(f.Start) || time.Since(f.Start) > time.Minute {
		t.Errorf("logged %+v", f)
	}
}
