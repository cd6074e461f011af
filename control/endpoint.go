package control

import (
	"slices"

	"github.com/vswitch/vswitch/control/claims"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/reserve"
)

// takeAddress makes the endpoint of a number and finds it a place in its network, or
// gives it the one it had.
func (h *change) takeAddress(n int) (err error) {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	if h.delta.Found {
		h.endpoints[n], err = h.c.inv.Rejoin(h.ct, h.found[n].rec, h.found[n].net)
	} else {
		h.endpoints[n], err = h.c.inv.Join(h.ct, h.joins[n])
	}
	return err
}

// freeAddress is the inverse.
func (h *change) freeAddress(e *inventory.Endpoint) {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	h.c.inv.Leave(e)
	if e.Egress != "" {
		h.c.underlay.Kick() // its interface is nobody's way any more, perhaps
	}
}

// makeCable makes the cable of an endpoint. Without a namespace its end waits for the
// runtime.
func (h *change) makeCable(e *inventory.Endpoint) error {
	var index int
	var err error
	if h.ns == nil {
		index, err = h.c.edge.AddWaitingCable(cableOf(e, h.c.introduces()))
	} else {
		index, err = h.c.edge.AddCable(h.ns, cableOf(e, h.c.introduces()))
	}
	h.c.mu.Lock()
	e.Index = index
	h.c.mu.Unlock()
	return wrapHost(err)
}

// adoptCable takes over a cable whose seal is of the process before, and so are the
// flows that it knows.
func (h *change) adoptCable(e *inventory.Endpoint) error {
	if h.ct.Rec.Handover {
		h.c.followHandover(e)
	}
	return h.c.edge.AdoptCable(e.Index, cableOf(e, h.c.introduces()))
}

// hold finds host ports and holds them, or those that the mapping had.
func (h *change) hold(n int) (err error) {
	s, rec := h.specs[n], h.ct.Rec
	keeper := claims.KeptBy(rec.Runtime, rec.Labels, reserve.Keeper{
		Caller: h.caller, Known: h.kept, Netns: [2]uint64{rec.NetnsDev, rec.NetnsIno},
	})
	m := &inventory.Mapping{Container: h.ct, ContainerFirst: s.ContainerFirst, ByHand: h.byHand && rec.Runtime != ""}
	if h.delta.Found {
		m.Ports, err = h.c.claims.Hold(s, s.HostFirst, h.nameNow, keeper)
	} else if err = h.ct.CheckPublish(s); err == nil {
		m.Ports, err = h.c.claims.Reserve(s, h.nameNow, keeper)
	}
	if err != nil {
		return err
	}
	h.mappings[n] = m
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	h.ct.Mappings = append(h.ct.Mappings, m)
	return nil
}

func (h *change) release(m *inventory.Mapping) error {
	h.c.mu.Lock()
	if slices.Contains(h.ct.Mappings, m) { // else hide took it out
		h.ct.Mappings = inventory.Without(h.ct.Mappings, []*inventory.Mapping{m})
		if !h.delta.Whole {
			h.c.inv.Changed(h.ct)
		}
	}
	h.c.mu.Unlock()
	return h.c.claims.Release(m.Ports)
}

// nameNow is what people call the container, which may change while ports are held.
func (h *change) nameNow() string {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	return h.ct.Called()
}

// claim sets the bits of a mapping where its packets come in.
func (h *change) claim(m *inventory.Mapping) error {
	h.c.mu.Lock()
	want := m.WantedClaims()
	h.c.mu.Unlock()
	err := h.c.claims.Claim(m.Ports, want)
	if !h.delta.Found { // else restore does it, for all
		h.c.storeNumbers()
	}
	return err
}

// reclaim follows a change of a container's networks.
func (h *change) reclaim() {
	for _, m := range h.ct.Mappings {
		if err := h.claim(m); err != nil {
			h.c.log.Error("claim a published port", "container", h.ct.Called(), "port", model.PortsText(m.HostFirst, m.HostLast), "err", err)
		}
	}
}
