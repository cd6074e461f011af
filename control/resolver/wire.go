package resolver

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// ednsSize is the longest answer by UDP: a packet of it is not fragmented (DNS flag day 2020).
	ednsSize = 1232
	// maxQuery is longer than a question with all options that are in use.
	maxQuery = 4096
	// localTTL is how long names of containers may be remembered: they move.
	localTTL  = 5
	headerLen = 12
)

// query is a question that was read.
type query struct {
	*dns.Msg
	opt  *dns.OPT // nil: the asker has no EDNS
	size int      // of the longest answer
	// servers are asked outside, none: the host's.
	servers []netip.Addr
}

// name is what is asked for, without the dot at the end.
func (q *query) name() string { return strings.TrimSuffix(q.Question[0].Name, ".") }

// parse reads a question. Where there is none, answer is what is said of that; nil: nothing, for it may
// be an answer itself, and two that answer each other's answers would never end.
func parse(b []byte, udp bool) (q *query, answer []byte) {
	if len(b) < headerLen || b[2]&0x80 != 0 {
		return nil, nil
	}
	switch {
	case b[2]>>3&0xf != dns.OpcodeQuery:
		return nil, refusal(b, dns.RcodeNotImplemented)
	case len(b) > maxQuery || binary.BigEndian.Uint16(b[4:]) != 1:
		return nil, refusal(b, dns.RcodeFormatError)
	}
	m := new(dns.Msg)
	if m.Unpack(b) != nil || len(m.Question) != 1 {
		return nil, refusal(b, dns.RcodeFormatError)
	}
	q = &query{Msg: m, opt: m.IsEdns0(), size: dns.MaxMsgSize}
	if udp {
		q.size = dns.MinMsgSize
		if q.opt != nil {
			q.size = min(max(dns.MinMsgSize, int(q.opt.UDPSize())), ednsSize)
		}
	}
	return q, nil
}

// refusal is a header alone.
func refusal(b []byte, rcode int) []byte {
	out := make([]byte, headerLen)
	copy(out, b[:2])
	out[2] = 0x80 | b[2]&0x79 // an answer, with opcode and RD as they were
	out[3] = 0x80 | byte(rcode)
	return out
}

// reply begins the answer to a question.
func (q *query) reply(rcode int) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q.Msg)
	m.RecursionAvailable, m.Rcode = true, rcode
	return m
}

// pack makes an answer fit. Nothing that is missing in it is missed by who asks again by TCP.
func (q *query) pack(m *dns.Msg) []byte {
	m.Compress = len(m.Answer)+len(m.Ns) > 1
	extra := m.Extra[:0:0]
	for _, rr := range m.Extra {
		if rr.Header().Rrtype != dns.TypeOPT {
			extra = append(extra, rr)
		}
	}
	m.Extra = extra
	if q.opt != nil {
		m.SetEdns0(ednsSize, q.opt.Do())
		if q.opt.Version() != 0 {
			m.Answer, m.Ns = nil, nil
			m.Rcode = dns.RcodeBadVers
		}
	} else if m.Rcode > 0xf {
		m.Rcode = dns.RcodeServerFailure // which only EDNS could say
	}
	b, err := m.Pack()
	if err == nil && len(b) > q.size {
		m.Truncate(q.size)
		b, err = m.Pack()
	}
	if err != nil {
		b, _ = q.reply(dns.RcodeServerFailure).Pack()
	}
	return b
}

// addresses fills in addresses of the types that are asked for.
func (q *query) addresses(m *dns.Msg, list []netip.Addr) {
	ask := q.Question[0]
	h := dns.RR_Header{Name: ask.Name, Class: dns.ClassINET, Ttl: localTTL}
	for _, a := range list {
		switch {
		case a.Is4() && (ask.Qtype == dns.TypeA || ask.Qtype == dns.TypeANY):
			h.Rrtype = dns.TypeA
			m.Answer = append(m.Answer, &dns.A{Hdr: h, A: a.AsSlice()})
		case a.Is6() && (ask.Qtype == dns.TypeAAAA || ask.Qtype == dns.TypeANY):
			h.Rrtype = dns.TypeAAAA
			m.Answer = append(m.Answer, &dns.AAAA{Hdr: h, AAAA: a.AsSlice()})
		}
	}
}

// pointer fills in the name of an address.
func (q *query) pointer(m *dns.Msg, name string) {
	if t := q.Question[0].Qtype; t == dns.TypePTR || t == dns.TypeANY {
		h := dns.RR_Header{Name: q.Question[0].Name, Class: dns.ClassINET, Ttl: localTTL, Rrtype: dns.TypePTR}
		m.Answer = append(m.Answer, &dns.PTR{Hdr: h, Ptr: dns.Fqdn(name)})
	}
}

// key is what makes answers of others equal.
type key struct {
	name                  string
	qtype, class          uint16
	edns, do, cd, ad, rec bool
	servers               string
}

func (q *query) key() key {
	ask := q.Question[0]
	var servers string
	for _, s := range q.servers {
		servers += s.String() + " "
	}
	return key{
		servers: servers,
		name:    strings.ToLower(ask.Name), qtype: ask.Qtype, class: ask.Qclass,
		edns: q.opt != nil, do: q.opt != nil && q.opt.Do(), cd: q.CheckingDisabled, ad: q.AuthenticatedData, rec: q.RecursionDesired,
	}
}

// outward is the question as it is asked outside: of the asker it has nothing but what is
// asked, and its name is written as by nobody else.
func (q *query) outward() *dns.Msg {
	m := new(dns.Msg)
	m.Id, m.RecursionDesired, m.CheckingDisabled, m.AuthenticatedData = dns.Id(), q.RecursionDesired, q.CheckingDisabled, q.AuthenticatedData
	ask := q.Question[0]
	ask.Name = mixed(ask.Name)
	m.Question = []dns.Question{ask}
	if q.opt != nil {
		m.SetEdns0(ednsSize, q.opt.Do())
	}
	return m
}

// letters is how many letters a name needs for its writing to be nobody else's.
const letters = 8

// mixed writes letters large and small by chance: name servers give the name back as it was, and
// one who hands the question on does too. Few letters stay as they are.
func mixed(name string) string {
	b, n := []byte(name), 0
	for i, c := range b {
		escaped := i > 0 && b[i-1] == '\\'
		if l := c | 0x20; 'a' <= l && l <= 'z' && !escaped {
			n++
			b[i] = l
			if rand.Uint32()&1 == 0 {
				b[i] = c &^ 0x20
			}
		}
	}
	if s := string(b); n >= letters && s != strings.ToLower(s) && s != strings.ToUpper(s) {
		return s
	}
	return name
}

// handOn makes of an answer from outside the one to a question: with its number, its writing of the
// name, and as much less of each TTL as has passed; ttl, unless it is 0, is that of all.
func (q *query) handOn(from *dns.Msg, passed time.Duration, ttl uint32) *dns.Msg {
	m := from.Copy()
	m.Id, m.Response, m.RecursionAvailable = q.Id, true, true
	m.RecursionDesired, m.CheckingDisabled = q.RecursionDesired, q.CheckingDisabled
	m.Authoritative = false
	m.Question = []dns.Question{q.Question[0]}
	for _, rrs := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range rrs {
			h := rr.Header()
			if h.Rrtype == dns.TypeOPT {
				continue
			}
			if strings.EqualFold(h.Name, q.Question[0].Name) {
				h.Name = q.Question[0].Name
			}
			if ttl != 0 {
				h.Ttl = ttl
			} else if s := uint32(passed / time.Second); s < h.Ttl {
				h.Ttl -= s
			} else {
				h.Ttl = 0
			}
		}
	}
	return m
}

// Bounds of how long an answer is kept.
const (
	mostTTL         = 24 * time.Hour
	mostNegativeTTL = 5 * time.Minute
)

// lifetime is how long an answer may be kept (RFC 2308 of one that says that there is
// nothing), 0: not at all.
func lifetime(m *dns.Msg) time.Duration {
	if m.Truncated || m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError {
		return 0
	}
	if len(m.Answer) == 0 || m.Rcode == dns.RcodeNameError {
		for _, rr := range m.Ns {
			if soa, ok := rr.(*dns.SOA); ok {
				return min(time.Duration(min(soa.Minttl, soa.Hdr.Ttl))*time.Second, mostNegativeTTL)
			}
		}
		return 0
	}
	least := mostTTL
	for _, rr := range m.Answer {
		least = min(least, time.Duration(rr.Header().Ttl)*time.Second)
	}
	return least
}

// answers reports whether a message is an answer to a question.
func answers(m, question *dns.Msg) bool {
	return m.Response && m.Id == question.Id && len(m.Question) == 1 && m.Question[0].Qtype == question.Question[0].Qtype &&
		m.Question[0].Qclass == question.Question[0].Qclass && strings.EqualFold(m.Question[0].Name, question.Question[0].Name)
}
