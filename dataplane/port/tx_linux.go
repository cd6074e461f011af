package port

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/frame"
)

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// vectors are the arguments of one sendmmsg or recvmmsg, an iovec per message.
type vectors struct {
	msgs [frame.BatchSize]mmsghdr
	iovs [frame.BatchSize]unix.Iovec
}

func (v *vectors) set(i int, b []byte) {
	v.iovs[i].Base = unsafe.SliceData(b)
	v.iovs[i].SetLen(len(b))
	v.msgs[i].hdr = unix.Msghdr{Iov: &v.iovs[i], Iovlen: 1}
}

// call runs trap (SYS_SENDMMSG or SYS_RECVMMSG) over the messages from to to,
// not waiting, and returns how many were done.
func (v *vectors) call(trap uintptr, fd, from, to int) (int, unix.Errno) {
	for {
		n, _, errno := unix.Syscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(&v.msgs[from])),
			uintptr(to-from), unix.MSG_DONTWAIT, 0, 0)
		runtime.KeepAlive(v)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// Tx is a worker's scratch for sending. Not safe for concurrent use.
type Tx struct{ vectors }

// NewTx returns scratch for one worker.
func NewTx() *Tx { return new(Tx) }

// rxScratch is what a receive ring needs to fetch large frames.
type rxScratch struct {
	vectors
	bufs  [frame.BatchSize][]byte
	parts [frame.BatchSize]unix.Iovec // of messages that take several places
	used  int                         // of them
}
