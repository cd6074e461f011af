package doctor

import (
	"fmt"
	"os"
	"strings"

	"github.com/vswitch/vswitch/control/host"
)

const localRange = "/proc/sys/net/ipv4/ip_local_port_range"

// masquerade looks at the ports that containers' connections leave from, and who else
// has some of them.
func (x *exam) masquerade() {
	if x.Daemon == nil {
		return
	}
	text, err := os.ReadFile(localRange)
	if err != nil {
		x.add(Note, "masquerade", "", "%v", err)
		return
	}
	sockets, err := x.host.Sockets()
	if err != nil {
		x.add(Note, "masquerade", "", "%v", err)
		return
	}
	x.sharedPorts(string(text), sockets)
}

// sharedPorts compares the ranges with the host's own, as the sysctl has it, and with its
// sockets.
func (x *exam) sharedPorts(local string, sockets []host.Socket) {
	var low, high uint16
	if _, err := fmt.Sscan(local, &low, &high); err != nil {
		x.add(Note, "masquerade", "", "%s: %q is no range", localRange, strings.TrimSpace(local))
		return
	}
	ranges := x.Daemon.Info.MasqueradePorts
	all := strings.Join(ranges, ",")
	type held struct {
		proto uint8
		port  uint16
	}
	busy, own := make(map[held]bool), socketsOf(x.Daemon.Info.PID)
	for _, s := range sockets {
		if protoName(s.Proto) != "sctp" && !own[s.Inode] && overlaps(all, s.Port, s.Port) {
			busy[held{s.Proto, s.Port}] = true
		}
	}
	said := fmt.Sprintf("connections leave from ports %s, of which programs of the host hold %d", strings.Join(ranges, ", "), len(busy))
	if overlaps(all, low, high) {
		x.add(Warn, "masquerade", fmt.Sprintf("sysctl -w net.ipv4.ip_local_port_range=... beside them, or choose others with --masquerade-ports: now %d-%d are the host's", low, high),
			"%s; the host takes ports of its own connections from there, too", said)
		return
	}
	x.add(OK, "masquerade", "", "%s", said)
}

// binds says how soon a port that a program binds is the host's.
func (x *exam) binds() {
	switch {
	case x.Daemon == nil:
	case x.Daemon.Info.NoBindHooks == "":
		x.add(OK, "bind", "", "a UDP port that a program of the host binds is its own at once")
	default:
		x.add(Note, "bind", "", "a UDP port that a program of the host binds is its own within a second: %s", x.Daemon.Info.NoBindHooks)
	}
}

// localhost says how connections of the host to published ports go.
func (x *exam) localhost() {
	switch {
	case x.Daemon == nil:
	case x.Daemon.Info.NoConnectHooks == "":
		x.add(OK, "localhost", "", "programs of the host connect to published ports without the relay")
	default:
		x.add(Note, "localhost", "", "programs of the host connect to published ports by the relay, which is slower: %s", x.Daemon.Info.NoConnectHooks)
	}
}
