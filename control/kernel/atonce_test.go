package kernel

import (
	"encoding/binary"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/header"
)

// TestTwoCPUsCountAll: frames of one direction that two CPUs carry at once are all counted,
// and the numbers of a connection end where its last segment does.
func TestTwoCPUsCountAll(t *testing.T) {
	s := newInKernel(t)
	decide, seal := s.program(t, programsProgVswDecide, "verdict"), s.program(t, programsProgVswSeal, "verdict")
	frame := eth(ip4(peer4, host4, udp(5000, 7)))
	key := *keyOf(frame, programsProgVswDecide)
	row := &s.k.flows.rows[2]
	row.Begin(&flowmap.Decision{Key: key, MTU: 1500, In: testIfindex, Out: 2, Match: [12]byte(frame)})
	row.State = flowmap.Active
	const each = 200_000
	marked := contextOf(given{cb: [5]uint32{testStamp[0], testStamp[1], 2, row.Generation, uint32(flowtest.Carried)}})
	atOnce(t, func(int) {
		opts := &ebpf.RunOptions{Data: frame, Context: marked, Repeat: each}
		if verdict, err := seal.Run(opts); err != nil || verdict != flowtest.Redirect {
			t.Errorf("verdict %d, %v", verdict, err)
		}
	})
	if want := uint64(2 * each * len(frame)); row.Packets != 2*each || row.Bytes != want {
		t.Errorf("%d frames and %d bytes are counted, want %d and %d", row.Packets, row.Bytes, 2*each, want)
	}

	// A CPU that has read a number before another wrote it may write an older one; the
	// next segment brings the number on.
	seg := eth(ip4(peer4, host4, segment{header.ProtoTCP, append(tcp(5000, 80).bytes[:20], "payload"...)}))
	seg[14+20+13] = 0x10
	key = *keyOf(seg, programsProgVswDecide)
	row, other := &s.k.flows.rows[4], &s.k.flows.rows[5]
	row.Begin(&flowmap.Decision{Key: key, MTU: 1500, In: testIfindex, Out: 2, Match: [12]byte(seg), Flags: flowmap.Rewrite})
	row.State = flowmap.Active
	row.Half = flowmap.Half{SeqEnd: 1000, Ack: 1, Edge: 1 << 16, Window: 1 << 16}
	other.Half = flowmap.Half{SeqEnd: 1, Ack: 1000, Edge: 1 << 30, Window: 1 << 30}
	if err := s.k.flows.insert(key, 4); err != nil {
		t.Fatal(err)
	}
	const segments = 5000
	at := func(n int) []byte {
		b := slices.Clone(seg)
		binary.BigEndian.PutUint32(b[14+20+4:], uint32(1000+n*len("payload")))
		binary.BigEndian.PutUint32(b[14+20+8:], 1)
		return b
	}
	atOnce(t, func(cpu int) {
		for n := cpu; n < segments; n += 2 {
			decides(t, decide, at(n))
		}
	})
	decides(t, decide, at(segments))
	if want := uint32(1000 + (segments+1)*len("payload")); row.Half.SeqEnd != want || row.Half.Ack != 1 {
		t.Errorf("the half is %+v, want its end at %d", row.Half, want)
	}
}

func atOnce(t *testing.T, f func(cpu int)) {
	t.Helper()
	var threads sync.WaitGroup
	for cpu := range 2 {
		threads.Go(func() {
			runtime.LockOSThread() // and no unlock: the thread ends, and with it where it may run
			onCPU(cpu)()
			f(cpu)
		})
	}
	threads.Wait()
}

// decides lets a socket filter see a frame that the kernel carries.
func decides(t *testing.T, p *ebpf.Program, frame []byte) {
	opts := &ebpf.RunOptions{Data: slices.Concat(frame[:14], frame)}
	if verdict, err := p.Run(opts); err != nil || verdict != 0 {
		t.Errorf("verdict %d, %v", verdict, err)
	}
}
