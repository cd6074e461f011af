package header

// ProtoIGMP is the IP protocol of IPv4 group membership.
const ProtoIGMP uint8 = 2

// ICMPv6 types of multicast listener discovery (RFC 2710, RFC 3810).
const (
	MLDQuery    uint8 = 130
	MLDReport   uint8 = 131
	MLDDone     uint8 = 132
	MLDv2Report uint8 = 143
)

// IGMP types (RFC 2236, RFC 3376).
const (
	igmpQuery    = 0x11
	igmpReport   = 0x12
	igmpReportV2 = 0x16
	igmpLeave    = 0x17
	igmpReportV3 = 0x22
)

// Record types of IGMPv3 and MLDv2.
const (
	recordIsInclude = 1
	recordToInclude = 3
	recordBlock     = 6
)

// Membership is an IGMP or MLD message: a query, or reports that Next returns.
type Membership struct {
	Query   bool
	records []byte // of a report of many; else
	group   Addr
	join    bool
	left    int // reports still to be returned
	v6      bool
}

// IsMembership reports whether a packet is an IGMP or MLD message.
func (l *Layers) IsMembership() bool {
	if l.L4 == 0 {
		return false
	}
	switch l.Tuple.Proto {
	case ProtoIGMP:
		return l.Flags&FlagIPv6 == 0
	case ProtoICMPv6:
		switch l.ICMPType {
		case MLDQuery, MLDReport, MLDDone, MLDv2Report:
			return true
		}
	}
	return false
}

// ReadMembership reads a message for which IsMembership is true. It returns
// false when its lengths contradict each other or a group is none.
func ReadMembership(b []byte, l *Layers, m *Membership) bool {
	h := b[l.L4:l.End]
	*m = Membership{v6: l.Flags&FlagIPv6 != 0}
	size, typ := 8, uint8(0) // the message without sources
	if len(h) < size {
		return false
	}
	typ = h[0]
	if m.v6 {
		size = 24
	}
	switch {
	case m.v6 && typ == MLDQuery, !m.v6 && typ == igmpQuery:
		m.Query = true
		more := size + 4
		if len(h) == size {
			return true
		}
		return len(h) >= more && len(h) >= more+int(be.Uint16(h[more-2:]))*m.addrLen()
	case m.v6 && typ == MLDv2Report, !m.v6 && typ == igmpReportV3:
		m.records, m.left = h[8:], int(be.Uint16(h[6:]))
		return m.sound()
	case m.v6 && typ == MLDReport, !m.v6 && (typ == igmpReport || typ == igmpReportV2):
		m.join = true
	case m.v6 && typ == MLDDone, !m.v6 && typ == igmpLeave:
	default:
		return true // of no known kind: says nothing
	}
	if len(h) < size {
		return false
	}
	m.left = 1
	m.group = m.addr(h[size-m.addrLen():])
	return m.group.IsMulticast()
}

func (m *Membership) addrLen() int {
	if m.v6 {
		return 16
	}
	return 4
}

func (m *Membership) addr(b []byte) Addr {
	if m.v6 {
		return Addr(b[:16])
	}
	return AddrFrom4([4]byte(b[:4]))
}

// sound checks that the records lie within the message.
func (m *Membership) sound() bool {
	r := m.records
	for range m.left {
		size := m.recordLen(r)
		if size == 0 || !m.addr(r[4:]).IsMulticast() {
			return false
		}
		r = r[size:]
	}
	return true
}

// recordLen is the length of the first record, 0 when there is no whole one.
func (m *Membership) recordLen(r []byte) int {
	if len(r) < 4+m.addrLen() {
		return 0
	}
	size := 4 + m.addrLen()*(1+int(be.Uint16(r[2:]))) + int(r[1])*4
	if size > len(r) {
		return 0
	}
	return size
}

// Next returns the next group, and whether it is joined, in whatever sources, or
// left. A record that only blocks sources is passed over.
func (m *Membership) Next() (group Addr, join, ok bool) {
	for m.left > 0 {
		m.left--
		if m.records == nil {
			return m.group, m.join, true
		}
		r := m.records
		m.records = r[m.recordLen(r):]
		sources := be.Uint16(r[2:])
		switch r[0] {
		case recordBlock:
			continue
		case recordIsInclude, recordToInclude:
			return m.addr(r[4:]), sources > 0, true
		}
		return m.addr(r[4:]), true, true
	}
	return Addr{}, false, false
}
