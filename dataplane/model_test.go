package dataplane_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// model is a switch at layer 2 as one would write it on a slate: no batches, no
// tables of a fixed size, no regard for speed. It knows one network.
type model struct {
	ports    map[string]*modelPort
	stations map[modelKey]*modelStation
	now      time.Duration
}

type modelPort struct {
	mac      header.MAC
	guarded  bool
	isolated bool
	host     bool
	vlan     int
	trunk    map[int]bool
}

type modelKey struct {
	vlan int
	mac  header.MAC
}

type modelStation struct {
	port    string
	pinned  bool
	heard   time.Duration
	home    string
	moves   int
	since   time.Duration
	settled bool // since is set
}

const modelGateway = "host1"

// receive returns the frames that leave, by port.
func (m *model) receive(at string, f []byte) map[string][]byte {
	p := m.ports[at]
	vlan, f, ok := m.untag(p, f)
	if !ok {
		return nil
	}
	dst, src := header.MAC(f[0:6]), header.MAC(f[6:12])
	gateway := m.ports[modelGateway].mac
	switch {
	case src[0]&1 == 1 || src == header.MAC{}:
		return nil
	case bytes.Equal(dst[:5], []byte{1, 0x80, 0xc2, 0, 0}) && dst[5] < 16:
		return nil
	case p.host && src != gateway, !p.host && src == gateway:
		return nil
	case p.guarded && src != p.mac:
		return nil
	}
	if !p.host && !p.guarded && !m.learn(modelKey{vlan, src}, at) {
		return nil
	}
	switch {
	case dst == gateway && p.host:
		return nil
	case dst == gateway: // in whatever VLAN
		return map[string][]byte{modelGateway: f}
	}
	out := map[string][]byte{}
	if s := m.stations[modelKey{vlan, dst}]; s != nil && dst[0]&1 == 0 {
		if s.port != at && !(p.isolated && m.ports[s.port].isolated) {
			out[s.port] = m.tag(m.ports[s.port], vlan, f)
		}
		return out
	}
	for name, o := range m.ports {
		if name != at && (o.vlan == vlan || o.trunk[vlan]) && !(p.isolated && o.isolated) {
			out[name] = m.tag(o, vlan, f)
		}
	}
	return out
}

func (m *model) untag(p *modelPort, f []byte) (vlan int, plain []byte, ok bool) {
	isTag := func(b []byte) bool {
		t := binary.BigEndian.Uint16(b)
		return t == header.TypeVLAN || t == header.TypeQinQ
	}
	if !isTag(f[12:]) {
		return p.vlan, f, true
	}
	if binary.BigEndian.Uint16(f[12:]) != header.TypeVLAN || isTag(f[16:]) {
		return 0, nil, false
	}
	id := int(binary.BigEndian.Uint16(f[14:]) & 0xfff)
	plain = append(bytes.Clone(f[:12]), f[16:]...)
	if id == 0 {
		return p.vlan, plain, true
	}
	return id, plain, p.trunk[id]
}

func (m *model) tag(p *modelPort, vlan int, f []byte) []byte {
	if p.vlan == vlan {
		return f
	}
	return Tag(f, header.TypeVLAN, uint16(vlan))
}

// learn reports whether the frame may go on.
func (m *model) learn(k modelKey, at string) bool {
	s := m.stations[k]
	switch {
	case s == nil:
		m.stations[k] = &modelStation{port: at, heard: m.now}
		return true
	case s.pinned:
		return s.port == at
	case s.port == at:
		s.heard = m.now
		return true
	case s.moves > 5 && m.now-s.since < time.Minute:
		return false
	}
	s.heard = m.now
	if s.moves > 5 || !s.settled || m.now-s.since >= 10*time.Second {
		s.home, s.moves, s.since, s.settled = s.port, 0, m.now, true
	}
	if s.moves++; s.moves > 5 {
		s.port, s.since = s.home, m.now
		return true // the frame that was one too many still passes
	}
	s.port = at
	return true
}

func (m *model) advance(d time.Duration) {
	m.now += d
	for k, s := range m.stations {
		if !s.pinned && m.now-s.heard > 300*time.Second {
			delete(m.stations, k)
		}
	}
}

// world configures a Lab at random and describes it to a model.
func world(t *testing.T, rng *rand.Rand) (*Lab, *model) {
	l := New(t)
	m := &model{ports: map[string]*modelPort{}, stations: map[modelKey]*modelStation{}}
	for _, name := range []string{"c1", "c2", "c3", "host1"} {
		p := &modelPort{mac: MAC(name), host: name == "host1", trunk: map[int]bool{}}
		if !p.host {
			p.guarded, p.isolated = rng.Intn(3) == 0, rng.Intn(3) == 0
			p.vlan = []int{0, 0, 10}[rng.Intn(3)]
			if rng.Intn(3) == 0 {
				for _, v := range []int{10, 20} {
					p.trunk[v] = v != p.vlan && rng.Intn(2) == 0
				}
			}
		}
		m.ports[name] = p
		m.stations[modelKey{p.vlan, p.mac}] = &modelStation{port: name, pinned: true}
		l.Configure(name, func(c *dataplane.PortConfig) {
			c.Guarded, c.VLAN, c.StormRate = p.guarded, uint16(p.vlan), -1
			if p.isolated {
				c.Groups = []dataplane.GroupID{policy.Isolated}
			}
			for v, on := range p.trunk {
				if on {
					c.Trunk = append(c.Trunk, dataplane.VLANRange{First: uint16(v), Last: uint16(v)})
				}
			}
		})
	}
	return l, m
}

// Random frames at random ports of random configurations leave the switch as
// they leave the model.
func TestL01L17ModelSwitchAgrees(t *testing.T) {
	const worlds, frames = 40, 1000
	macs := []header.MAC{
		MAC("c1"), MAC("c2"), MAC("c3"), MAC("host1"), stranger, {2, 0xaa, 0, 0, 0, 2}, {2, 0xaa, 0, 0, 0, 3},
		header.Broadcast, {}, {1, 0x80, 0xc2, 0, 0, 0}, {1, 0x80, 0xc2, 0, 0, 0x10}, {0x33, 0x33, 0, 0, 0, 1},
	}
	names := []string{"c1", "c2", "c3", "host1"}
	for seed := range int64(worlds) {
		rng := rand.New(rand.NewSource(seed))
		l, m := world(t, rng)
		var history []string
		for n := range frames {
			if rng.Intn(50) == 0 {
				d := []time.Duration{time.Second, 5 * time.Second, time.Minute, 301 * time.Second}[rng.Intn(4)]
				l.Advance(d)
				m.advance(d)
				history = append(history, d.String())
			}
			at := names[rng.Intn(len(names))]
			src := macs[rng.Intn(len(macs))]
			if rng.Intn(2) == 0 {
				src = MAC(at)
			}
			f := l2(macs[rng.Intn(len(macs))], src, fmt.Sprint("frame ", n))
			for rng.Intn(3) == 0 {
				f = Tag(f, []uint16{header.TypeVLAN, header.TypeVLAN, header.TypeVLAN, header.TypeQinQ}[rng.Intn(4)], []uint16{0, 10, 10, 20, 30, 4095}[rng.Intn(6)])
			}
			history = append(history, fmt.Sprintf("%s %x", at, f[:18]))
			want := m.receive(at, bytes.Clone(f))
			l.SendOffload(at, f, frame.Offload{})
			got := map[string][]byte{}
			for _, name := range append(names, "c4", "c5", "host2", "host3", "up") {
				for i, b := range l.Got(name) {
					got[name+map[bool]string{true: " again"}[i > 0]] = b
				}
			}
			if len(want) == 0 {
				want = map[string][]byte{}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("world %d, frame %d at %s: -model +switch\n%s%s\nbefore:\n%s", seed, n, at, diff, l.Drops(), tail(history))
			}
		}
	}
}

func tail(list []string) string {
	s := ""
	for _, h := range slices.Backward(list[max(0, len(list)-20):]) {
		s = h + "\n" + s
	}
	return s
}
