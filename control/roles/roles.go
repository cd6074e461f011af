package roles

import (
	"context"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Role is what somebody may do; each one includes those before it.
type Role uint8

// Roles. The zero value may nothing.
const (
	None Role = iota
	Reads
	Captures
	Changes
)

// groups are the names of the groups of each role.
var groups = [...]struct {
	name string
	role Role
}{{"vswitch-admin", Changes}, {"vswitch-capture", Captures}, {"vswitch-ro", Reads}}

// GroupOf names the group whose members have a role.
func GroupOf(r Role) string {
	for _, g := range groups {
		if g.role == r {
			return g.name
		}
	}
	return ""
}

// Roles knows the groups of this host.
type Roles struct {
	of map[uint32]Role // by group
}

// Find looks up the groups of this host. One that is added later counts from the next start on.
func Find() *Roles {
	return find(func(name string) (uint32, bool) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return 0, false
		}
		n, err := strconv.ParseUint(g.Gid, 10, 32)
		return uint32(n), err == nil
	})
}

func find(lookup func(name string) (gid uint32, ok bool)) *Roles {
	r := &Roles{of: make(map[uint32]Role)}
	for _, g := range groups {
		// Of group 0 is who has the socket's own group anyway.
		if gid, ok := lookup(g.name); ok && gid != 0 {
			r.of[gid] = max(r.of[gid], g.role)
		}
	}
	return r
}

// LetIn lets the groups of all roles use the socket at path, and find it in its directory. What
// access lists say there of others stays. With none of the groups nothing is touched.
func (r *Roles) LetIn(path string) error {
	if len(r.of) == 0 {
		return nil
	}
	if err := admit(filepath.Dir(path), r.of, execute); err != nil {
		return err
	}
	return admit(path, r.of, read|write)
}

// Of is the role of the process at the other end of a unix socket. Who is in none of the
// groups was let in by the socket's mode or an access list made by hand, and may change.
func (r *Roles) Of(c *net.UnixConn) Role {
	raw, err := c.SyscallConn()
	if err != nil {
		return None
	}
	role := None
	_ = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return
		}
		if cred.Uid == 0 || int(cred.Uid) == os.Geteuid() {
			role = Changes
			return
		}
		member, err := peerGroups(int(fd))
		if err != nil {
			return
		}
		member = append(member, cred.Gid)
		for _, gid := range member {
			role = max(role, r.of[gid])
		}
		if own := ownGroup(c); r.of[own] == None && slices.Contains(member, own) {
			role = Changes
		}
		if role == None {
			role = Changes
		}
	})
	return role
}

// ownGroup is the group that the socket belongs to, which its mode lets in; that of nobody
// where it cannot be told.
func ownGroup(c *net.UnixConn) uint32 {
	const nobody = 1<<32 - 1
	fi, err := os.Lstat(c.LocalAddr().String())
	if err != nil {
		return nobody
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return nobody
	}
	return st.Gid
}

// peerGroups are the further groups of the process that connected, as it connected.
func peerGroups(fd int) ([]uint32, error) {
	list := make([]uint32, 64)
	for {
		size := uint32(4 * len(list))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&list[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == 0:
			return list[:size/4], nil
		case errno == unix.ERANGE && len(list) < 1<<16: // NGROUPS_MAX; size says how many there are
			list = make([]uint32, size/4)
		default:
			return nil, errno
		}
	}
}

type key struct{}

// With is ctx of a connection of somebody who has a role.
func With(ctx context.Context, r Role) context.Context { return context.WithValue(ctx, key{}, r) }

func from(ctx context.Context) Role {
	r, _ := ctx.Value(key{}).(Role)
	return r
}
