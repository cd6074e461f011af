package report

// Counts are how many frames came in at the subject's ports, and how many of them the kernel's
// side carried.
type Counts struct{ Came, Carried uint64 }

// Since is what was counted since an earlier time.
func (c Counts) Since(before Counts) Counts {
	return Counts{c.Came - before.Came, c.Carried - before.Carried}
}

// Carried is what came of a row's load to the subject, over all rounds, and what of it the kernel's
// side carried.
type Carried struct {
	Came   float64 `json:"frames"`
	Kernel float64 `json:"carried"`
	Made   float64 `json:"connections,omitempty"` // of loads that begin many
}

// Add adds a round, in which so many connections were made: 0, if the load is none of that kind.
func (c *Carried) Add(made float64, n Counts) {
	c.Came += float64(n.Came)
	c.Kernel += float64(n.Carried)
	c.Made += made
}

// String is the share of the frames, and of the connections of which the switch has seen no frame,
// at least.
func (c Carried) String() string {
	switch {
	case c.Came == 0:
		return ""
	case c.Made == 0:
		return Share.Format(min(1, c.Kernel/c.Came))
	}
	return Share.Format(min(1, c.Kernel/c.Came)) + " of frames, " + Share.Format(min(1, max(0, 1-(c.Came-c.Kernel)/c.Made))) + " of connections"
}
