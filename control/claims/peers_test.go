package claims

import (
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// consuming is a host that takes what the list says.
type consuming struct {
	Edge
	list []host.Consumer
}

func (c *consuming) Consumers() []host.Consumer { return c.list }

// TestTellPeers: the data path hears all that the host uses, also when that is nothing any
// more, and flows that end are told.
func TestTellPeers(t *testing.T) {
	far := netip.MustParseAddr("198.51.100.9")
	h := &consuming{list: []host.Consumer{{Proto: 50, Remote: far}, {Proto: header.ProtoSCTP, Port: 7000}}}
	var log strings.Builder
	tab := New(h, nil, slog.New(slog.NewTextHandler(&log, nil)))
	var got []conntrack.HostPeer
	var lost []flowmap.Peer
	set := func(list []conntrack.HostPeer) ([]flowmap.Peer, int) {
		got = list
		return lost, 3
	}
	tab.TellPeers(set)
	if want := []conntrack.HostPeer{{Proto: 50, Remote: far}, {Proto: header.ProtoSCTP, Port: 7000}}; !reflect.DeepEqual(got, want) || log.Len() != 0 {
		t.Errorf("told %+v, log %q", got, log.String())
	}
	lost = []flowmap.Peer{{Addr: header.AddrFrom(far), Slot: 1, Proto: 50}}
	tab.TellPeers(set)
	if s := log.String(); !strings.Contains(s, "flows=3 peers=1 first=198.51.100.9 protocol=50") {
		t.Errorf("log %q", s)
	}
	h.list, lost = nil, nil
	if tab.TellPeers(set); len(got) != 0 {
		t.Errorf("told %+v of a host that uses nothing", got)
	}
}
