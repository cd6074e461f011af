package flowtest

import (
	"encoding/binary"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// answer makes of a question for a MAC address its answer, which goes back.
func (k *Kernel) answer(f *Frame, other int32) Result {
	a, asks := k.Told.Askers[f.Ifindex]
	if !asks || len(f.Data) < header.EthernetLen {
		return Result{Verdict: other}
	}
	var out []byte
	switch etherType(f.Data) {
	case header.TypeARP:
		out = k.answerARP(f, &a)
	case header.TypeIPv6:
		out = k.answerND(f, &a)
	}
	if out == nil {
		return Result{Verdict: other}
	}
	f.Data = append(out, f.Data[min(len(out), len(f.Data)):]...)
	return Result{Verdict: Redirect, Out: f.Ifindex, Ingress: a.Flags&flowmap.AskerHost != 0}
}

// whoHas is the station that is asked for, if the sender may ask and is told.
func (k *Kernel) whoHas(f *Frame, a *flowmap.Asker, sender, target header.Addr) *flowmap.Station {
	from, ok := k.Told.At[flowmap.StationKey{Network: a.Network, Addr: sender}]
	if header.MAC(f.Data[6:]) != a.MAC || a.Flags&flowmap.AskerHost == 0 && (!ok || from.Port != f.Ifindex) {
		return nil
	}
	s, ok := k.Told.At[flowmap.StationKey{Network: a.Network, Addr: target}]
	switch {
	case !ok, s.Port == f.Ifindex:
		return nil
	case s.Flags&flowmap.StationGateway == 0 && a.Hidden>>s.Class&1 != 0:
		return nil
	case f.Data[0]&1 == 0 && header.MAC(f.Data) != s.MAC:
		return nil
	}
	return &s
}

func (k *Kernel) answerARP(f *Frame, a *flowmap.Asker) []byte {
	if a.Flags&flowmap.AskerIP4 == 0 || len(f.Data) < 42 || string(f.Data[14:22]) != "\x00\x01\x08\x00\x06\x04\x00\x01" {
		return nil
	}
	m := header.ReadARP(f.Data, &header.Layers{L3: header.EthernetLen})
	if m.SenderMAC != a.MAC || m.Sender.IsUnspecified() {
		return nil
	}
	s := k.whoHas(f, a, m.Sender, m.Target)
	if s == nil {
		return nil
	}
	return header.AppendARPReply(nil, &m, s.MAC)
}

func (k *Kernel) answerND(f *Frame, a *flowmap.Asker) []byte {
	const option, end = 78, 86
	b := f.Data
	if a.Flags&flowmap.AskerIP6 == 0 || len(b) < option || b[14]>>4 != 6 || b[20] != header.ProtoICMPv6 || b[21] != 255 ||
		b[54] != header.ICMP6NeighborSolicit || b[55] != 0 {
		return nil
	}
	switch binary.BigEndian.Uint16(b[18:]) {
	case 24:
	case 32:
		if len(b) < end || b[option] != 1 || b[option+1] != 1 || header.MAC(b[option+2:]) != a.MAC {
			return nil
		}
	default:
		return nil
	}
	sender, target := header.Addr(b[22:]), header.Addr(b[62:])
	if sender == (header.Addr{}) {
		return nil
	}
	s := k.whoHas(f, a, sender, target)
	if s == nil {
		return nil
	}
	return header.AppendNeighborAdvert(nil, a.MAC, sender, target, s.MAC, s.Flags&flowmap.StationGateway != 0)
}
