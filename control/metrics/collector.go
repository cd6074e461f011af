package metrics

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vswitch/vswitch/control/api"
)

// collector turns a Reading into metrics. It is safe for concurrent use.
type collector struct{ read func() Reading }

var portLabels = []string{"kind", "network", "container", "interface"}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("vswitch_"+name, help, labels, nil)
}

// Every metric, in the order of docs/metrics.md.
var (
	networks   = desc("networks", "Networks that exist.")
	containers = desc("containers", "Containers that are attached.")

	portRxFrames    = desc("port_receive_frames_total", "Frames that the switch received from a port. A super-frame counts once.", portLabels...)
	portRxBytes     = desc("port_receive_bytes_total", "Bytes that the switch received from a port.", portLabels...)
	portTxFrames    = desc("port_transmit_frames_total", "Frames that a port's device took from the switch.", portLabels...)
	portTxBytes     = desc("port_transmit_bytes_total", "Bytes that a port's device took from the switch.", portLabels...)
	portKernelDrops = desc("port_kernel_dropped_frames_total", "Frames that the kernel lost before the switch could read them.", portLabels...)
	portDrops       = desc("port_dropped_frames_total", "Frames of a port that the switch dropped, by reason. Reasons that never happened there are left out.", append(portLabels, "reason")...)
	portCost        = desc("port_cost_seconds_total", "Time of a forwarding thread that a port's frames cost, as the scheduler of turns counts it.", portLabels...)
	drops           = desc("dropped_frames_total", "Frames that the switch dropped, by reason, ports that are gone included.", "reason")

	fdbEntries = desc("fdb_entries", "Stations in the MAC tables.", "type")
	fdbLimit   = desc("fdb_entries_limit", "Learned stations that the MAC tables have room for.")
	fdbMoves   = desc("fdb_moves_total", "Moves of learned stations from port to port.")

	flows     = desc("conntrack_entries", "Tracked flows.", "proto")
	flowLimit = desc("conntrack_entries_limit", "Flows that conntrack has room for.")
	halfOpen  = desc("conntrack_half_open_entries", "Tracked flows that only one side wants so far.")
	tableFull = desc("conntrack_refused_total", "Flows that were refused because conntrack was full.")
	evicted   = desc("conntrack_evicted_total", "Flows that made room for others.")

	flowRows    = desc("flow_table_flows", "Flows in the kernel's flow table: carried by the kernel now, or waiting.", "state")
	flowFrames  = desc("flow_table_frames_total", "Frames that the kernel carried by its flow table. A super-frame counts once.")
	flowBetween = desc("station_flows", "Flows between containers that the kernel carries from the first frame on, of the last minute.")
	flowUntold  = desc("station_untold_frames_total", "Frames of such flows for which the table of flows had no room: no flow tells of them.")

	natUsed      = desc("nat_ports_used", "Masquerade ports in use, of ICMP identifiers, by address of the host.", "address", "proto")
	natFree      = desc("nat_ports_free", "Masquerade ports that a new flow may take, by address of the host.", "address", "proto")
	natExhausted = desc("nat_ports_exhausted_total", "Flows that were refused because no masquerade port was free.")
	published    = desc("published_ports", "Published ports of a container.", "container", "proto")

	shareHeld    = desc("share_held", "Entries of a table that all containers share, which a container holds.", "container", "shared")
	shareGave    = desc("share_gave_total", "Entries of a shared table that a container held and that gave way.", "container", "shared")
	shareRefused = desc("share_refused_total", "Entries of a shared table that a container did not get.", "container", "shared")

	captures    = desc("captures_running", "Captures that are running.")
	captureLost = desc("capture_lost_frames_total", "Frames that captures lost because their readers were slow.")

	workerTime   = desc("worker_seconds_total", "Time of a forwarding thread: busy with frames, polling in vain, asleep.", "worker", "state")
	workerTurns  = desc("worker_turns_total", "Turns with at least one frame.", "worker")
	workerSpins  = desc("worker_spins_total", "Rounds over the active ports that found no frame.", "worker")
	workerSleeps = desc("worker_sleeps_total", "Times that a forwarding thread went to sleep.", "worker")
	workerBatch  = desc("worker_batch_frames", "Frames in a turn.", "worker")

	relays         = desc("relay_sessions", "Connections of the host itself to published ports that the relay carries.", "proto")
	relayLimit     = desc("relay_sessions_limit", "Sessions that the relay carries at most, of one user half as many.", "proto")
	readersHeld    = desc("readers_held", "What the readers of the API and the page hold now.", "kind")
	readersLimit   = desc("readers_limit", "What all readers together may hold.", "kind")
	readersRefused = desc("readers_refused_total", "Requests that were refused because their reader, the page or all readers together held what they may.", "kind")

	relayGave = desc("relay_sessions_evicted_total", "Sessions that ended because another took their place: their user had the most, and they were the idlest.", "proto")
	relayLost = desc("relay_dropped_datagrams_total", "Datagrams that found no room: their user had as many waiting as the others leave, or what their session sent before had not left its socket.")

	nameQuestions = desc("names_questions_total", "Questions for names that containers have asked.")
	nameResults   = desc("names_results_total", "Questions for names by what became of them.", "result")
	serverUp      = desc("name_server_up", "Whether a name server of the host answers.", "server")
	serverAsked   = desc("name_server_questions_total", "Questions to a name server of the host.", "server")
	serverFailed  = desc("name_server_failures_total", "Questions that a name server of the host has not answered.", "server")
)

var all = []*prometheus.Desc{
	networks, containers,
	portRxFrames, portRxBytes, portTxFrames, portTxBytes, portKernelDrops, portDrops, portCost, drops,
	fdbEntries, fdbLimit, fdbMoves, flows, flowLimit, halfOpen, tableFull, evicted, flowRows, flowFrames, flowBetween, flowUntold,
	natUsed, natFree, natExhausted, published, shareHeld, shareGave, shareRefused, captures, captureLost,
	workerTime, workerTurns, workerSpins, workerSleeps, workerBatch, relays, relayLimit, relayGave, relayLost, readersHeld, readersLimit, readersRefused,
	nameQuestions, nameResults, serverUp, serverAsked, serverFailed,
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range all {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	r := c.read()
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(networks, r.Networks)
	gauge(containers, r.Containers)
	namesakes := make(map[[4]string]bool)
	for i := range r.Ports {
		p := &r.Ports[i]
		l := labelsOf(p)
		if key := [4]string(l); namesakes[key] { // in one network with its own name
			l[3] = p.Port
		} else {
			namesakes[key] = true
		}
		count(portRxFrames, p.RxFrames, l...)
		count(portRxBytes, p.RxBytes, l...)
		count(portTxFrames, p.TxFrames, l...)
		count(portTxBytes, p.TxBytes, l...)
		count(portKernelDrops, p.KernelDrops, l...)
		ch <- prometheus.MustNewConstMetric(portCost, prometheus.CounterValue, float64(p.CostNS)/1e9, l...)
		for reason, n := range p.Drops {
			count(portDrops, n, append(l[:len(l):len(l)], reason)...)
		}
	}
	for reason, n := range r.Drops {
		count(drops, n, reason)
	}
	gauge(fdbEntries, r.FDBLearned, "learned")
	gauge(fdbEntries, r.FDBStatic, "static")
	gauge(fdbLimit, r.FDBMax)
	count(fdbMoves, r.FDBMoves)
	for proto, n := range r.Flows {
		gauge(flows, n, proto)
	}
	gauge(flowLimit, r.MaxFlows)
	gauge(halfOpen, r.HalfOpen)
	count(tableFull, r.TableFull)
	count(evicted, r.Evicted)
	gauge(flowRows, r.FlowActive, "active")
	gauge(flowRows, r.FlowRows-r.FlowActive, "waiting")
	count(flowFrames, r.FlowFrames)
	gauge(flowBetween, r.FlowBetween)
	count(flowUntold, r.FlowUntold)
	for _, n := range r.NAT {
		gauge(natUsed, n.Used, n.Address, n.Proto)
		gauge(natFree, n.Free, n.Address, n.Proto)
	}
	count(natExhausted, r.PortsExhausted)
	ports := make(map[Published]int)
	for _, p := range r.Published {
		ports[Published{p.Container, p.Proto, 0}] += p.Ports
	}
	for p, n := range ports {
		gauge(published, n, p.Container, p.Proto)
	}
	for _, s := range withoutNamesakes(r.Shares) {
		gauge(shareHeld, s.Held, s.Container, s.Shared)
		count(shareGave, s.Gave, s.Container, s.Shared)
		count(shareRefused, s.Refused, s.Container, s.Shared)
	}
	gauge(captures, r.Captures)
	count(captureLost, r.CaptureLost)
	for i := range r.Workers {
		collectWorker(ch, strconv.Itoa(i), &r.Workers[i], r.BatchSizes)
	}
	gauge(relays, r.Relay.TCP, "tcp")
	gauge(relays, r.Relay.UDP, "udp")
	gauge(relayLimit, r.Relay.MaxTCP, "tcp")
	gauge(relayLimit, r.Relay.MaxUDP, "udp")
	count(relayGave, r.Relay.GaveTCP, "tcp")
	count(relayGave, r.Relay.GaveUDP, "udp")
	count(relayLost, r.Relay.Dropped)
	n := &r.Names
	count(nameQuestions, n.Asked)
	for result, v := range map[string]uint64{
		"local": n.Local, "cached": n.Cached, "refused": n.Refused, "malformed": n.Malformed, "failed": n.Failed, "looped": n.Looped, "lost": n.Lost,
	} {
		count(nameResults, v, result)
	}
	for _, s := range n.Servers {
		up := 1
		if s.Failing {
			up = 0
		}
		gauge(serverUp, up, s.Addr)
		count(serverAsked, s.Asked, s.Addr)
		count(serverFailed, s.Failed, s.Addr)
	}
	for _, u := range r.Readers {
		gauge(readersHeld, u.Held, u.Kind)
		gauge(readersLimit, u.Bound, u.Kind)
		count(readersRefused, u.Refused, u.Kind)
	}
}

// withoutNamesakes sums up what containers of one name hold: they have one label.
func withoutNamesakes(list []api.Share) (sums []api.Share) {
	at := make(map[[2]string]int)
	for _, s := range list {
		key := [2]string{s.Container, s.Shared}
		i, ok := at[key]
		if !ok {
			at[key], sums = len(sums), append(sums, s)
			continue
		}
		sums[i].Held += s.Held
		sums[i].Gave += s.Gave
		sums[i].Refused += s.Refused
	}
	return sums
}

// labelsOf names a port. A container has one port in a network, so that the name
// of its cable, which changes with each attach, is left out unless another has its name there;
// uplinks and the host's devices have no other name.
func labelsOf(p *api.PortStats) []string {
	dev := p.Port
	if p.Container != "" {
		dev = ""
	}
	return []string{p.Kind, p.Network, p.Container, dev}
}

func collectWorker(ch chan<- prometheus.Metric, name string, w *Worker, sizes []int) {
	count := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	count(workerTime, w.Busy.Seconds(), name, "busy")
	count(workerTime, w.Polling.Seconds(), name, "polling")
	count(workerTime, w.Asleep.Seconds(), name, "asleep")
	count(workerTurns, float64(w.Turns), name)
	count(workerSpins, float64(w.Spins), name)
	count(workerSleeps, float64(w.Sleeps), name)
	buckets, sum := make(map[float64]uint64, len(sizes)), uint64(0)
	for i, size := range sizes {
		sum += w.Batches[i]
		buckets[float64(size)] = sum
	}
	ch <- prometheus.MustNewConstHistogram(workerBatch, sum, float64(w.Frames), buckets, name)
}
