package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// One container floods all the others with broadcasts: of what another pair says to each
// other nothing is lost, whether userspace or the kernel carries it.
func TestBroadcastsCostAnotherPairNothing(t *testing.T) {
	for _, table := range []string{"true", "false"} {
		t.Run("flow-table="+table, func(t *testing.T) {
			const ports, exchanges = 16, 300
			r := newRig(t, "--flow-table="+table)
			var at []*netlab.NS
			var addrs []string
			for i := range ports {
				ns := labtest.New(t, fmt.Sprint("c", i))
				r.must("attach", ns.Name(), "--netns", ns.Path())
				ct := decode[api.Container](r, "inspect", ns.Name())
				at, addrs = append(at, ns), append(addrs, address(t, ct.Endpoints[0].Address))
			}
			server, err := at[1].ListenPacket("udp", addrs[1]+":7")
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			go func() {
				b := make([]byte, 64)
				for {
					n, from, err := server.ReadFrom(b)
					if err != nil {
						return
					}
					server.WriteTo(b[:n], from)
				}
			}()
			client, err := at[2].ListenPacket("udp", addrs[2]+":5000")
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			loud, err := at[0].ListenPacket("udp", addrs[0]+":5000")
			if err != nil {
				t.Fatal(err)
			}
			defer loud.Close()
			ctx, cancel := context.WithCancel(t.Context())
			var flood sync.WaitGroup
			flood.Go(func() {
				tick := time.NewTicker(2 * time.Millisecond)
				defer tick.Stop()
				for ctx.Err() == nil {
					if _, err := loud.WriteTo(make([]byte, 200), &net.UDPAddr{IP: net.IPv4bcast, Port: 9}); err != nil {
						t.Error(err)
						return
					}
					<-tick.C
				}
			})
			defer flood.Wait()
			defer cancel()
			heard := func() uint64 {
				s, err := at[ports-1].Statistics("eth0")
				if err != nil {
					t.Fatal(err)
				}
				return s.RxPackets
			}
			before := heard()
			for end := time.Now().Add(20 * time.Second); heard() < before+10; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("the broadcasts do not arrive")
				}
			}
			to := &net.UDPAddr{IP: net.ParseIP(addrs[1]), Port: 7}
			b := make([]byte, 64)
			for i := range uint32(exchanges) {
				// Nothing is sent again: what is lost is missed.
				if _, err := client.WriteTo(binary.BigEndian.AppendUint32(nil, i), to); err != nil {
					t.Fatal(err)
				}
				client.SetReadDeadline(time.Now().Add(20 * time.Second))
				n, _, err := client.ReadFrom(b)
				if err != nil || n != 4 || binary.BigEndian.Uint32(b) != i {
					t.Fatalf("answer %d: %d bytes, %v, after %d broadcasts", i, n, err, heard()-before)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
}
