package control

import (
	"context"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
	"github.com/vswitch/vswitch/internal/netlab"
)

// What a container tries at layer 2 is told by name, with the container and the
// address that it spoke for, in words and in fields.
func TestS74S75RefusedAttacksAreEvents(t *testing.T) {
	r := newRig(t)
	r.start()
	bad, _ := r.attach("bad", api.Attach{})
	peer, ctP := r.attach("peer", api.Attach{})
	live := follow(t, func(ctx context.Context, fn func(api.Event) error) error {
		since := uint64(0)
		return r.Events(ctx, api.EventQuery{Since: &since}, fn)
	})
	gw, _ := header.ParseMAC(gatewayOf(t, r))
	me, it := ownMAC(t, bad, "eth0"), ownMAC(t, peer, "eth0")
	offer := switchtest.Packet{EthSrc: me, EthDst: header.Broadcast, Src: "10.88.0.2:67", Dst: "255.255.255.255:68", Proto: header.ProtoUDP, Payload: make([]byte, 240)}
	flood := make([][]byte, 200)
	for i := range flood { // as macof sends them: random addresses around a packet that is cut
		flood[i] = switchtest.Ethernet(it, header.MAC{2, 9, byte(i), 9, 9, byte(i * 7)}, header.TypeIPv4, []byte{0x45, 0, 0, 40})
	}
	for _, tc := range []struct {
		kind, addr, words string
		frames            [][]byte
	}{
		{api.EventMACSpoof, "", "which belongs to peer", [][]byte{switchtest.Ethernet(header.Broadcast, it, 0x88b5, []byte("x"))}},
		{api.EventIPSpoof, addr(ctP), "bad sent from", [][]byte{switchtest.Bytes(switchtest.Packet{EthSrc: me, EthDst: gw, Src: addr(ctP) + ":1", Dst: netlab.OutsideAddr + ":2", Proto: header.ProtoUDP})}},
		{api.EventARPSpoof, "10.88.0.1", "by ARP", [][]byte{switchtest.ARP(it, me, 2, me, "10.88.0.1", it, addr(ctP))}},
		{api.EventRogueDHCP, "", "DHCP server", [][]byte{switchtest.Bytes(offer)}},
		{api.EventMACFlood, "", "MAC flood", flood},
	} {
		inject(t, bad, "eth0", tc.frames...)
		e := next(t, live, tc.kind, func(e api.Event) bool { return e.Type == tc.kind })
		if e.Container != "bad" || !strings.Contains(e.Message, tc.words) || strings.Join(e.Addresses, ",") != tc.addr {
			t.Errorf("%s: got %+v, want it of bad, of %q, with %q", tc.kind, e, tc.addr, tc.words)
		}
	}
	since := uint64(0)
	err := r.Events(t.Context(), api.EventQuery{Since: &since, Once: true}, func(e api.Event) error {
		if e.Type == api.EventLoop {
			t.Errorf("a lie is told as a loop: %+v", e)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestS74NeighborsAndRouters: what a container says for others by neighbour discovery, as a
// router and to bridges, is told by the daemon under names of its own.
func TestS74NeighborsAndRouters(t *testing.T) {
	r := newRig(t)
	r.start()
	r.createDual("dual")
	bad, _ := r.attach("bad", onNetwork("dual"))
	peer, ctP := r.attach("peer", onNetwork("dual"))
	target := addrsByFamily(ctP)[true]
	live := follow(t, func(ctx context.Context, fn func(api.Event) error) error {
		since := uint64(0)
		return r.Events(ctx, api.EventQuery{Since: &since}, fn)
	})
	me, it := ownMAC(t, bad, "eth0"), ownMAC(t, peer, "eth0")
	ll, all := switchtest.LinkLocal(me), "ff02::1"
	redirect := append(make([]byte, 4), make([]byte, 32)...)
	for _, tc := range []struct {
		kind, addr, words string
		frame             []byte
	}{
		{api.EventNDSpoof, target, "by neighbour discovery", switchtest.ND(switchtest.GroupMAC(all), me, ll, all, header.ICMP6NeighborAdvert, target, 2, me)},
		{api.EventRogueRouter, "", "IPv6 router", switchtest.V6(switchtest.GroupMAC(all), me, ll, all, header.ProtoICMPv6, 255, switchtest.ICMPv6(ll, all, header.ICMP6RouterAdvert, make([]byte, 12)))},
		{api.EventReservedGroup, "", "bridges", switchtest.Ethernet(header.MAC{0x01, 0x80, 0xc2}, me, 0x88cc, make([]byte, 46))},
		{api.EventBadSource, "", "no station", switchtest.Ethernet(it, header.MAC{1, 2, 3, 4, 5, 6}, 0x88b5, []byte("x"))},
	} {
		inject(t, bad, "eth0", tc.frame)
		e := next(t, live, tc.kind, func(e api.Event) bool { return e.Type == tc.kind })
		if e.Container != "bad" || !strings.Contains(e.Message, tc.words) || strings.Join(e.Addresses, ",") != tc.addr {
			t.Errorf("%s: got %+v, want it of bad, of %q, with %q", tc.kind, e, tc.addr, tc.words)
		}
	}
	before := r.stats().Drops["guard-router-message"]
	inject(t, bad, "eth0", switchtest.V6(switchtest.GroupMAC(all), me, ll, all, header.ProtoICMPv6, 255, switchtest.ICMPv6(ll, all, header.ICMP6Redirect, redirect)))
	eventually(t, "a redirect is refused", func() bool { return r.stats().Drops["guard-router-message"] > before })
	if n := r.stats().Drops["guard-spoofed-nd"]; n == 0 {
		t.Error("no neighbour advertisement was refused")
	}
}
