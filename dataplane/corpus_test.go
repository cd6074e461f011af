package dataplane_test

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// mutateEnv is the number of frames of TestF32MutatedFrames.
const mutateEnv = "VSWITCH_MUTATE"

var ingress = []string{"c1", "c2", "c4", "c5", "host1", "up"}

// inspector is a switch whose every output is looked at: it must be well formed
// and must not carry an address to where it must not be known.
type inspector struct {
	*Lab
	all  []string
	last []string // the frames since the last look, for the report
	out  int
}

func newInspector(t *testing.T, guarded bool) *inspector {
	l := New(t)
	if guarded {
		l.Guard()
	}
	l.Publish(8080, "c1", 80)
	i := &inspector{Lab: l}
	for name := range Stations {
		i.all = append(i.all, name)
		l.Memory(name).SetSink(func(data []byte, off frame.Offload) { i.judge(name, data, off) })
	}
	slices.Sort(i.all)
	return i
}

// step runs the switch on what was injected.
func (i *inspector) step() {
	defer func() {
		if p := recover(); p != nil {
			i.T.Fatalf("panic: %v; frames:\n%s", p, i.last)
		}
	}()
	for i.Switch.Step() > 0 {
	}
	i.last = i.last[:0]
}

func (i *inspector) send(from string, f []byte, off frame.Offload) {
	i.last = append(i.last, fmt.Sprintf("%s %x %+v\n", from, f, off))
	i.Memory(from).Inject(f, off)
}

func (i *inspector) judge(at string, data []byte, off frame.Offload) {
	i.out++
	var l header.Layers
	if !header.Parse(data, &l) {
		i.fail(at, data, "is malformed")
		return
	}
	if !off.Fits(&l) {
		i.fail(at, data, fmt.Sprintf("does not fit its offload facts %+v", off))
	}
	if l.Src.IsMulticast() || l.Src.IsZero() {
		i.fail(at, data, "has an impossible source")
	}
	if at == "up" && l.Kind >= header.KindIP {
		if l.Tuple.Src.String() != HostAddr {
			i.fail(at, data, "shows "+l.Tuple.Src.String()+" outside")
		}
		if d := l.Tuple.Dst.NetIP(); d.Is4() && ownSubnet(d.As4()) {
			i.fail(at, data, "leaves for "+d.String())
		}
	}
}

// ownSubnet reports whether an address is of one of the three networks. Others
// of 10.0.0.0/8 are behind the default route, like all the world.
func ownSubnet(a [4]byte) bool { return a[0] == 10 && a[1] >= 1 && a[1] <= 3 && a[2] == 0 }

func (i *inspector) fail(at string, data []byte, why string) {
	i.T.Fatalf("a frame to %s %s: %s\n%x; of:\n%.20000s", at, why, Describe(data), data, i.last)
}

// drain reads a capture until the end of the test, so that all of its code runs.
func drain(t *testing.T, l *Lab) {
	c, err := dataplane.StartCapture(l.Switch, dataplane.CaptureConfig{Ports: allPorts(l)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, ok, err := c.Next(context.Background()); !ok || err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
}

func allPorts(l *Lab) (ids []frame.PortID) {
	for name := range Stations {
		ids = append(ids, l.Port(name))
	}
	return ids
}

// Every truncation of every packet is survived, on the frame's length alone and
// with the length fields put right.
func TestC28EveryTruncation(t *testing.T) {
	i := newInspector(t, false)
	for _, from := range ingress {
		for _, c := range Corpus(from) {
			for n := range len(c.Frame) {
				i.send(from, c.Frame[:n], frame.Offload{})
				if cut := slices.Clone(c.Frame[:n]); relength(cut) {
					i.send(from, cut, frame.Offload{})
				}
			}
			i.step()
			i.Advance(time.Second)
		}
	}
	if i.Dropped("c1", dataplane.DropMalformed) == 0 {
		t.Error("no frame was found malformed")
	}
}

// relength makes the IP length fields of an untagged frame agree with it.
func relength(f []byte) bool {
	if len(f) < header.EthernetLen+40 {
		return false
	}
	ip := f[header.EthernetLen:]
	switch uint16(f[12])<<8 | uint16(f[13]) {
	case header.TypeIPv4:
		ip[2], ip[3] = byte(len(ip)>>8), byte(len(ip))
		if int(ip[0]&15)*4 <= len(ip) && ip[0]&15 >= 5 {
			SumIPv4(f)
		}
		return true
	case header.TypeIPv6:
		ip[4], ip[5] = byte((len(ip)-40)>>8), byte(len(ip)-40)
		return true
	}
	return false
}

// The corpus, whole and damaged, with a capture on every port.
func TestC39BadFramesUnderCapture(t *testing.T) {
	i := newInspector(t, true)
	drain(t, i.Lab)
	mutate(i, rand.New(rand.NewSource(39)), 50_000)
	for _, from := range ingress {
		for _, c := range Corpus(from) {
			for n := 0; n <= len(c.Frame); n++ {
				i.send(from, c.Frame[:n], frame.Offload{})
			}
			i.step()
		}
	}
}

// TestF32MutatedFrames sends frames that were sound once: 200,000 of them, or as
// many as VSWITCH_MUTATE says (make mutate).
func TestF32MutatedFrames(t *testing.T) {
	n := 200_000
	if s := os.Getenv(mutateEnv); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatalf("%s=%s: %v", mutateEnv, s, err)
		}
	}
	seed := time.Now().UnixNano()
	t.Logf("%d frames, seed %d", n, seed)
	rng := rand.New(rand.NewSource(seed))
	for _, guarded := range []bool{false, true} {
		i := newInspector(t, guarded)
		mutate(i, rng, n/2)
		t.Logf("guarded %v: %d frames came out", guarded, i.out)
		if i.out < n/100 {
			t.Errorf("%d of %d frames came out: the mutations leave nothing to look at", i.out, n/2)
		}
	}
}

// mutate sends n frames, in batches, from all sides, with the offload facts of
// hostile senders.
func mutate(i *inspector, rng *rand.Rand, n int) {
	corpora := map[string][]Named{}
	for _, from := range ingress {
		corpora[from] = Corpus(from)
	}
	vnet := make([]byte, frame.VnetHdrLen)
	for sent := 0; sent < n; {
		from := ingress[rng.Intn(len(ingress))]
		for range 1 + rng.Intn(frame.BatchSize) {
			c := corpora[from]
			f := slices.Clone(c[rng.Intn(len(c))].Frame)
			for range rng.Intn(4) {
				f = damage(rng, f, c)
			}
			var off frame.Offload
			if rng.Intn(4) == 0 {
				rng.Read(vnet)
				vnet[0], vnet[1] = byte(rng.Intn(4)), []byte{0, 1, 3, 4, 5, 0x81, 7}[rng.Intn(7)]
				vnet[7], vnet[9] = 0, 0 // checksum within the first 512 bytes
				if o, ok := frame.DecodeVnetHdr(vnet, len(f)); ok {
					off = o
				}
			}
			i.send(from, f, off)
			sent++
		}
		i.step()
		if rng.Intn(8) == 0 {
			i.Advance(time.Duration(rng.Intn(100)) * time.Second)
		}
	}
}

// damage changes a frame in one place.
func damage(rng *rand.Rand, f []byte, c []Named) []byte {
	if len(f) < 2 {
		return f
	}
	at := rng.Intn(len(f))
	if rng.Intn(2) == 0 {
		at = min(len(f)-1, 12+rng.Intn(60)) // the headers
	}
	switch rng.Intn(8) {
	case 0:
		f[at] ^= 1 << rng.Intn(8)
	case 1:
		f[at] = []byte{0, 1, 0x7f, 0x80, 0xff, 4, 5, 6, 17, 44, 58}[rng.Intn(11)]
	case 2:
		f = f[:at]
	case 3:
		f = append(f, make([]byte, rng.Intn(1600))...)
	case 4: // the tail of another frame
		o := c[rng.Intn(len(c))].Frame
		f = append(f[:at], o[min(at, len(o)):]...)
	case 5:
		relength(f)
	case 6:
		if len(f) >= header.EthernetLen+20 && f[12] == 8 && f[14]&15 >= 5 && len(f) >= header.EthernetLen+int(f[14]&15)*4 {
			SumIPv4(f)
		}
	case 7:
		copy(f[at:], f[:rng.Intn(len(f))])
	}
	return f
}
