package dataplane

import "github.com/vswitch/vswitch/dataplane/conntrack"

// tenant is whom the flow that r begins is counted on.
func (r *routed) tenant(s *Snapshot) conntrack.Tenant {
	if r.in.Kind == PortContainer {
		return conntrack.Began(r.in.tenant)
	}
	if out := s.ports[r.out]; out != nil && out.Kind == PortContainer {
		return conntrack.Received(out.tenant)
	}
	return conntrack.Nobody
}

// charge says whether the container that sent r may begin a flow.
func (w *worker) charge(r *routed) DropReason {
	if r.in.Kind != PortContainer {
		return NotDropped
	}
	q, id := &r.in.quota, r.in.tenant
	if !w.sw.conntrack.Room(id, q, r.f.Layers.Tuple.Proto) {
		return DropQuota
	}
	if e := w.sw.ports[id].Load(); e != nil && q.Rate > 0 && !e.births[w.id].take(w.now, q.Birth(), q.Birth()*int64(max(q.Burst, 1))) {
		return DropFlowRate
	}
	return NotDropped
}
