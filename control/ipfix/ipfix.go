package ipfix

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

const (
	version = 10
	port    = "4739" // IANA's for IPFIX
	// Fits an Ethernet frame with room for tunnels: fragments would be lost whole.
	maxMessage = 1400
	// A collector over UDP that was restarted has forgotten the templates (RFC
	// 7011 8.4).
	templateEvery = 30 * time.Second

	headerLen     = 16
	setHeaderLen  = 4
	templateSetID = 2
	template4     = 256
	template6     = 257
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

// field is an information element: its number and length in a record.
type field struct{ id, size uint16 }

// fields are those of both templates; an address element has a number for each
// family, IPv4 first.
func fields(f int) []field {
	addr := []uint16{4, 16}[f]
	return []field{
		{[]uint16{8, 27}[f], addr}, {[]uint16{12, 28}[f], addr}, // sourceIPAddress, destinationIPAddress
		{7, 2}, {11, 2}, {4, 1}, // sourceTransportPort, destinationTransportPort, protocolIdentifier
		{2, 8}, {1, 8}, // packetDeltaCount, octetDeltaCount
		{152, 8}, {153, 8}, {136, 1}, // flowStartMilliseconds, flowEndMilliseconds, flowEndReason
		{[]uint16{225, 281}[f], addr}, {[]uint16{226, 282}[f], addr}, // postNATSourceIPAddress, postNATDestinationIPAddress
		{227, 2}, {228, 2}, // postNAPTSourceTransportPort, postNAPTDestinationTransportPort
	}
}

// Exporter sends records to one collector. One caller at a time.
type Exporter struct {
	conn      net.Conn
	domain    uint32
	sequence  uint32 // data records sent before
	templates time.Time
	buf       []byte
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
	if now.Sub(e.templates) >= templateEvery {
		e.begin(now)
		e.putTemplates()
		err = e.flush(0)
		e.templates = now
	}
	for f, id := range []uint16{template4, template6} {
		size := 0
		for _, fd := range fields(f) {
			size += int(fd.size)
		}
		most := (maxMessage - headerLen - setHeaderLen) / size
		own := slices.DeleteFunc(slices.Clone(list), func(r Record) bool { return r.Src.Addr().Is4() != (f == 0) })
		for part := range slices.Chunk(own, most) {
			e.begin(now)
			e.putSetHeader(id, setHeaderLen+len(part)*size)
			for i := range part {
				e.putRecord(&part[i])
			}
			if ferr := e.flush(len(part)); err == nil {
				err = ferr
			}
		}
	}
	return err
}

func (e *Exporter) begin(now time.Time) {
	be := binary.BigEndian
	e.buf = be.AppendUint16(e.buf[:0], version)
	e.buf = be.AppendUint16(e.buf, 0) // length, by flush
	e.buf = be.AppendUint32(e.buf, uint32(now.Unix()))
	e.buf = be.AppendUint32(e.buf, e.sequence)
	e.buf = be.AppendUint32(e.buf, e.domain)
}

// flush sends the message, with so many data records.
func (e *Exporter) flush(records int) error {
	binary.BigEndian.PutUint16(e.buf[2:], uint16(len(e.buf)))
	e.sequence += uint32(records)
	_, err := e.conn.Write(e.buf)
	return err
}

func (e *Exporter) putSetHeader(id uint16, length int) {
	e.buf = binary.BigEndian.AppendUint16(e.buf, id)
	e.buf = binary.BigEndian.AppendUint16(e.buf, uint16(length))
}

func (e *Exporter) putTemplates() {
	at := len(e.buf)
	e.putSetHeader(templateSetID, 0)
	for f, id := range []uint16{template4, template6} {
		list := fields(f)
		e.putSetHeader(id, len(list)) // the same shape: ID, count
		for _, fd := range list {
			e.putSetHeader(fd.id, int(fd.size))
		}
	}
	binary.BigEndian.PutUint16(e.buf[at+2:], uint16(len(e.buf)-at))
}

// putRecord writes what fields describes, in that order.
func (e *Exporter) putRecord(r *Record) {
	be := binary.BigEndian
	e.buf = append(append(e.buf, r.Src.Addr().AsSlice()...), r.Dst.Addr().AsSlice()...)
	e.buf = be.AppendUint16(be.AppendUint16(e.buf, r.Src.Port()), r.Dst.Port())
	e.buf = append(e.buf, r.Proto)
	e.buf = be.AppendUint64(be.AppendUint64(e.buf, r.Packets), r.Bytes)
	e.buf = be.AppendUint64(be.AppendUint64(e.buf, uint64(r.Start.UnixMilli())), uint64(r.End.UnixMilli()))
	e.buf = append(e.buf, byte(r.Reason))
	e.buf = append(append(e.buf, r.NATSrc.Addr().AsSlice()...), r.NATDst.Addr().AsSlice()...)
	e.buf = be.AppendUint16(be.AppendUint16(e.buf, r.NATSrc.Port()), r.NATDst.Port())
}
