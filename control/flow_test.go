package control

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestFlowTable: long flows of every way are carried by the kernel, and their bytes
// arrive as they were sent.
func TestFlowTable(t *testing.T) {
	r := newRig(t)
	worldIsUp(t, r)
	r.start()
	if _, err := r.CreateNetwork(t.Context(), api.NetworkCreate{Name: "dual", IPv6: yes()}); err != nil {
		t.Fatal(err)
	}
	on := []api.Connect{{Network: "dual"}}
	a, _ := r.attach("a", api.Attach{Networks: on})
	b, bct := r.attach("b", api.Attach{Networks: on, Publish: []string{"8080:80"}})
	data := make([]byte, 32<<20)
	rand.NewChaCha8([32]byte{9}).Read(data)
	want := sha256.Sum256(data)
	send(t, b, ":80", data)
	send(t, r.world.Outside, ":9000", data)
	send(t, r.world.Host, ":7000", data)
	dual, err := r.Network(t.Context(), "dual")
	if err != nil {
		t.Fatal(err)
	}
	gateways := []string{dual.Subnets[0].Gateway, dual.Subnets[1].Gateway}
	for f, host := range []string{netlab.HostAddr, netlab.HostAddr6} {
		for _, way := range []struct {
			name string
			from *netlab.NS
			to   string
		}{
			{"between containers", a, join(addrsOf(t, bct)[f], "80")},
			{"host to container", r.world.Host, join(addrsOf(t, bct)[f], "80")},
			{"container to host", a, join(gateways[f], "7000")},
			{"masqueraded", a, join([]string{netlab.OutsideAddr, netlab.OutsideAddr6}[f], "9000")},
			{"published", r.world.Outside, join(host, "8080")},
			{"hairpinned", a, join(host, "8080")},
			{"from localhost", r.world.Host, join([]string{"127.0.0.1", "::1"}[f], "8080")},
		} {
			t.Run(way.name+" "+model.Families[f].String(), func(t *testing.T) {
				carried := uint64(0)
				for try := 0; try < 3 && carried < 100; try++ { // a neighbour that is heard gives all flows back
					before := r.stats().Flows
					got, err := fetchAll(way.from, way.to)
					if err != nil || sha256.Sum256(got) != want {
						t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
					}
					after := r.stats()
					t.Logf("%+v -> %+v; %v", before, after.Flows, after.Drops)
					carried = after.Flows.Frames - before.Frames
				}
				if carried < 100 {
					t.Errorf("the kernel carried %d frames of %d bytes", carried, len(data))
				}
			})
		}
	}
}

func (r *rig) stats() api.Stats {
	r.t.Helper()
	st, err := r.Stats(r.t.Context(), api.StatsQuery{})
	if err != nil {
		r.t.Fatal(err)
	}
	return st
}

// TestFlowTableThroughALife: a connection that the kernel carries is seen whole by
// a capture, ends in conntrack with its FINs, and the table works for cables that an
// earlier daemon made.
func TestFlowTableThroughALife(t *testing.T) {
	r := newRig(t)
	r.start()
	a, _ := r.attach("a", api.Attach{})
	l, err := r.world.Outside.Listen("tcp", ":9000")
	if err != nil {
		t.Fatal(err)
	}
	labtest.Serve(t, l, func(c net.Conn) { _, _ = io.Copy(c, c) })
	talk := func(c net.Conn, n int) {
		t.Helper()
		b := []byte("ping")
		for range n {
			c.SetDeadline(time.Now().Add(20 * time.Second))
			if _, err := c.Write(b); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, b); err != nil || string(b) != "ping" {
				t.Fatal(string(b), err)
			}
		}
	}
	for _, life := range []string{"first", "second"} {
		if life == "second" {
			r.stop()
			r.start()
		}
		c, err := a.Dial("tcp", netlab.OutsideAddr+":9000", 20*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		before := r.stats().Flows.Frames
		eventually(t, "the kernel carries the connection of the "+life+" daemon", func() bool {
			talk(c, 100)
			return r.stats().Flows.Frames-before > 500
		})
		seen := r.captured("a", func() { talk(c, 50) })
		if seen < 100 {
			t.Errorf("%s daemon: the capture has %d frames of 50 exchanges", life, seen)
		}
		before = r.stats().Flows.Frames
		eventually(t, "the kernel carries it again", func() bool {
			talk(c, 400)
			return r.stats().Flows.Frames-before > 500
		})
		c.Close()
		eventually(t, "its end is seen", func() bool {
			nat, err := r.NAT(t.Context(), api.NATQuery{})
			return err == nil && len(nat) == 1 && nat[0].State == "closing" && nat[0].Packets > 1000
		})
		if _, err := r.FlushNAT(t.Context(), api.NATFlush{}); err != nil {
			t.Fatal(err)
		}
	}
}

// captured is the number of frames that a capture of a container has while do runs.
func (r *rig) captured(name string, do func()) (frames int) {
	r.t.Helper()
	ctx, stop := context.WithCancel(r.t.Context())
	var out bytes.Buffer
	done := make(chan error)
	started := make(chan struct{})
	go func() {
		done <- r.Capture(ctx, client.CaptureConfig{Targets: []string{name}, Started: func() { close(started) }}, &out)
	}()
	<-started
	do()
	stop()
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
	ng, err := pcapgo.NewNgReader(&out, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		r.t.Fatal(err)
	}
	for {
		if _, _, err := ng.ReadPacketData(); err != nil {
			return frames
		}
		frames++
	}
}

// TestNoFlowTable: a daemon that was told so sees every frame.
func TestNoFlowTable(t *testing.T) {
	r := newRig(t)
	r.cfg.NoFlowTable = true
	r.start()
	a, _ := r.attach("a", api.Attach{})
	b, bct := r.attach("b", api.Attach{})
	data := make([]byte, 8<<20)
	send(t, b, ":80", data)
	if got, err := fetchAll(a, join(addrsOf(t, bct)[0], "80")); err != nil || len(got) != len(data) {
		t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
	}
	if st := r.stats(); st.Flows != (api.FlowStats{}) {
		t.Errorf("flow table %+v", st.Flows)
	}
}

// TestL01FlowTableKeepsOrder: no datagram of a flow comes twice and none overtakes another, whoever
// carries it and however often that changes.
func TestL01FlowTableKeepsOrder(t *testing.T) {
	r := newRig(t)
	r.start()
	a, _ := r.attach("a", api.Attach{})
	b, bct := r.attach("b", api.Attach{Publish: []string{"5353:5353/udp"}})
	total := uint64(0)
	for _, way := range []struct {
		name     string
		from, at *netlab.NS
		to       string
		gap      time.Duration
	}{
		{"between containers", a, b, addr(bct) + ":5353", 20 * time.Microsecond},
		{"between containers, flooded", a, b, addr(bct) + ":5353", 0},
		{"host to container", r.world.Host, b, addr(bct) + ":5353", 20 * time.Microsecond},
		{"host to container, flooded", r.world.Host, b, addr(bct) + ":5353", 0},
		{"container to host", a, r.world.Host, "10.88.0.1:5354", 20 * time.Microsecond},
		{"published", r.world.Outside, b, netlab.HostAddr + ":5353", 20 * time.Microsecond},
		{"published, flooded", r.world.Outside, b, netlab.HostAddr + ":5353", 0},
	} {
		t.Run(way.name, func(t *testing.T) {
			in, err := way.at.ListenPacket("udp", way.to[strings.LastIndexByte(way.to, ':'):])
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			resolve(t, way.from, way.to, in)
			before := r.stats().Flows.Frames
			done := make(chan uint64)
			go func() { done <- numbered(t, way.from, way.to, way.gap, time.Second) }()
			stop := make(chan struct{})
			var others sync.WaitGroup
			others.Go(func() {
				// Each of them takes the flow back to the daemon.
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					case <-time.After(100 * time.Millisecond):
					}
					name := "n" + strconv.Itoa(i%2)
					if _, err := r.CreateNetwork(context.Background(), api.NetworkCreate{Name: name}); err == nil {
						r.RemoveNetwork(context.Background(), name)
					}
				}
			})
			got, late, twice, last := 0, 0, 0, uint64(0)
			seen := make(map[uint64]bool)
			buf := make([]byte, 64)
			var sent uint64
			for sent == 0 || last < sent {
				select {
				case sent = <-done:
					close(stop)
				default:
				}
				in.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
				n, _, err := in.ReadFrom(buf)
				if err != nil {
					if sent != 0 {
						break
					}
					continue
				}
				if n != 8 {
					t.Fatalf("datagram of %d bytes", n)
				}
				got++
				i := binary.BigEndian.Uint64(buf)
				switch {
				case seen[i]:
					twice++
				case i < last:
					late++
					t.Logf("late %d after %d", i, last)
				}
				seen[i], last = true, max(last, i)
			}
			others.Wait()
			carried := r.stats().Flows.Frames - before
			total += carried
			t.Logf("%d sent, %d came; the kernel carried %d", sent, got, carried)
			if twice > 0 || late > 0 || got == 0 {
				t.Errorf("%d of %d datagrams came twice, %d late", twice, got, late)
			}
		})
	}
	if total == 0 { // of a single way: a machine with more load than CPUs may not manage in a second
		t.Error("the kernel carried none")
	}
}

// resolve has the sender's kernel find its neighbour: what waits there for the answer
// (arp_queue) is sent by the CPU that has received it, while another one sends already.
func resolve(t *testing.T, from *netlab.NS, to string, in net.PacketConn) {
	t.Helper()
	c, err := from.Dial("udp", to, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write([]byte("first")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := in.ReadFrom(make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
}

// numbered sends numbered datagrams from one CPU: from two the kernel itself lets one
// overtake another.
func numbered(t *testing.T, from *netlab.NS, to string, gap, window time.Duration) (sent uint64) {
	c, err := from.Dial("udp", to, time.Second)
	if err != nil {
		t.Error(err)
		return 1
	}
	defer c.Close()
	runtime.LockOSThread() // and never unlocked: the thread ends with its affinity
	var one unix.CPUSet
	one.Set(0)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Error(err)
	}
	var buf [8]byte
	for end := time.Now().Add(window); time.Now().Before(end); {
		sent++
		binary.BigEndian.PutUint64(buf[:], sent)
		if _, err := c.Write(buf[:]); err != nil {
			continue // nobody listens yet, or a queue is full
		}
		for next := time.Now().Add(gap); time.Now().Before(next); {
		}
	}
	return sent
}
