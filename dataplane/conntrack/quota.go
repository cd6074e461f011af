package conntrack

import (
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Quota bounds what one container can take from all others (RFC 6888 REQ-4):
// the flows it began, which also bounds its masquerade mappings, and how fast
// it begins them. Flows that others began with it do not count,
// nor do closed ones that are kept for late packets. A zero field
// takes the default in parentheses, a negative one is no limit.
type Quota struct {
	Flows          int // of all protocols together (16384)
	TCP, UDP, ICMP int // of one protocol (no limit of its own)
	Rate           int // new flows each second (20000)
	Burst          int // new flows at once, after a rest (20000)
}

const (
	quotaFlows = 16384
	// A proxy or a crawler begins thousands of flows a second; what a flood may
	// hold is bounded by quotaFlows.
	quotaRate  = 20000
	quotaBurst = 20000
)

// WithDefaults replaces the zero fields; after it a limit <= 0 is none.
func (q Quota) WithDefaults() Quota {
	for _, d := range []struct {
		field *int
		def   int
	}{{&q.Flows, quotaFlows}, {&q.Rate, quotaRate}, {&q.Burst, quotaBurst}} {
		if *d.field == 0 {
			*d.field = d.def
		}
	}
	return q
}

// Birth is what a new flow costs of a port's credit, ns. Rate is above 0.
func (q *Quota) Birth() int64 { return int64(time.Second) / int64(q.Rate) }

// portFlows counts the flows that a port's container began.
type portFlows struct {
	all atomic.Int32
	of  [3]atomic.Int32 // TCP, UDP, ICMP queries
}

func (p *portFlows) add(proto uint8, n int32) {
	p.all.Add(n)
	if i, ok := quotaClass(proto); ok {
		p.of[i].Add(n)
	}
}

func quotaClass(proto uint8) (int, bool) {
	switch proto {
	case header.ProtoTCP:
		return 0, true
	case header.ProtoUDP:
		return 1, true
	case header.ProtoICMP, header.ProtoICMPv6:
		return 2, true
	}
	return 0, false
}

// room reports whether the quota allows one more flow.
func (p *portFlows) room(q *Quota, proto uint8) bool {
	if q.Flows > 0 && int(p.all.Load()) >= q.Flows {
		return false
	}
	i, ok := quotaClass(proto)
	if !ok {
		return true
	}
	limit := [3]int{q.TCP, q.UDP, q.ICMP}[i]
	return limit <= 0 || int(p.of[i].Load()) < limit
}

// Room reports whether a port's container may have one more flow.
func (t *Table) Room(owner frame.PortID, q *Quota, proto uint8) bool {
	return t.held[owner].room(q, proto)
}

// Held is how many flows count on the quota of a port's container.
func (t *Table) Held(owner frame.PortID) int { return int(t.held[owner].all.Load()) }
