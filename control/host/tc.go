package host

import (
	"encoding/binary"
	"errors"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Parents of a qdisc and of filters (linux/pkt_sched.h). The ingress qdisc has the
// parent and the handle of clsact, and takes its filters by the same parent.
const (
	tcClsact  = 0xfffffff1 // TC_H_CLSACT
	tcIngress = 0xfffffff2 // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
	tcRoot    = 0xffffffff // TC_H_ROOT
	tcEgress  = 0xfffffff3 // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)

	clsactHandle = 0xffff0000
)

// filter is a classifier of an interface, as far as we look at it.
type filter struct {
	index  int
	parent uint32
	handle uint32 // 0: the kernel chooses; in a dump: stands for all at this priority
	info   uint32 // tcInfo
	kind   string // "bpf", "flower", ...
	name   string // of a bpf filter, up to 255 bytes
	prog   uint32 // its program's number, as the kernel tells it
}

// tcInfo is tcm_info of a filter for all protocols: priority in the upper half,
// EtherType in network order in the lower.
func tcInfo(priority uint16) uint32 {
	return uint32(priority)<<16 | (unix.ETH_P_ALL&0xff<<8 | unix.ETH_P_ALL>>8)
}

func (f *filter) msg() *nl.TcMsg {
	return &nl.TcMsg{Ifindex: int32(f.index), Parent: f.parent, Handle: f.handle, Info: f.info}
}

func clsact(index int) *nl.TcMsg {
	return &nl.TcMsg{Ifindex: int32(index), Handle: clsactHandle, Parent: tcClsact}
}

// addClsact gives an interface the qdisc whose filters run after the AF_PACKET
// taps and before the stack. The error is EEXIST when it has one, or an ingress
// qdisc.
func (c *conn) addClsact(index int) error {
	return c.do(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL, clsact(index), attrString(nl.TCA_KIND, "clsact"))
}

func (c *conn) delClsact(index int) error {
	return gone(c.do(unix.RTM_DELQDISC, 0, clsact(index)))
}

// addFilter attaches a direct-action program.
func (c *conn) addFilter(f filter, prog int) error {
	return c.setFilter(unix.NLM_F_CREATE|unix.NLM_F_EXCL, f, prog)
}

// replaceFilter gives an attached filter another program, in one step.
func (c *conn) replaceFilter(f filter, prog int) error {
	return c.setFilter(unix.NLM_F_CREATE, f, prog)
}

func (c *conn) setFilter(flags int, f filter, prog int) error {
	options := attr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_BPF_FD, nl.Uint32Attr(uint32(prog)))
	options.AddRtAttr(nl.TCA_BPF_NAME, nl.ZeroTerminated(f.name))
	options.AddRtAttr(nl.TCA_BPF_FLAGS, nl.Uint32Attr(nl.TCA_BPF_FLAG_ACT_DIRECT))
	return c.do(unix.RTM_NEWTFILTER, flags, f.msg(), attrString(nl.TCA_KIND, "bpf"), options)
}

func (c *conn) delFilter(f filter) error {
	return gone(c.do(unix.RTM_DELTFILTER, 0, f.msg(), attrString(nl.TCA_KIND, f.kind)))
}

// gone is nil for the errors that say that what was to be removed is not there: a
// filter (ENOENT), its qdisc (EINVAL), its interface (ENODEV).
func gone(err error) error {
	for _, e := range []error{unix.ENOENT, unix.EINVAL, unix.ENODEV} {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// filters returns what is attached below parent; nothing, when there is no such
// qdisc or interface.
func (c *conn) filters(index int, parent uint32) ([]filter, error) {
	msgs, err := c.dump(unix.RTM_GETTFILTER, unix.RTM_NEWTFILTER, &nl.TcMsg{Ifindex: int32(index), Parent: parent})
	if err != nil {
		return nil, gone(err)
	}
	list := make([]filter, 0, len(msgs))
	for _, m := range msgs {
		if len(m) < nl.SizeofTcMsg {
			continue
		}
		msg := nl.DeserializeTcMsg(m)
		f := filter{index: index, parent: parent, handle: msg.Handle, info: msg.Info}
		var options []byte
		err := attrs(m, nl.SizeofTcMsg, func(typ uint16, v []byte) {
			switch typ {
			case nl.TCA_KIND:
				f.kind = text(v)
			case nl.TCA_OPTIONS:
				options = v
			}
		})
		if err == nil && f.kind == "bpf" {
			err = attrs(options, 0, func(typ uint16, v []byte) {
				switch {
				case typ == nl.TCA_BPF_NAME:
					f.name = text(v)
				case typ == nl.TCA_BPF_ID && len(v) == 4:
					f.prog = binary.NativeEndian.Uint32(v)
				}
			})
		}
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

// qdisc is a queueing discipline of an interface, as far as we look at it.
type qdisc struct {
	index  int
	parent uint32
	handle uint32
	kind   string
}

// qdiscs returns those of an interface or, if index is 0, of all.
func (c *conn) qdiscs(index int) ([]qdisc, error) {
	msgs, err := c.dump(unix.RTM_GETQDISC, unix.RTM_NEWQDISC, &nl.TcMsg{Ifindex: int32(index)})
	if err != nil {
		return nil, gone(err)
	}
	list := make([]qdisc, 0, len(msgs))
	for _, m := range msgs {
		if len(m) < nl.SizeofTcMsg {
			continue
		}
		msg := nl.DeserializeTcMsg(m)
		q := qdisc{index: int(msg.Ifindex), parent: msg.Parent, handle: msg.Handle}
		if err := attrs(m, nl.SizeofTcMsg, func(typ uint16, v []byte) {
			if typ == nl.TCA_KIND {
				q.kind = text(v)
			}
		}); err != nil {
			return nil, err
		}
		list = append(list, q)
	}
	return list, nil
}
