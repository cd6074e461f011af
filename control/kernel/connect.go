package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/vswitch/vswitch/dataplane/bpfmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Keeper keeps descriptors by name for the next process (control/holder). It keeps nothing when
// it is nil.
type Keeper interface {
	Take(name string) (fd int, value string, ok bool)
	Put(name string, fd int, value string) error
	Drop(name string)
}

// Way leads an interval of published ports of the host to a container of the same family.
type Way struct {
	Proto       uint8
	Addr        netip.Addr // of the host; unspecified: each of its family
	First, Last uint16
	To          netip.AddrPort // where First leads
}

// HookTime is longer than a hook takes, and than the kernel needs to list a socket that was led.
const HookTime = bpfmap.ProgramTime

// The layout of what the sockets hold (struct led and struct sent in connect.h), for the next
// process.
const ledVersion = "1"

// connectHooks are the hooks of connect. The ones that lead somewhere new are there only while
// the process is, and come first.
var connectHooks = []struct {
	program string
	at      ebpf.AttachType
	stays   string // the name of its link with the keeper, "" for none
}{
	{programsProgVswSend4, ebpf.AttachCGroupUDP4Sendmsg, ""},
	{programsProgVswSend6, ebpf.AttachCGroupUDP6Sendmsg, ""},
	{programsProgVswSendOn4, ebpf.AttachCGroupUDP4Sendmsg, "sendmsg4"},
	{programsProgVswSendOn6, ebpf.AttachCGroupUDP6Sendmsg, "sendmsg6"},
	{programsProgVswReceive4, ebpf.AttachCGroupUDP4Recvmsg, "recvmsg4"},
	{programsProgVswReceive6, ebpf.AttachCGroupUDP6Recvmsg, "recvmsg6"},
	{programsProgVswPeername4, ebpf.AttachCgroupInet4GetPeername, "getpeername4"},
	{programsProgVswPeername6, ebpf.AttachCgroupInet6GetPeername, "getpeername6"},
	{programsProgVswConnect4, ebpf.AttachCGroupInet4Connect, ""},
	{programsProgVswConnect6, ebpf.AttachCGroupInet6Connect, ""},
}

// Connects leads what programs of the host connect and send to published ports. Its methods are
// safe for concurrent use.
type Connects struct {
	keep     Keeper
	programs []*ebpf.Program
	whose    *ebpf.Program // see Asked
	links    []*link.RawLink
	ways     *ebpf.Map // longest prefix: wayKey -> way
	own      *ebpf.Map // hash: header.Addr -> 1
	led      *ebpf.Map // array of one: how many sockets were led
	begun    *ebpf.Map // array of one: how many ends of UDP are led at this time
	asked    *ebpf.Map // socket storage: led
	sent     *ebpf.Map // socket storage
	left     bool      // asked is of a process before

	mu    sync.Mutex // guards what follows
	rows  map[wayKey]way
	addrs map[header.Addr]bool
}

// wayKey is struct way_key in connect.h, and way struct way.
type wayKey struct {
	Bits  uint32
	Addr  header.Addr
	Proto uint16
	Port  [2]byte
}

type way struct {
	Addr      header.Addr
	First, To uint16
}

// LeadConnects hangs the hooks of connect up in a cgroup (version 2, its directory) for sockets
// that are made in it and below, in the network namespace of the calling thread. Nothing is led
// before Set. Closed or not, hooks that tell sockets what they have asked for stay with the
// keeper. The error says what the kernel lacks: it needs Linux 5.14, and a cgroup whose programs
// others may add to.
func (k *Kernel) LeadConnects(cgroup string, keep Keeper) (_ *Connects, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := &Connects{keep: keep, rows: make(map[wayKey]way), addrs: make(map[header.Addr]bool)}
	defer func() {
		if err != nil {
			c.Close(false)
			err = fmt.Errorf("hooks of connect at %s: %w", cgroup, err)
		}
	}()
	if err := CheckCgroup(cgroup); err != nil {
		return nil, err
	}
	dir, err := os.Open(cgroup)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	cookie, err := netnsCookie()
	if err != nil {
		return nil, err
	}
	if err := k.spec.Variables[programsVarNetnsCookie].Set(cookie); err != nil {
		return nil, err
	}
	if err := c.openMaps(k.spec); err != nil {
		return nil, err
	}
	own := map[string]**ebpf.Map{
		programsMapVswWays: &c.ways, programsMapVswOwn: &c.own, programsMapVswLed: &c.led, programsMapVswBegun: &c.begun, programsMapVswAsked: &c.asked, programsMapVswSent: &c.sent,
	}
	programs := &loading{k: k}
	c.programs = make([]*ebpf.Program, len(connectHooks))
	for i, h := range connectHooks {
		programs.load(&c.programs[i], h.program, own)
	}
	programs.load(&c.whose, programsProgVswWhoseLed, own)
	if err := programs.wait(); err != nil {
		return nil, err
	}
	// One of the process before would come first, and send where a port led then.
	for _, name := range []string{"sendmsg4", "sendmsg6"} {
		c.drop(name)
	}
	for i, h := range connectHooks {
		l, err := link.AttachRawLink(link.RawLinkOptions{Target: int(dir.Fd()), Program: c.programs[i], Attach: h.at})
		if err != nil {
			return nil, err
		}
		c.links = append(c.links, l)
		if h.stays == "" || keep == nil {
			continue
		}
		if err := keep.Put(connectName(h.stays), l.FD(), ""); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func connectName(what string) string { return "connect " + what }

func (c *Connects) drop(what string) {
	if c.keep != nil {
		c.keep.Drop(connectName(what))
	}
}

// openMaps opens what the sockets hold of a process before, and makes all else.
func (c *Connects) openMaps(s *ebpf.CollectionSpec) (err error) {
	for name, m := range map[string]**ebpf.Map{programsMapVswAsked: &c.asked, programsMapVswSent: &c.sent} {
		if *m = c.leftMap(s, name); *m != nil {
			c.left = true
			continue
		}
		if *m, err = newMap(s, name); err != nil {
			return err
		}
		if c.keep == nil {
			continue
		}
		if err = c.keep.Put(connectName(name), (*m).FD(), ledVersion); err != nil {
			return err
		}
	}
	for name, m := range map[string]**ebpf.Map{programsMapVswWays: &c.ways, programsMapVswOwn: &c.own, programsMapVswLed: &c.led, programsMapVswBegun: &c.begun} {
		if *m, err = newMap(s, name); err != nil {
			return err
		}
	}
	return nil
}

func (c *Connects) leftMap(s *ebpf.CollectionSpec, name string) *ebpf.Map {
	if c.keep == nil {
		return nil
	}
	fd, version, ok := c.keep.Take(connectName(name))
	if !ok {
		return nil
	}
	m, err := ebpf.NewMapFromFD(fd) // it closes the descriptor where it is none of a map
	if err != nil {
		return nil
	}
	if version != ledVersion || !fits(m, s.Maps[name]) {
		m.Close()
		return nil
	}
	return m
}

// Set has all ways lead, and no other, for the sockets that ask for an address of loopback or one of
// own. left are the containers where a way led before that leads elsewhere now, or nowhere: sockets may
// be connected there. The relay has those for which there is no room; the error says so.
func (c *Connects) Set(own []netip.Addr, ways []Way) (left []netip.Addr, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rows := make(map[wayKey]way)
	for _, w := range ways {
		w.each(func(k wayKey, v way) { rows[k] = v })
	}
	addrs := make(map[header.Addr]bool)
	for _, a := range own {
		addrs[header.AddrFrom(a)] = true
	}
	var errs []error
	for a := range c.addrs {
		if !addrs[a] {
			errs = append(errs, gone(c.own.Delete(a)))
			delete(c.addrs, a)
		}
	}
	for k, was := range c.rows {
		if _, ok := rows[k]; !ok {
			errs = append(errs, gone(c.ways.Delete(k)))
			delete(c.rows, k)
			left = append(left, was.Addr.NetIP())
		}
	}
	full := 0
	for k, v := range rows {
		was, ok := c.rows[k]
		if ok && was == v {
			continue
		}
		if ok {
			left = append(left, was.Addr.NetIP())
		}
		if c.ways.Put(k, v) != nil {
			full++
			errs = append(errs, gone(c.ways.Delete(k)))
			delete(c.rows, k)
			continue
		}
		c.rows[k] = v
	}
	for a := range addrs {
		if !c.addrs[a] && c.own.Put(a, uint8(1)) == nil {
			c.addrs[a] = true
		}
	}
	if full > 0 {
		errs = append(errs, fmt.Errorf("%d ways of published ports have no room, there are %d: they are relayed", full, c.ways.MaxEntries()))
	}
	return left, errors.Join(errs...)
}

func gone(err error) error {
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil
	}
	return err
}

// each calls fn with the prefixes that make up the interval.
func (w *Way) each(fn func(wayKey, way)) {
	const most = 8 * (16 + 2 + 2)
	k := wayKey{Addr: header.AddrFrom(w.Addr), Proto: uint16(w.Proto)}
	v := way{Addr: header.AddrFrom(w.To.Addr()), First: w.First, To: w.To.Port()}
	for first, last := int(w.First), int(w.Last); first <= last; {
		bits := 0
		for bits < 16 && first&(1<<bits) == 0 && first+1<<(bits+1)-1 <= last {
			bits++
		}
		k.Bits = uint32(most - bits)
		binary.BigEndian.PutUint16(k.Port[:], uint16(first))
		fn(k, v)
		first += 1 << bits
	}
}

// Led is how many sockets were connected to where they were led so far, and whether a process
// before may have led others.
func (c *Connects) Led() (n uint64, before bool) {
	_ = c.led.Lookup(uint32(0), &n)
	return n, c.left
}

// Asked is what a program of the host asked for whose connected socket has these ends, and where that
// was led then; not ok: it asked for its peer. It asks in the network namespace of the calling thread.
func (c *Connects) Asked(proto uint8, local, peer netip.AddrPort) (asked, to netip.AddrPort, ok bool) {
	const head, end, size = header.EthernetLen, 20, 44 // of an Ethernet header, struct sock_end and the flow
	q := make([]byte, head+size)
	binary.NativeEndian.PutUint32(q[head:], uint32(proto))
	for i, a := range [2]netip.AddrPort{peer, local} {
		addr := header.AddrFrom(a.Addr())
		copy(q[head+4+i*end:], addr[:])
		binary.BigEndian.PutUint16(q[head+4+i*end+16:], a.Port())
	}
	found, answer, err := c.whose.Test(q)
	if err != nil || found == 0 || len(answer) != len(q) {
		return asked, to, false
	}
	read := func(b []byte) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)).Unmap(), binary.BigEndian.Uint16(b[16:]))
	}
	return read(answer[head:]), read(answer[head+end:]), true
}

// Close leads nobody any more. With kept sockets that were led go on for the next process to find
// them, otherwise their programs see where from now on.
func (c *Connects) Close(kept bool) {
	for _, l := range slices.Backward(c.links) {
		l.Close()
	}
	for _, p := range append(c.programs, c.whose) {
		p.Close() // a nil program is allowed
	}
	for _, m := range []*ebpf.Map{c.ways, c.own, c.led, c.begun, c.asked, c.sent} {
		m.Close() // a nil map is allowed
	}
	if kept {
		return
	}
	for _, h := range connectHooks {
		if h.stays != "" {
			c.drop(h.stays)
		}
	}
	c.drop(programsMapVswAsked)
	c.drop(programsMapVswSent)
}
