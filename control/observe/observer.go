package observe

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/metrics"
	"github.com/vswitch/vswitch/control/readers"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/fdb"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// Switch is what an observer asks of dataplane.Switch.
type Switch interface {
	Stats() dataplane.Stats
	NATPorts(slot int) conntrack.NATPortStats
	Explain(in frame.PortID, data []byte) (dataplane.Explanation, error)
	FDB() []fdb.Entry
	Shares() (room [dataplane.NumShared]int, list []dataplane.Shares)
	ReadConns(page []conntrack.Info, place uint32) (n int, next uint32)
	ReadBridged(page []conntrack.Info, place uint32) (n int, next uint32)
	FlushConns(which conntrack.Selector) int
	RecordFlows(ended, begun bool)
	BegunFlows(into []conntrack.Info) (list []conntrack.Info, lost uint64)
	EndedFlows(into []conntrack.Info) (list []conntrack.Info, lost uint64)
	LastDrops(ports []frame.PortID) []dataplane.DropInfo
	dataplane.CaptureDoor
}

// Config is what an Observer needs to know.
type Config struct {
	Switch    Switch
	Directory *directory.Live
	Log       *slog.Logger
	// Relay counts the host's own connections to published ports; nil: there is no relay.
	Relay func() metrics.Relay
	// Names counts what the resolver was asked; nil: there is none.
	Names func() metrics.Names
	// Led is where the relay leads what the host itself sends to a published port; nil: nowhere.
	Led func(proto uint8, at netip.AddrPort) (to netip.AddrPort, ok bool)
	// Relayed is why the host's own connections to published ports are all relayed; nil, or where
	// its error is nil, they are made to the container as far as they stay in their family.
	Relayed func() error
	// Readers bounds what captures take, nil: nothing does.
	Readers *readers.Readers
	// RingBytes is the memory for the newest frames of what RingOf names, in the words
	// of a capture; 0 keeps none, no words are all.
	RingBytes int
	RingOf    []string
	// FlowLog is a file that gets each flow when it ends, as a line of JSON; IPFIX a
	// collector, host:port, that gets them too, from the domain of Identity. "" is none.
	FlowLog, IPFIX string
	Identity       string
}

// Observer watches the switch: flows, tables, counters, drops and frames, under the names
// of the directory. It changes nothing but what is asked of FlushNAT. Its methods are safe
// for concurrent use.
type Observer struct {
	sw      Switch
	dir     *directory.Live
	log     *slog.Logger
	named   func() metrics.Names                               // or nil
	relay   func() metrics.Relay                               // or nil
	led     func(uint8, netip.AddrPort) (netip.AddrPort, bool) // or nil
	relayed func() error                                       // or nil
	readers *readers.Readers                                   // or nil

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	work sync.WaitGroup

	recorder *recorder // of recent frames, or nil
	flowLog  flowLog
}

// New begins to keep recent frames and to write flows, as far as cfg says so.
func New(cfg Config) (_ *Observer, err error) {
	o := &Observer{
		sw: cfg.Switch, dir: cfg.Directory, log: cfg.Log, relay: cfg.Relay, named: cfg.Names, led: cfg.Led, relayed: cfg.Relayed, readers: cfg.Readers,
	}
	o.ctx, o.stop = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			o.Close()
		}
	}()
	if cfg.RingBytes > 0 {
		if err := o.startRecorder(cfg.RingBytes, cfg.RingOf); err != nil {
			return nil, err
		}
	}
	if err := o.startFlowOutputs(cfg); err != nil {
		return nil, err
	}
	return o, nil
}

// Close ends the flow outputs and the streams that FlowLog began; no other may be begun
// from then on. Captures end with the switch.
func (o *Observer) Close() {
	o.stop()
	o.work.Wait()
}

// RingOf says whose recent frames are kept, in the words of a capture; "" is nobody's.
func (o *Observer) RingOf() string {
	if o.recorder == nil {
		return ""
	}
	return words(o.recorder.seen.targets)
}
