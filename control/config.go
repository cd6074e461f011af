package control

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/control/underlay"
	"github.com/vswitch/vswitch/dataplane/conntrack"
)

// Config is what a controller needs to know. Zero fields are defaults.
type Config struct {
	// Edge is the host's side. New owns it, also after an error.
	Edge     edge.Edge
	StateDir string // what must survive a restart; the caller holds it
	// State is StateDir's, being opened; nil: New begins with it. Who began closes it.
	State *state.Opening
	// Uplinks are the interfaces through which containers go out. Empty or
	// ["auto"]: those that hold a default route, followed as routes change.
	Uplinks []string
	// Workers is the number of threads that move frames, 0: half the CPUs, at
	// most eight.
	Workers int
	// Pool is the space that networks without a subnet of their own take a /24
	// from, default model.DefaultPool.
	Pool netip.Prefix
	// Pool6 is the same for IPv6, of which networks take a /64; default a unique
	// local /48 (RFC 4193) of the state directory's own.
	Pool6 netip.Prefix
	// IPv6 gives the default network IPv6 beside IPv4 when it is made, with the
	// first start of a state directory.
	IPv6 bool
	// MaxFlows bounds the tracked flows, default 262144.
	MaxFlows int
	// Timeouts are how long flows may be idle, by the names of timeoutFields; what
	// is not named has its default.
	Timeouts map[string]time.Duration
	// MasqueradePorts confines the ports of the host that containers' connections leave
	// from, as ranges such as 20000-29999. Empty: those beside ip_local_port_range.
	MasqueradePorts []string
	// CaptureRing is the memory in bytes for the newest frames, which a capture of the
	// last seconds reads; 0 keeps none. CaptureRingOf names whose they are as a capture
	// does; none is all. The kernel's flow table carries no flow of those.
	CaptureRing   int
	CaptureRingOf []string
	// ReaderMemory is the memory in bytes for captures and sorted rows of all readers of the
	// API and the page together, default readers.DefaultMemory.
	ReaderMemory int
	// FlowLog is a file that gets each flow when it ends, as a line of JSON; IPFIX
	// a collector, host:port, that gets them too.
	FlowLog, IPFIX string
	// Strict refuses a start that lacks an uplink, or a place for its flows, also while containers
	// are on record: there is another configuration to try. Otherwise they have a daemon without.
	Strict bool
	// Kept are the inodes of listeners whose ports nobody may publish.
	Kept []uint32
	// Page says where the daemon serves its page, and what opens it; zero: nowhere.
	Page api.Page
	// Version is shown by Info.
	Version string
	Log     *slog.Logger // default slog.Default()

	timeouts   conntrack.Timeouts    // of Timeouts
	masquerade []conntrack.PortRange // of MasqueradePorts
}

// Fill sets the defaults and refuses what cannot be. New does the same; who calls it
// before changes nothing for a configuration that is wrong.
func (cfg *Config) Fill() error {
	if cfg.Workers == 0 {
		cfg.Workers = min(max(1, runtime.NumCPU()/2), 8)
	}
	if !cfg.Pool.IsValid() {
		cfg.Pool = model.DefaultPool
	}
	cfg.Pool = cfg.Pool.Masked()
	if !cfg.Pool.Addr().Is4() || cfg.Pool.Bits() > 30 {
		return fmt.Errorf("pool of subnets %s: use an IPv4 prefix of /30 or larger", cfg.Pool)
	}
	if cfg.Pool6 = cfg.Pool6.Masked(); cfg.Pool6.IsValid() && (!cfg.Pool6.Addr().Is6() || cfg.Pool6.Bits() > 126) {
		return fmt.Errorf("pool of IPv6 subnets %s: use an IPv6 prefix of /126 or larger", cfg.Pool6)
	}
	if cfg.MaxFlows != 0 && (cfg.MaxFlows < minFlows || cfg.MaxFlows > maxFlows) {
		return fmt.Errorf("at most %d flows: use %d to %d", cfg.MaxFlows, minFlows, maxFlows)
	}
	var err error
	if cfg.timeouts, err = compileTimeouts(cfg.Timeouts); err != nil {
		return err
	}
	if cfg.masquerade, err = model.CompileMasqueradePorts(cfg.MasqueradePorts); err != nil {
		return err
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	for _, u := range cfg.Uplinks {
		if u == underlay.Auto && len(cfg.Uplinks) > 1 {
			return errors.New("uplink auto excludes other names: name interfaces, or auto alone")
		}
	}
	return nil
}
