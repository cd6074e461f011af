package resolver

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/vswitch/vswitch/control/names"
	"github.com/vswitch/vswitch/control/places"
)

// How many may wait for names outside, and how many TCP connections there may be; one container has half
// of them at most.
const (
	mostLookups = 1024
	mostConns   = 256
)

// Config is what a resolver needs.
type Config struct {
	Zone *names.Zone
	// ResolvConf names the host's name servers, default /etc/resolv.conf.
	ResolvConf string
	// Told waits until Zone has what it is told; asked before a name is taken for an unknown one. nil: it has.
	Told func()
	// Changed is told of a server that fails, or answers again. It must not block; nil: nobody.
	Changed func(Server)

	servers func(now time.Time) []netip.AddrPort // for tests
}

// Resolver answers questions, wherever they come from.
type Resolver struct {
	zone    *names.Zone
	told    func() // nil: nobody tells
	lookups *lookups
	queue   *queue
	serving sync.WaitGroup

	mu    sync.Mutex // guards what follows
	conns *places.Places[string]

	asked, local, refused, malformed atomic.Uint64
}

// asker is who asks, and where.
type asker struct{ client, gateway netip.Addr }

// New makes one.
func New(cfg Config) *Resolver {
	if cfg.ResolvConf == "" {
		cfg.ResolvConf = "/etc/resolv.conf"
	}
	if cfg.servers == nil {
		cfg.servers = (&servers{path: cfg.ResolvConf}).now
	}
	up := &upstream{servers: cfg.servers, changed: cfg.Changed}
	return &Resolver{zone: cfg.Zone, told: cfg.Told, lookups: newLookups(up, mostLookups), queue: newQueue(queueBytes), conns: places.New[string](mostConns)}
}

// answer answers a question and hands the answer to say, once, or never where nothing is to be said. If
// beside is set, names are asked for outside beside the call, and say is called later.
func (r *Resolver) answer(b []byte, from asker, udp, beside bool, say func([]byte)) {
	r.asked.Add(1)
	q, refusal := parse(b, udp)
	if q == nil {
		r.malformed.Add(1)
		if refusal != nil {
			say(refusal)
		}
		return
	}
	if q.Question[0].Qclass != dns.ClassINET || q.Question[0].Qtype == dns.TypeAXFR || q.Question[0].Qtype == dns.TypeIXFR {
		r.refused.Add(1)
		say(q.pack(q.reply(dns.RcodeRefused)))
		return
	}
	ask := names.Question{Asker: from.client, Gateway: from.gateway, Name: q.name()}
	a := r.zone.Answer(ask)
	if a.Kind != names.Here && r.told != nil {
		r.told()
		a = r.zone.Answer(ask)
	}
	m := q.reply(dns.RcodeSuccess)
	switch a.Kind {
	case names.Here:
		r.local.Add(1)
		q.addresses(m, a.Addrs)
		if a.Name != "" {
			q.pointer(m, a.Name)
		}
	case names.Nowhere:
		r.local.Add(1)
		m.Rcode = dns.RcodeNameError
	case names.Refused:
		r.refused.Add(1)
		m.Rcode = dns.RcodeRefused
	default:
		q.servers = a.Servers
		if known := r.lookups.known(q, time.Now()); known != nil {
			m = known
			break
		}
		find := func() {
			if m := r.lookups.find(q, r.zone.Tenant(from.client)); m != nil {
				say(q.pack(m))
			}
		}
		if beside {
			r.serving.Go(find)
		} else {
			find()
		}
		return
	}
	say(q.pack(m))
}

// Stats counts what a resolver has done, and says how its servers do.
type Stats struct {
	Asked     uint64   `json:"asked"`     // questions
	Local     uint64   `json:"local"`     // answered by names of containers
	Cached    uint64   `json:"cached"`    // answered by what was asked outside before
	Refused   uint64   `json:"refused"`   // of nobody's address, or of a kind that nobody answers
	Malformed uint64   `json:"malformed"` // not to be read
	Failed    uint64   `json:"failed"`    // that no server outside has answered
	Looped    uint64   `json:"looped"`    // that were our own
	Lost      uint64   `json:"lost"`      // that their container's share had no room for
	Entries   int      `json:"entries"`   // of the cache
	Servers   []Server `json:"servers"`
}

// Stats reads them.
func (r *Resolver) Stats() Stats {
	s := Stats{
		Asked: r.asked.Load(), Local: r.local.Load(), Refused: r.refused.Load(), Malformed: r.malformed.Load(),
		Lost: r.queue.dropped(), Servers: r.lookups.up.all(),
	}
	s.Entries, s.Cached = r.lookups.cache.stats()
	r.lookups.mu.Lock()
	defer r.lookups.mu.Unlock()
	s.Failed, s.Looped = r.lookups.failed, r.lookups.looped
	s.Lost += r.lookups.places.Gave()
	return s
}
