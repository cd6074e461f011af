package dataplane

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/fdb"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// walk are the stages of turn, in its order.
var walk = [...]struct {
	name string
	run  func(*worker, *Snapshot)
}{
	{"parse", (*worker).parse},
	{"vlan", (*worker).vlan},
	{"guard", (*worker).guard},
	{"learn", (*worker).learn},
	{"answer", (*worker).answer},
	{"classify", (*worker).classify},
	{"snoop", (*worker).snoop},
	{"storm", (*worker).storm},
	{"prerouting", (*worker).prerouting},
	{"route", (*worker).route},
	{"offer", (*worker).offer}, // to nobody
	{"postrouting", (*worker).postrouting},
	{"account", (*worker).account},
	{"egress", (*worker).egress},
}

// StepKind is what decided about a frame in a stage.
type StepKind uint8

const (
	StepGuarded    StepKind = iota // Port holds its container to MAC and addresses
	StepUnguarded                  // the guard of Port is off
	StepVLAN                       // VLAN
	StepSource                     // FDB: the source MAC is at Port, as Static says
	StepLearned                    // FDB: the source was new and is learned at Port, from Other
	StepAnswered                   // the switch answers itself: the address has MAC
	StepBridged                    // FDB: the destination MAC is at Port
	StepFlooded                    // nobody knows MAC: to all ports of the network
	StepStorm                      // flooding is limited: Used of Limit frames of the credit are spent
	StepQuota                      // flows are limited: Used of Limit of the container's are open
	StepGroup                      // to the ports that asked for the group To.Dst
	StepGateway                    // for the gateway's MAC: it is routed
	StepFromUplink                 // all that comes in by an uplink is routed
	StepTracked                    // conntrack has the flow: Conn, State; From becomes To
	StepPublished                  // Publish: From becomes To
	StepWelcomed                   // a routed network, or a mapping, lets strangers in
	StepHost                       // Prefix is the host's own: to its stack by Port
	StepNew                        // no flow and no published port: its own destination
	StepContainer                  // the address in Network was handed out to MAC at Port
	StepRoute                      // Prefix leads out by Port, to Via
	StepNeighbor                   // the next hop Via has MAC
	StepWaits                      // the MAC of next hop Via is not known: the kernel is asked
	StepTranslated                 // masquerade: From becomes To
	StepTurned                     // for a port of masquerade: it turns back, From becomes To
	StepPlain                      // the addresses stay as they are
	StepRefused                    // an ICMP error goes back to the sender
	StepDropped                    // Reason
)

// Step is one stage's part in the way of a frame, with the entry that decided.
// Which fields are valid Kind says.
type Step struct {
	Stage   string
	Kind    StepKind
	Port    frame.PortID
	Other   frame.PortID
	Network frame.NetworkID
	VLAN    uint16
	MAC     header.MAC
	Static  bool
	Prefix  netip.Prefix
	Via     header.Addr
	From    header.Tuple
	To      header.Tuple
	Conn    conntrack.Kind
	State   string
	Publish PublishConfig
	Used    int
	Limit   int
	Reason  DropReason
}

// Explanation is the way of one frame.
type Explanation struct {
	Steps []Step
	// Out are the ports that something would leave by: Sent is what leaves by the
	// first that is not In, or what goes back when there is none. Both are empty
	// for a frame that is dropped or waits.
	Out    []frame.PortID
	Sent   []byte
	Reason DropReason // NotDropped: it goes on, is answered or waits
	Rule   RuleID     // by which the frame goes on or not; 0: policy was not asked
}

// Explain says what the switch would do now with a frame that came in at a port,
// by the stages themselves, on private copies of what they change. Nothing is
// sent, counted or learned. It allocates some megabytes: it is for people.
func (s *Switch) Explain(in frame.PortID, data []byte) (Explanation, error) {
	if int(in) >= MaxPorts || s.ports[in].Load() == nil {
		return Explanation{}, errors.New("switch: explain: no such port")
	}
	if len(data) < header.EthernetLen || len(data) > frame.MaxLen {
		return Explanation{}, errors.New("switch: explain: no Ethernet frame")
	}
	o, err := s.dryRun(in, header.MAC(data[6:12]), header.MAC(data[:6]))
	if err != nil {
		return Explanation{}, err
	}
	defer o.end()
	w := o.workers[0]
	w.now, w.left = o.now(), frame.Unlimited
	f := w.batch.Next()
	f.Buf, f.In = append(make([]byte, frame.Headroom), data...), in
	x := explainer{w: w, s: o.snapshot.Load(), f: f, e: o.ports[in].Load()}
	x.flooded, x.begun = x.e.storms[0].used(w.now), x.e.births[0].used(w.now)
	x.knew = x.stationAt(header.MAC(data[6:12]))
	for _, stage := range walk {
		x.stage = stage.name
		stage.run(w, x.s)
		if !x.look() {
			break
		}
	}
	x.collect()
	x.out.Rule = x.rule()
	return x.out, nil
}

// explainer looks at a worker between two stages.
type explainer struct {
	w     *worker
	s     *Snapshot
	f     *frame.Frame
	e     *portEntry
	stage string
	knew  frame.PortID // where the source was before
	from  header.Tuple // as it came, before postrouting writes
	// What the port had spent of its credit, ns.
	flooded, begun int64
	out            Explanation
}

// stationAt is the port of the source station before the walk.
func (x *explainer) stationAt(src header.MAC) frame.PortID {
	in := x.s.ports[x.f.In]
	if in == nil || in.network == nil {
		return frame.NoPort
	}
	return x.w.sw.fdb.Lookup(fdb.KeyOf(in.Network, in.VLAN, src))
}

func (x *explainer) step(s Step) {
	s.Stage = x.stage
	x.out.Steps = append(x.out.Steps, s)
}

// look notes what a stage decided and reports whether the frame goes on.
func (x *explainer) look() bool {
	refused := x.w.reply.used > 0
	x.lookLimits()
	for r := range NumDropReasons {
		if x.e.counters[0].drops[r].Load() > 0 {
			x.out.Reason = r
			x.beforeDrop()
			x.step(Step{Kind: StepDropped, Reason: r, Port: x.f.In})
			if refused {
				x.step(Step{Kind: StepRefused, Port: x.f.In})
			}
			return false
		}
	}
	in := x.s.ports[x.f.In]
	switch x.stage {
	case "vlan":
		if x.f.VLAN != 0 {
			x.step(Step{Kind: StepVLAN, VLAN: x.f.VLAN})
		}
	case "guard":
		switch {
		case in.Guarded:
			x.step(Step{Kind: StepGuarded, Port: in.ID, MAC: in.MAC})
		case in.Kind == PortContainer:
			x.step(Step{Kind: StepUnguarded, Port: in.ID})
		}
	case "learn":
		switch {
		case in.Kind == PortUplink:
		case x.knew == x.f.In:
			x.step(Step{Kind: StepSource, Port: x.f.In, MAC: x.f.Layers.Src, Static: in.MAC == x.f.Layers.Src})
		default:
			x.step(Step{Kind: StepLearned, Port: x.f.In, Other: x.knew, MAC: x.f.Layers.Src})
		}
	case "answer":
		if len(x.w.live) == 0 {
			x.step(Step{Kind: StepAnswered, MAC: header.MAC(x.w.ans.frames[0].Data()[6:12])})
			return false
		}
	case "classify":
		x.lookClassified(in)
	case "snoop":
		if len(x.w.bridge) > 0 && x.w.bridge[0].out == frame.NoPort && !x.w.bridge[0].flooded && !x.f.Layers.IsMembership() {
			x.step(Step{Kind: StepGroup, To: x.f.Layers.Tuple})
		}
	case "prerouting":
		return x.lookRouted(x.lookDestination)
	case "route":
		return x.lookRouted(x.lookRoute)
	case "postrouting":
		return x.lookRouted(x.lookTranslated)
	}
	return true
}

// lookLimits notes what is left of what the port may flood, and of the flows that its
// container may have, behind the stage that has taken from it.
func (x *explainer) lookLimits() {
	in := x.s.ports[x.f.In]
	switch x.stage {
	case "storm":
		if spent := x.e.storms[0].used(x.w.now); spent > x.flooded || x.e.counters[0].drops[DropStorm].Load() > 0 {
			cost, most := in.flood()
			x.step(Step{Kind: StepStorm, Port: in.ID, Used: int((spent + cost - 1) / cost), Limit: int(most / cost)})
		}
	case "postrouting":
		if x.e.births[0].used(x.w.now) > x.begun || x.e.counters[0].drops[DropFlowRate].Load() > 0 || x.e.counters[0].drops[DropQuota].Load() > 0 {
			x.step(Step{Kind: StepQuota, Port: in.ID, Used: x.w.sw.conntrack.Held(in.tenant), Limit: in.quota.Flows})
		}
	}
}

func (x *explainer) lookClassified(in *portConfig) {
	switch {
	case len(x.w.routes) > 0 && in.Kind == PortUplink:
		x.step(Step{Kind: StepFromUplink, Port: in.ID})
	case len(x.w.routes) > 0 && in.Kind == PortContainer && x.f.Layers.Dst != in.network.GatewayMAC: // rows ask about it
		x.step(Step{Kind: StepBridged, MAC: x.f.Layers.Dst, Port: x.w.sw.fdb.Lookup(fdb.KeyOf(in.Network, x.f.VLAN, x.f.Layers.Dst)), Static: true})
	case len(x.w.routes) > 0:
		x.step(Step{Kind: StepGateway, MAC: in.network.GatewayMAC, Network: in.Network})
	case len(x.w.bridge) == 0:
	case x.w.bridge[0].out == frame.NoPort:
		x.step(Step{Kind: StepFlooded, MAC: x.f.Layers.Dst, Network: in.Network})
	default:
		out := x.w.bridge[0].out
		p := x.s.ports[out]
		x.step(Step{Kind: StepBridged, MAC: x.f.Layers.Dst, Port: out, Static: p != nil && p.MAC == x.f.Layers.Dst})
	}
}

// lookRouted calls fn unless the frame is bridged or waits.
func (x *explainer) lookRouted(fn func(*routed)) bool {
	if len(x.w.routes) > 0 {
		fn(&x.w.routes[0])
		return true
	}
	if len(x.w.bridge) > 0 {
		if x.stage == "prerouting" && x.out.Steps[len(x.out.Steps)-1].Kind == StepGateway {
			rt := x.s.lookup(x.f.Layers.Tuple.Dst)
			st := Step{Kind: StepHost, Port: x.w.bridge[0].out}
			if rt != nil {
				st.Prefix = rt.Prefix
			}
			x.step(st)
		}
		return true
	}
	if x.stage == "route" {
		r := &x.w.routes[:1][0]
		x.lookRoute(r)
		x.step(Step{Kind: StepWaits, Port: r.route.Uplink, Via: r.nextAddr()})
	}
	return false
}

// nextAddr is the next hop of a frame that leaves by an uplink.
func (r *routed) nextAddr() header.Addr {
	if r.route.via != (header.Addr{}) {
		return r.route.via
	}
	return r.to.Dst
}

func (x *explainer) lookDestination(r *routed) {
	x.from = r.f.Layers.Tuple
	from := x.from
	st := Step{From: from, To: r.to, Conn: r.kind}
	switch {
	case r.turned:
		st.Kind = StepTurned
	case r.tracked:
		st.Kind = StepTracked
		if ref, sh := x.w.sw.conntrack.Lookup(&from); ref != 0 {
			c := x.w.sw.conntrack.At(ref)
			st.State, x.out.Rule = c.State(), RuleID(c.Rule.Load())
			sh.RUnlock()
		}
	case r.kind == conntrack.KindPublish, r.kind == conntrack.KindHairpin:
		st.Kind = StepPublished
		if iv := x.s.published(from.Proto, from.Dst, from.DstPort); iv != nil {
			st.Publish = *iv
		}
	case r.kind == conntrack.KindInbound, r.kind == conntrack.KindRouted:
		st.Kind = StepWelcomed
	default:
		st.Kind = StepNew
	}
	x.step(st)
}

func (x *explainer) lookRoute(r *routed) {
	switch {
	case r.route == nil:
	case r.route.Kind == routeNetwork:
		if h := x.s.stations[r.to.Dst]; h != nil {
			x.step(Step{Kind: StepContainer, Network: h.network.ID, Port: h.port, MAC: h.mac, To: r.to, Prefix: r.route.Prefix})
		}
	case r.route.Kind == RouteUplink:
		x.step(Step{Kind: StepRoute, Prefix: r.route.Prefix, Port: r.route.Uplink, Via: r.nextAddr()})
		if !r.dst.IsZero() {
			x.step(Step{Kind: StepNeighbor, Port: r.route.Uplink, Via: r.nextAddr(), MAC: r.dst})
		}
	}
}

func (x *explainer) lookTranslated(r *routed) {
	from := x.from
	switch {
	case r.to.Src != from.Src || r.to.SrcPort != from.SrcPort:
		x.step(Step{Kind: StepTranslated, From: from, To: r.to, Conn: r.kind})
	case r.to == from:
		x.step(Step{Kind: StepPlain})
	}
}

// beforeDrop notes the entry that led to a drop: the stage has taken the frame off
// its list, but not yet overwritten its place.
func (x *explainer) beforeDrop() {
	if x.stage != "route" && x.stage != "postrouting" || cap(x.w.routes) == 0 {
		return
	}
	if r := &x.w.routes[:1][0]; r.f == x.f && x.stage == "route" {
		x.lookRoute(r)
	}
}

// rule finds the row that decided: what a stage has noted, what a flow was allowed by, or
// what is not asked on a frame's way because nothing forbids it.
func (x *explainer) rule() RuleID {
	in, t := x.s.ports[x.f.In], &x.f.Layers.Tuple
	switch {
	case x.w.ruled != 0 || x.out.Rule != 0:
		return cmp.Or(x.w.ruled, x.out.Rule)
	case in == nil || in.network == nil:
		return 0
	case x.out.Reason == DropInternal && x.stage == "classify":
		return in.network.closes(&x.f.Layers).id()
	case x.f.Layers.Kind < header.KindIP:
		return 0
	case x.out.Reason != NotDropped || len(x.w.bridge) == 0 || x.w.bridge[0].out == frame.NoPort:
		return 0
	}
	out := x.s.ports[x.w.bridge[0].out]
	if out == nil || out.network == nil {
		return 0
	}
	return x.s.judge(&question{from: in.behind(&t.Src), to: out.behind(&t.Dst), tuple: t, via: ViaAddress, lists: x.w.lists}).id()
}

// collect takes what would be sent from the worker's lists.
func (x *explainer) collect() {
	o := &x.w.out
	for _, id := range o.touched {
		if x.w.sw.ports[id].Load() == nil {
			x.out.Reason = DropPortGone
			x.step(Step{Kind: StepDropped, Reason: DropPortGone, Port: id})
			continue
		}
		if x.out.Reason != NotDropped { // the ICMP error alone
			return
		}
		x.out.Out = append(x.out.Out, id)
	}
	slices.Sort(x.out.Out)
	if len(x.out.Out) > 0 {
		first := x.out.Out[0]
		if i := slices.IndexFunc(x.out.Out, func(id frame.PortID) bool { return id != x.f.In }); i >= 0 {
			first = x.out.Out[i]
		}
		x.out.Sent = slices.Clone(o.links[o.head[first]].f.Data())
	}
}
