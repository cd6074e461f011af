package host

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/vswitch/vswitch/dataplane/header"
)

// No kernel with SCTP is at hand everywhere: this is what one wrote.
func TestSCTPEndpoints(t *testing.T) {
	got := parseEndpoints([]byte(` ENDPT     SOCK   STY SST HBKT LPORT   UID INODE LADDRS
000000003b3e8b2f 00000000e5e5ff54 2   10  29   3868      0 23411 0.0.0.0 
000000007c1d09a1 00000000a1b2c3d4 2   10  30   3869   1000 23412 198.51.100.1 203.0.113.1 
00000000aa11bb22 00000000cc33dd44 2   10  31   3870      0 23413 0000:0000:0000:0000:0000:0000:0000:0000 
00000000aa11bb22 00000000cc33dd44 2   7   31   0         0 23414 0.0.0.0 
`))
	sock := func(addr string, port uint16, inode uint32, dual bool) Socket {
		return Socket{Proto: header.ProtoSCTP, Addr: netip.MustParseAddr(addr), Port: port, Inode: inode, DualStack: dual}
	}
	want := []Socket{
		sock("0.0.0.0", 3868, 23411, false), sock("198.51.100.1", 3869, 23412, false),
		sock("203.0.113.1", 3869, 23412, false), sock("::", 3870, 23413, true),
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}
