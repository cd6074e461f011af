package roles

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Rights of an access list's entry, as in a mode.
const (
	execute = 1 << iota
	write
	read
)

// Tags of entries and the list's version (linux/posix_acl_xattr.h).
const (
	aclVersion  = 2
	ofOwner     = 0x01
	ofUser      = 0x02
	ofOwnGroup  = 0x04
	ofGroup     = 0x08
	ofMask      = 0x10
	ofOthers    = 0x20
	noID        = 1<<32 - 1
	aclName     = "system.posix_acl_access"
	aclEntry    = 8
	aclHeader   = 4
	aclMostSize = 1 << 16
)

type entry struct {
	tag, rights uint16
	id          uint32
}

// admit gives the groups rights to a file, beside those that others have.
func admit(path string, gids map[uint32]Role, rights uint16) error {
	list, err := readList(path)
	if err != nil {
		return fmt.Errorf("access list of %s: %w", path, err)
	}
	list = slices.DeleteFunc(list, func(e entry) bool {
		_, ours := gids[e.id]
		return e.tag == ofMask || e.tag == ofGroup && ours
	})
	for gid := range maps.Keys(gids) {
		list = append(list, entry{ofGroup, rights, gid})
	}
	mask := entry{ofMask, 0, noID}
	for _, e := range list {
		if e.tag == ofUser || e.tag == ofOwnGroup || e.tag == ofGroup {
			mask.rights |= e.rights
		}
	}
	list = append(list, mask)
	// The kernel wants them in this order.
	slices.SortFunc(list, func(a, b entry) int {
		if a.tag != b.tag {
			return int(a.tag) - int(b.tag)
		}
		return int(int64(a.id) - int64(b.id))
	})
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range list {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.rights)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	if err := unix.Setxattr(path, aclName, b, 0); err != nil {
		return fmt.Errorf("access list of %s: %w", path, err)
	}
	return nil
}

// readList reads a file's access list, or what its mode says where it has none.
func readList(path string) ([]entry, error) {
	b := make([]byte, aclMostSize)
	n, err := unix.Lgetxattr(path, aclName, b)
	if errors.Is(err, unix.ENODATA) {
		fi, err := os.Lstat(path)
		if err != nil {
			return nil, err
		}
		mode := uint16(fi.Mode().Perm())
		return []entry{{ofOwner, mode >> 6 & 7, noID}, {ofOwnGroup, mode >> 3 & 7, noID}, {ofOthers, mode & 7, noID}}, nil
	}
	if err != nil {
		return nil, err
	}
	if n < aclHeader || (n-aclHeader)%aclEntry != 0 || binary.LittleEndian.Uint32(b) != aclVersion {
		return nil, errors.New("unknown form")
	}
	var list []entry
	for e := b[aclHeader:n]; len(e) > 0; e = e[aclEntry:] {
		list = append(list, entry{binary.LittleEndian.Uint16(e), binary.LittleEndian.Uint16(e[2:]), binary.LittleEndian.Uint32(e[4:])})
	}
	return list, nil
}
