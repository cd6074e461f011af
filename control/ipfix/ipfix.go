package ipfix

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmware/go-ipfix/pkg/entities"
	"github.com/vmware/go-ipfix/pkg/registry"
)

const (
	version = 10
	port    = "4739" // IANA's for IPFIX
	// Fits an Ethernet frame with room for tunnels: fragments would be lost whole.
	maxMessage = 1400
	// A collector over UDP that was restarted has forgotten the templates (RFC
	// 7011 8.4).
	templateEvery = 30 * time.Second

	firstTemplate = 256 // IPv6 has the next
)

// EndReason is IANA's flowEndReason.
type EndReason uint8

const (
	IdleTimeout   EndReason = 1
	ActiveTimeout EndReason = 2 // the flow goes on; the counts are those since its last record
	EndOfFlow     EndReason = 3
)

// Record is one direction of a flow. Its addresses are all of one family.
type Record struct {
	Src, Dst       netip.AddrPort
	NATSrc, NATDst netip.AddrPort // as it left the switch
	Proto          uint8
	Packets, Bytes uint64 // since the flow's last record
	Start, End     time.Time
	Reason         EndReason
}

// names are the information elements of both templates; those of addresses have a
// name for each family in place of the %.
var names = []string{
	"sourceIP%Address", "destinationIP%Address", "sourceTransportPort", "destinationTransportPort", "protocolIdentifier",
	"packetDeltaCount", "octetDeltaCount", "flowStartMilliseconds", "flowEndMilliseconds", "flowEndReason",
	"postNATSourceIP%Address", "postNATDestinationIP%Address", "postNAPTSourceTransportPort", "postNAPTDestinationTransportPort",
}

// template is the elements of a family's records. It does not change once made.
type template struct {
	id       uint16
	elements []*entities.InfoElement
}

// templates are those of IPv4 and IPv6.
var templates = sync.OnceValue(func() (list [2]template) {
	registry.LoadRegistry()
	for f, family := range []string{"v4", "v6"} {
		list[f].id = firstTemplate + uint16(f)
		for _, name := range names {
			e, err := registry.GetInfoElement(strings.Replace(name, "%", family, 1), registry.IANAEnterpriseID)
			if err != nil {
				panic(err) // a name above is none of IANA's
			}
			list[f].elements = append(list[f].elements, e)
		}
	}
	return list
})

// values are what a record has of its template's elements.
func (r *Record) values(t *template) []entities.InfoElementWithValue {
	e := t.elements
	u16, u64 := entities.NewUnsigned16InfoElement, entities.NewUnsigned64InfoElement
	ip := func(e *entities.InfoElement, a netip.AddrPort) entities.InfoElementWithValue {
		return entities.NewIPAddressInfoElement(e, a.Addr().AsSlice())
	}
	return []entities.InfoElementWithValue{
		ip(e[0], r.Src), ip(e[1], r.Dst), u16(e[2], r.Src.Port()), u16(e[3], r.Dst.Port()), entities.NewUnsigned8InfoElement(e[4], r.Proto),
		u64(e[5], r.Packets), u64(e[6], r.Bytes),
		entities.NewDateTimeMillisecondsInfoElement(e[7], uint64(r.Start.UnixMilli())), entities.NewDateTimeMillisecondsInfoElement(e[8], uint64(r.End.UnixMilli())),
		entities.NewUnsigned8InfoElement(e[9], uint8(r.Reason)),
		ip(e[10], r.NATSrc), ip(e[11], r.NATDst), u16(e[12], r.NATSrc.Port()), u16(e[13], r.NATDst.Port()),
	}
}

// Exporter sends records to one collector. One caller at a time.
//
// Messages are built by go-ipfix; they are sent here, because its exporting process
// counts a message's own records in its sequence number, which a collector takes for
// loss (RFC 7011 3.1), and is over for good with the first datagram that is refused.
type Exporter struct {
	conn      net.Conn
	domain    uint32
	sequence  uint32 // data records sent before
	templates time.Time
}

// Dial prepares to send to a collector, host:port; the port may be left out. UDP
// tells nobody whether it is there.
func Dial(collector string, domain uint32) (*Exporter, error) {
	at := collector
	if _, _, err := net.SplitHostPort(at); err != nil {
		at = net.JoinHostPort(collector, port)
	}
	conn, err := net.Dial("udp", at)
	if err != nil {
		return nil, fmt.Errorf("IPFIX collector %s: %w: give ADDRESS:PORT", collector, err)
	}
	return &Exporter{conn: conn, domain: domain}, nil
}

// Close ends the export.
func (e *Exporter) Close() error { return e.conn.Close() }

// Send sends records in as many messages as they take, before them the templates
// when those are due. After an error the rest is sent all the same: a collector
// that is not there yet refuses one datagram, not the next.
func (e *Exporter) Send(now time.Time, list []Record) (err error) {
	kinds := templates()
	if now.Sub(e.templates) >= templateEvery {
		e.templates = now
		for f := range kinds {
			set, serr := entities.MakeTemplateSet(kinds[f].id, kinds[f].elements)
			err = errors.Join(err, serr, e.send(now, set))
		}
	}
	for f := range kinds {
		t := &kinds[f]
		most := (maxMessage - entities.MsgHeaderLength - entities.SetHeaderLen) / recordLen(t)
		own := slices.DeleteFunc(slices.Clone(list), func(r Record) bool { return r.Src.Addr().Is4() != (f == 0) })
		for part := range slices.Chunk(own, most) {
			set := entities.NewSet(false)
			serr := set.PrepareSet(entities.Data, t.id)
			for i := range part {
				serr = errors.Join(serr, set.AddRecordV2(part[i].values(t), t.id))
			}
			err = errors.Join(err, serr, e.send(now, set))
			e.sequence += uint32(len(part))
		}
	}
	return err
}

func recordLen(t *template) (n int) {
	for _, e := range t.elements {
		n += int(e.Len)
	}
	return n
}

// send sends a message of one set.
func (e *Exporter) send(now time.Time, set entities.Set) error {
	set.UpdateLenInHeader()
	m := entities.NewMessage(false)
	m.SetVersion(version)
	m.SetObsDomainID(e.domain)
	m.SetMessageLen(uint16(entities.MsgHeaderLength + set.GetSetLength()))
	m.SetExportTime(uint32(now.Unix()))
	m.SetSequenceNum(e.sequence)
	b := append(m.GetMsgHeader(), set.GetHeaderBuffer()...)
	for _, r := range set.GetRecords() {
		b = append(b, r.GetBuffer()...)
	}
	_, err := e.conn.Write(b)
	return err
}
