package dataplane

// EnterOffers does what the goroutine of the flow table does, for a switch that was
// not started. It returns the rows, pending ones made ready.
func (s *Switch) EnterOffers() (rows []*FlowSlot) {
	t := s.flows
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.offers) > 0 {
		t.enter(<-t.offers, s)
	}
	t.settle(s)
	for _, r := range t.rows {
		rows = append(rows, &t.slots[r.slot])
	}
	return rows
}
