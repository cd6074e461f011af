package host

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/header"
)

// Consumer is something of the host that takes packets of a protocol without ports, or of
// SCTP, from a remote address: a raw socket, a tunnel, a security association, an endpoint.
type Consumer struct {
	Proto  uint8
	Remote netip.Addr // invalid: from everybody
	Port   uint16     // local, of SCTP; otherwise 0
}

// RawSockets are the host's raw sockets and SCTP endpoints. It reads two short files of
// /proc: sock_diag would load a module of the kernel for that.
func (h *Host) RawSockets() (list []Consumer, err error) {
	for _, f := range h.raw {
		b, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", f.Name(), err)
		}
		list = append(list, parseRaw(b)...)
	}
	endpoints, err := sctpEndpoints()
	for _, s := range endpoints {
		list = append(list, Consumer{Proto: header.ProtoSCTP, Port: s.Port})
	}
	return list, err
}

// openRaw opens the files in the namespace of the calling thread. One that is not there
// is of a family that the kernel lacks.
func openRaw() (list []*os.File, err error) {
	for _, name := range []string{"raw", "raw6"} {
		f, err := os.Open("/proc/thread-self/net/" + name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

// parseRaw reads what raw_sock_seq_show and ip6_dgram_sock_seq_show write: a number, the
// local address with the protocol for a port, the remote address, and more.
func parseRaw(b []byte) (list []Consumer) {
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		if len(f) < 3 {
			continue
		}
		_, local, _ := strings.Cut(f[1], ":")
		proto, err := strconv.ParseUint(local, 16, 16)
		if err != nil || proto == 0 || proto >= unix.IPPROTO_RAW { // the heading, or one that only sends
			continue
		}
		addr, _, _ := strings.Cut(f[2], ":")
		remote := procAddr(addr)
		list = append(list, Consumer{Proto: uint8(proto), Remote: anybody(remote)})
	}
	return list
}

// anybody is an address as a Consumer has it: one that names nobody is of everybody.
func anybody(a netip.Addr) netip.Addr {
	if a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// procAddr reads an address as /proc/net has it: words as the machine has them.
func procAddr(text string) netip.Addr {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != 4 && len(b) != 16 {
		return netip.Addr{}
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4]) // little-endian, as the programs are
	}
	return addrOf(b).Unmap()
}

// tunnels are the kinds of links that take packets of a protocol of their own, and the
// attribute that has the remote address.
var tunnels = map[string]struct {
	protos []uint8
	remote uint16
}{
	"gre": {[]uint8{protoGRE}, 7}, "gretap": {[]uint8{protoGRE}, 7}, "erspan": {[]uint8{protoGRE}, 7},
	"ip6gre": {[]uint8{protoGRE}, 7}, "ip6gretap": {[]uint8{protoGRE}, 7}, "ip6erspan": {[]uint8{protoGRE}, 7},
	"ipip": {[]uint8{protoIPIP, protoIPv6, protoMPLS}, 3}, "sit": {[]uint8{protoIPIP, protoIPv6, protoMPLS}, 3},
	"ip6tnl": {[]uint8{protoIPIP, protoIPv6, protoMPLS}, 3},
	"vti":    {[]uint8{protoIPIP, protoESP, protoAH}, 5}, "vti6": {[]uint8{protoIPIP, protoIPv6, protoESP, protoAH}, 5},
}

// Protocols of tunnels (IANA).
const (
	protoIPIP = 4
	protoIPv6 = 41
	protoGRE  = 47
	protoESP  = 50
	protoAH   = 51
	protoMPLS = 137
)

const (
	iflaLinkInfo = 18 // IFLA_LINKINFO
	iflaInfoKind = 1
	iflaInfoData = 2
)

// Tunnels are the host's tunnels that are up or have a remote address, and its security
// associations.
func (h *Host) Tunnels() (list []Consumer, err error) {
	msgs, err := h.allLinks()
	if err != nil {
		return nil, err
	}
	for _, m := range msgs {
		list = append(list, tunnelOf(m)...)
	}
	xfrm := h.ipsec()
	if xfrm == nil {
		return list, nil
	}
	msgs, err = xfrm.dump(nl.XFRM_MSG_GETSA, nl.XFRM_MSG_NEWSA)
	if err != nil {
		return list, nil // the kernel has no IPsec
	}
	for _, m := range msgs {
		if len(m) < nl.SizeofXfrmUsersaInfo {
			continue
		}
		sa := nl.DeserializeXfrmUsersaInfo(m)
		list = append(list, Consumer{Proto: sa.Id.Proto, Remote: anybody(xfrmAddr(sa.Saddr, sa.Family))})
	}
	return list, nil
}

// WatchTunnels calls changed whenever Tunnels may say something else, first at once, until ctx
// ends. The error says that it cannot.
func (h *Host) WatchTunnels(ctx context.Context, changed func()) error {
	return h.watchKinds(ctx, changed, func(kind string) bool { return len(tunnels[kind].protos) > 0 })
}

// udpTunnels are the kinds of links for which the kernel binds a UDP port when they are made or
// set up.
var udpTunnels = []string{"vxlan", "geneve", "wireguard", "bareudp", "gtp", "amt", "ovpn"}

// WatchUDPTunnels is WatchTunnels for links that have a UDP port of the host.
func (h *Host) WatchUDPTunnels(ctx context.Context, changed func()) error {
	return h.watchKinds(ctx, changed, func(kind string) bool { return slices.Contains(udpTunnels, kind) })
}

// watchKinds tells of links of some kinds, up or not.
func (h *Host) watchKinds(ctx context.Context, changed func(), has func(kind string) bool) error {
	return h.follow(ctx, 1<<20, changed, func(m syscall.NetlinkMessage) {
		if m.Header.Type == unix.RTM_NEWLINK || m.Header.Type == unix.RTM_DELLINK {
			if kind, _ := linkKind(m.Data); has(kind) {
				changed()
			}
		}
	}, unix.NETLINK_ROUTE, unix.RTNLGRP_LINK)
}

// associationsLook is how often the kernel is asked whether it has IPsec by now.
const associationsLook = time.Second

// WatchAssociations is WatchTunnels for security associations. It subscribes when the kernel has
// IPsec: to do so before would load a module.
func (h *Host) WatchAssociations(ctx context.Context, changed func()) error {
	const buffer = 1 << 20
	look := time.NewTicker(associationsLook)
	defer look.Stop()
	for !h.serves(unix.NETLINK_XFRM) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-look.C:
		}
	}
	return h.follow(ctx, buffer, changed, func(syscall.NetlinkMessage) { changed() }, unix.NETLINK_XFRM, nl.XFRMNLGRP_SA, nl.XFRMNLGRP_EXPIRE)
}

// ipsec is the socket for security associations, nil while nobody uses IPsec: to open it
// would load a module of the kernel.
func (h *Host) ipsec() *conn {
	h.xfrmMu.Lock()
	defer h.xfrmMu.Unlock()
	if h.xfrm == nil && h.serves(unix.NETLINK_XFRM) {
		h.xfrm, _ = dialAt(h.ns.fd, unix.NETLINK_XFRM) // otherwise the next time
	}
	return h.xfrm
}

func xfrmAddr(a nl.XfrmAddress, family uint16) netip.Addr {
	if family == unix.AF_INET {
		return netip.AddrFrom4([4]byte(a[:4]))
	}
	return netip.AddrFrom16(a).Unmap()
}

// linkKind is what a link is, and what it has of its kind.
func linkKind(m []byte) (kind string, data []byte) {
	_ = attrs(m, unix.SizeofIfInfomsg, func(typ uint16, v []byte) {
		if typ != iflaLinkInfo {
			return
		}
		_ = attrs(v, 0, func(typ uint16, v []byte) {
			switch typ {
			case iflaInfoKind:
				kind = text(v)
			case iflaInfoData:
				data = v
			}
		})
	})
	return kind, data
}

func tunnelOf(m []byte) (list []Consumer) {
	const flags = 8
	kind, data := linkKind(m)
	t, ok := tunnels[kind]
	if !ok {
		return nil
	}
	up := m[flags]&unix.IFF_UP != 0
	var remote netip.Addr
	_ = attrs(data, 0, func(typ uint16, v []byte) {
		if a := addrOf(v); typ == t.remote && a.IsValid() && !a.IsUnspecified() {
			remote = a.Unmap()
		}
	})
	if !remote.IsValid() && !up {
		return nil // such as tunl0, which the module makes
	}
	for _, p := range t.protos {
		list = append(list, Consumer{Proto: p, Remote: remote})
	}
	return list
}
