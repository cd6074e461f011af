package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
)

// supplant ends the flow that stands in the way of a new one, and inserts that: a flow that is
// asleep, and one that a container began from its published UDP or SCTP port to a client which
// now comes in by that, from outside or from another container, where the container listens for
// answers.
func (w *worker) supplant(ref conntrack.Ref, s *Snapshot) conntrack.Insertion {
	t := w.sw.conntrack
	c := t.At(ref)
	yields := func(o *conntrack.Conn) bool {
		return s.asleep(o) || (c.Kind == conntrack.KindPublish || c.Kind == conntrack.KindHairpin) && c.Orig.Proto != header.ProtoTCP && o.Kind == conntrack.KindMasquerade && o.Orig == c.Reply
	}
	for _, tuple := range [...]*header.Tuple{&c.Orig, &c.Reply} {
		old, sh := t.Lookup(tuple)
		if old == 0 {
			continue
		}
		sh.RUnlock()
		if !t.Remove(old, yields) {
			return conntrack.TupleTaken
		}
	}
	return t.Insert(ref)
}

// clientPortTries is how many ports of a client are tried, each at random.
const clientPortTries = 16

// anotherPort gives a client that reaches one port of a container by two published ways another
// source port on the second, since the container could not tell the two flows apart. The client
// keeps its address, or the host's that a hairpin has. It inserts the flow then.
func (w *worker) anotherPort(r *routed, ref conntrack.Ref) conntrack.Insertion {
	t := w.sw.conntrack
	c, proto := t.At(ref), r.f.Layers.Tuple.Proto
	if c.Kind != conntrack.KindPublish && c.Kind != conntrack.KindHairpin || r.answers || proto != header.ProtoTCP && proto != header.ProtoUDP {
		return conntrack.TupleTaken
	}
	if old, sh := t.Lookup(&c.Orig); old != 0 { // it is the flow itself that is there already
		sh.RUnlock()
		return conntrack.TupleTaken
	}
	if old, sh := t.Lookup(&c.Reply); old != 0 {
		kind := t.At(old).Kind
		sh.RUnlock()
		if kind != conntrack.KindPublish && kind != conntrack.KindHairpin {
			return conntrack.TupleTaken // the container has spoken to that port of the client itself
		}
	}
	t.LetPort(ref) // of a hairpin: it is the other flow's
	got := conntrack.TupleTaken
	for try := 0; try < clientPortTries && got == conntrack.TupleTaken; try++ {
		r.to.SrcPort = uint16(firstClientPort + w.rng.IntN(1<<16-firstClientPort))
		c.Reply = r.to.Reverse()
		got = t.Insert(ref)
	}
	return got
}

// firstClientPort is the first port that a client has by chance (RFC 6056, 3.2).
const firstClientPort = 1024
