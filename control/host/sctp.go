package host

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/header"
)

const sctpFile = "/proc/thread-self/net/sctp/eps"

// HasSCTP reports whether anybody has used SCTP in the namespace of the calling thread, which
// loads it. It is asked five times a second, in vain on most hosts.
func HasSCTP() bool { return unix.Access(sctpFile, unix.F_OK) == nil }

// sctpEndpoints are the SCTP sockets of the host, from /proc: sock_diag would
// load the kernel's SCTP where nobody uses it. The file is there once somebody
// does.
func sctpEndpoints() ([]Socket, error) {
	if !HasSCTP() {
		return nil, nil
	}
	b, err := os.ReadFile(sctpFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the sockets: %w", err)
	}
	return parseEndpoints(b), nil
}

// parseEndpoints reads what sctp_eps_seq_show writes (net/sctp/proc.c): two
// pointers, style, state and hash, the port, user and inode, and the addresses.
func parseEndpoints(b []byte) (list []Socket) {
	const port, inode, addrs = 5, 7, 8
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) <= addrs {
			continue
		}
		p, err := strconv.ParseUint(f[port], 10, 16)
		if err != nil || p == 0 { // the heading, or not bound yet
			continue
		}
		i, _ := strconv.ParseUint(f[inode], 10, 32)
		for _, text := range f[addrs:] {
			if a, err := netip.ParseAddr(text); err == nil {
				list = append(list, Socket{
					Proto: header.ProtoSCTP, Addr: a, Port: uint16(p), DualStack: a == netip.IPv6Unspecified(), Inode: uint32(i),
				})
			}
		}
	}
	return list
}
