package control

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
	"github.com/vswitch/vswitch/internal/netlab"
)

// spoken is a rig whose flows a test speaks itself, frame by frame: no kernel has the
// addresses of their ends, so that none answers. MAC addresses are the same in each rig.
type spoken struct {
	*rig
	stations map[string]*station
	flows    []*spokenFlow
	tag      int // of the last tagged frame
}

type station struct {
	ns    *netlab.NS
	mac   header.MAC
	addrs []string // of both families
	heard *sniffer
	fd    int // of a packet socket at the interface

	gateway header.MAC // of its network
}

func (s *spoken) station(name string, ns *netlab.NS, ifname string, mac, gateway header.MAC, addrs []string) {
	s.t.Helper()
	at := &station{ns, mac, addrs, sniff(s.t, ns, ifname), -1, gateway}
	index, err := ns.Index(ifname)
	if err == nil {
		err = ns.Do(func() (err error) {
			if at.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
				return err
			}
			return unix.Bind(at.fd, &unix.SockaddrLinklayer{Ifindex: index})
		})
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { unix.Close(at.fd) })
	s.stations[name] = at
}

const strangerMAC = "02:00:00:00:00:77"

var strangerAt = []string{"198.51.100.77", "2001:db8::77"}

// newSpoken has two containers on a network of both families, one on another network, the host
// at its gateway address, and a station outside. c1 has published port 8000 as 8080 of TCP and UDP.
func newSpoken(t *testing.T, noFlowTable bool) *spoken {
	t.Helper()
	r := newRig(t)
	r.cfg.NoFlowTable = noFlowTable
	// Without the ports of the host's flows: no socket has those, and what goes to such a port of
	// masquerade may be of a flow before the start.
	r.cfg.MasqueradePorts = []string{"20000-30000"}
	host := r.world.Host
	for ns, mac := range map[*netlab.NS]string{host: "02:00:00:00:00:01", r.world.Outside: "02:00:00:00:00:09"} {
		if err := ns.SetMAC("eth0", mac); err != nil {
			t.Fatal(err)
		}
	}
	worldIsUp(t, r)
	for _, addr := range strangerAt {
		if err := host.AddNeighbor("eth0", addr, strangerMAC); err != nil {
			t.Fatal(err)
		}
	}
	r.start()
	s := &spoken{rig: r, stations: make(map[string]*station)}
	stranger, _ := header.ParseMAC(strangerMAC)
	s.station("x", r.world.Outside, "eth0", stranger, ownMAC(t, host, "eth0"), strangerAt)
	networks := make(map[string]api.Network)
	for name, subnets := range map[string][]string{"dual": {"10.99.0.0/24", "fd99::/64"}, "other": {"10.98.0.0/24", "fd98::/64"}} {
		networks[name] = r.createDual(name, func(in *api.NetworkCreate) { in.MTU, in.Subnets = 1400, subnets })
	}
	for i, name := range []string{"c1", "c2", "c3"} {
		network := map[string]string{"c3": "other"}[name]
		if network == "" {
			network = "dual"
		}
		in := onNetwork(network, func(c *api.Connect) { c.MAC = fmt.Sprintf("02:00:00:00:01:%02x", 1+i) })
		gateway, _ := header.ParseMAC(networks[network].GatewayMAC)
		if name == "c1" {
			in.Publish = []string{"8080:8000", "8080:8000/udp"}
		}
		ns, ct := r.attach(name, in)
		for _, a := range ct.Endpoints[0].Addresses {
			if err := ns.DelAddr("eth0", a); err != nil {
				t.Fatal(err)
			}
		}
		s.station(name, ns, "eth0", ownMAC(t, ns, "eth0"), gateway, addrsOf(t, ct))
		if name == "c1" { // the host's stack knows no such connections, and its resets bear no tag
			s.station("h", host, networks[network].Interface, gateway, gateway, ct.Endpoints[0].Gateways)
		}
	}
	return s
}

// spokenFlow is a flow. Side 0 began it.
type spokenFlow struct {
	name  string
	proto uint8
	v6    bool
	at    [2]*station
	eth   [2][2]header.MAC // source, destination
	addrs [2][2]string
	seq   [2]uint32
	port  uint16
	// tracked: the switch knows the numbers of the connection.
	tracked bool
}

// begin opens a flow of a kind and lets it pass until it is worth a row.
func (s *spoken) begin(kind, from, to string, proto uint8, v6 bool) *spokenFlow {
	s.t.Helper()
	fam := map[bool]int{true: 1}[v6]
	f := &spokenFlow{name: fmt.Sprintf("%s %d IPv%s", kind, proto, familyOf(v6)), proto: proto, v6: v6, port: uint16(21000 + len(s.flows))}
	if from == "h" {
		f.port -= 10000
	}
	f.at = [2]*station{s.stations[from], s.stations[to]}
	dst, port := f.at[1].addrs[fam], "9000"
	f.eth[0] = [2]header.MAC{f.at[0].mac, f.at[0].gateway}
	switch {
	case kind == "bridged" || from == "h":
		f.eth[0][1] = f.at[1].mac
	case to == "c1":
		dst, port = hostAt[v6], "8080"
	}
	f.tracked = kind != "bridged" && from != "h" && to != "h"
	f.addrs[0] = [2]string{join(f.at[0].addrs[fam], fmt.Sprint(f.port)), join(dst, port)}
	f.seq = [2]uint32{1 << 20, 1 << 30}
	var got []byte
	s.said(f, 0, switchtest.SYN, func(b []byte) { got = b })
	l := switchtest.See(s.t, got)
	f.eth[1] = [2]header.MAC{l.EthDst, l.EthSrc}
	f.addrs[1] = [2]string{l.To(), l.From()}
	f.seq[0]++
	s.said(f, 1, switchtest.SYN|switchtest.ACK, func([]byte) {})
	f.seq[1]++
	for range 30 {
		s.fill(f)
	}
	s.flows = append(s.flows, f)
	return f
}

// said sends a frame until the other side has it: a neighbour may have to be found first.
func (s *spoken) said(f *spokenFlow, side int, flags uint8, heard func([]byte)) {
	s.t.Helper()
	mark := s.mark()
	frame := f.frame(side, flags, 0, 0, []byte(mark))
	eventually(s.t, f.name+" begins", func() bool {
		s.send(f, side, frame)
		time.Sleep(5 * time.Millisecond)
		for _, b := range f.at[1-side].heard.tagged(mark) {
			heard(b)
			return true
		}
		return false
	})
}

// mark is what a frame is known by, wherever it arrives.
func (s *spoken) mark() string {
	s.tag++
	return fmt.Sprintf("tag%04d", s.tag)
}

var tagOf = regexp.MustCompile(`tag\d{4}`)

func (s *sniffer) tagged(mark string) (list [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.frames {
		if bytes.Contains(b, []byte(mark)) && !isError(b) {
			list = append(list, b)
		}
	}
	return list
}

// isError is of ICMP: how many errors are sent is limited by time.
func isError(b []byte) bool {
	if binary.BigEndian.Uint16(b[12:]) == header.TypeIPv6 {
		return len(b) > 20 && b[20] == header.ProtoICMPv6
	}
	return len(b) > 23 && b[23] == header.ProtoICMP
}

// frame is one of a side. seq and ack are how far it is from what is due. A SYN bears no
// acknowledgment, and what opens a connection no data.
func (f *spokenFlow) frame(side int, flags uint8, seq, ack uint32, payload []byte) []byte {
	p := switchtest.Packet{
		EthSrc: f.eth[side][0], EthDst: f.eth[side][1], Src: f.addrs[side][0], Dst: f.addrs[side][1], Proto: f.proto,
		Flags: flags, Seq: f.seq[side] + seq, DF: !f.v6, Payload: payload,
	}
	if flags&switchtest.ACK != 0 {
		p.Ack = f.seq[1-side] + ack
	}
	if f.proto == header.ProtoTCP && flags&switchtest.SYN != 0 {
		p.Payload = nil
		b := switchtest.Bytes(p)
		return append(b, payload...) // as padding
	}
	return switchtest.Bytes(p)
}

func (s *spoken) send(f *spokenFlow, side int, frame []byte) {
	s.t.Helper()
	if _, err := unix.Write(f.at[side].fd, frame); err != nil {
		s.t.Fatal(err)
	}
}

// fill sends what changes nothing, both ways.
func (s *spoken) fill(f *spokenFlow) {
	s.t.Helper()
	for side := range 2 {
		s.send(f, side, f.frame(side, switchtest.ACK, 0, 0, nil))
	}
}

// carries waits until the kernel carries both directions of all flows.
func (s *spoken) carries() {
	s.t.Helper()
	if s.cfg.NoFlowTable {
		return
	}
	eventually(s.t, "the kernel carries all flows", func() bool {
		const each = 5
		before := s.stats().Flows.Frames
		for range each {
			for _, f := range s.flows {
				s.fill(f)
			}
		}
		st := s.stats().Flows
		return int(st.Frames-before) >= each*2*len(s.flows)
	})
}

// told is what each station received, by the tag of the frame. Where a packet may be cut
// its identification is the switch's own.
func (s *spoken) told() map[string][]string {
	got := make(map[string][]string)
	for name, at := range s.stations {
		at.heard.mu.Lock()
		for _, b := range at.heard.frames {
			mark := tagOf.Find(b)
			if mark == nil || isError(b) {
				continue
			}
			b = bytes.Clone(b)
			if binary.BigEndian.Uint16(b[12:]) == header.TypeIPv4 && b[20]&0x40 == 0 && len(b) > 34 {
				clear(b[18:20])
				clear(b[24:26])
			}
			got[string(mark)] = append(got[string(mark)], fmt.Sprintf("%s gets % x", name, b))
		}
		at.heard.mu.Unlock()
	}
	for _, list := range got {
		slices.Sort(list)
	}
	return got
}

// settles waits until so many frames have arrived, and for more until none comes for a second.
func (s *spoken) settles(want int) map[string][]string {
	count := func() (n int) {
		for _, list := range s.told() {
			n += len(list)
		}
		return n
	}
	deadline := time.Now().Add(20 * time.Second)
	for count() < want && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	for n := -1; n != count(); time.Sleep(time.Second) {
		n = count()
	}
	return s.told()
}

func differences(kernel, stages map[string][]string) (list []string) {
	marks := make(map[string]bool)
	for _, m := range []map[string][]string{kernel, stages} {
		for mark := range m {
			marks[mark] = true
		}
	}
	for mark := range marks {
		if !slices.Equal(kernel[mark], stages[mark]) {
			list = append(list, fmt.Sprintf("%s\n with the kernel's side %s\n by the stages %s", mark, strings.Join(kernel[mark], "\n  "), strings.Join(stages[mark], "\n  ")))
		}
	}
	slices.Sort(list)
	return list
}
