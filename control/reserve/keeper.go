package reserve

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Keeper says which sockets of programs keep the ports of a container from others for it:
// they are in nobody's way. The zero value is none. What a program calls itself says nothing:
// anybody can be called podman.
type Keeper struct {
	// Caller is the process that asks for the ports, a plugin of a runtime; 0: nobody asks.
	// Sockets that its parent or that one's parent listens by are its runtime's. Further up
	// are the programs by which somebody came here, such as sshd, and pid 1 listens for
	// whole services, so that theirs are not.
	Caller int
	// Known are the cookies of sockets that were found to be a keeper's, whoever has them now.
	Known []uint64
	// Netns is the container's namespace by device and inode, zero: not known. A program,
	// other than pid 1, that has a child in it keeps its ports, as conmon does for podman.
	Netns [2]uint64
}

// keeps reports whether a socket is the keeper's, and remembers it.
func (h *Hold) keeps(s host.Socket) bool {
	k := &h.keeper
	if s.Cookie == 0 || s.Inode == 0 {
		return false
	}
	if slices.Contains(k.Known, s.Cookie) {
		return true
	}
	if s.Proto == header.ProtoTCP && !s.Listens || !k.called(s.Inode) && !k.inside(s.Inode) {
		return false
	}
	k.Known = append(slices.Clip(k.Known), s.Cookie)
	return true
}

// Kept are the cookies of the sockets of programs that keep ports of the hold.
func (h *Hold) Kept() []uint64 { return h.keeper.Known }

// called reports whether those who called the caller have a socket.
func (k *Keeper) called(inode uint32) bool {
	pid := k.Caller
	for range 2 {
		if pid = parentOf(pid); pid <= 1 {
			return false
		}
		if has(filepath.Join("/proc", strconv.Itoa(pid)), inode) {
			return true
		}
	}
	return false
}

// inside reports whether one who has a socket has a child in the container's namespace. It
// reads all of /proc.
func (k *Keeper) inside(inode uint32) bool {
	if k.Netns == [2]uint64{} {
		return false
	}
	list, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return false
	}
	for _, dir := range list {
		var st unix.Stat_t
		if unix.Stat(dir+"/ns/net", &st) != nil || [2]uint64{st.Dev, st.Ino} != k.Netns {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		if parent := parentOf(pid); parent > 1 && has(filepath.Join("/proc", strconv.Itoa(parent)), inode) {
			return true
		}
	}
	return false
}

// parentOf is field 4 of /proc/PID/stat, 0 when there is none.
func parentOf(pid int) (parent int) {
	if pid <= 0 {
		return 0
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The command in field 2 may hold blanks and parentheses.
	_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
	if f := strings.Fields(rest); len(f) > 1 {
		parent, _ = strconv.Atoi(f[1])
	}
	return parent
}

// has reports whether the process of a directory of /proc has a socket.
func has(dir string, inode uint32) bool {
	want := fmt.Sprintf("socket:[%d]", inode)
	fds, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return false
	}
	return slices.ContainsFunc(fds, func(fd os.DirEntry) bool {
		target, err := os.Readlink(filepath.Join(dir, "fd", fd.Name()))
		return err == nil && target == want
	})
}
