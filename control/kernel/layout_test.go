package kernel

import (
	"reflect"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// TestLayout: the switch and its programs mean the same memory. The programs' side is
// read from the object.
func TestLayout(t *testing.T) {
	s, err := loadPrograms()
	if err != nil {
		t.Fatal(err)
	}
	for name, typ := range map[string]reflect.Type{
		"flow_ends":        reflect.TypeFor[flowmap.Ends](),
		"flow_identifiers": reflect.TypeFor[flowmap.Identifiers](),
		"flow_entry":       reflect.TypeFor[flowmap.Entry](),
		"flow_half":        reflect.TypeFor[flowmap.Half](),
		"flow_key":         reflect.TypeFor[flowmap.Key](),
		"flow_tally":       reflect.TypeFor[flowmap.Tally](),
		"peer_key":         reflect.TypeFor[flowmap.PeerKey](),
		"subnet_key":       reflect.TypeFor[flowmap.SubnetKey](),
		"asker":            reflect.TypeFor[flowmap.Asker](),
		"station_key":      reflect.TypeFor[flowmap.StationKey](),
		"station":          reflect.TypeFor[flowmap.Station](),
		"station_row":      reflect.TypeFor[flowmap.StationRow](),
		"station_flow":     reflect.TypeFor[flowmap.StationFlow](),
		"bound_ports":      reflect.TypeFor[boundPorts](),
	} {
		var c *btf.Struct
		if err := s.Types.TypeByName(name, &c); err != nil {
			t.Errorf("struct %s: %v", name, err)
			continue
		}
		sameStruct(t, c, typ)
	}
	for name, size := range map[string]uint32{
		programsMapVswFlowKeys: uint32(reflect.TypeFor[flowmap.Key]().Size()), programsMapVswAddrs: uint32(len(header.Addr{})),
		programsMapVswPeers: uint32(reflect.TypeFor[flowmap.PeerKey]().Size()), programsMapVswSubnets: 20,
	} {
		if got := s.Maps[name].KeySize; got != size {
			t.Errorf("map %s: a key of %d bytes, want %d", name, got, size)
		}
	}
}

// sameStruct compares offsets and sizes by name. What Go leaves open between two fields
// may be the first one's in C.
func sameStruct(t *testing.T, c *btf.Struct, typ reflect.Type) {
	members := make(map[string]btf.Member)
	for _, m := range c.Members {
		if !strings.HasPrefix(m.Name, "unused") {
			members[strings.ReplaceAll(m.Name, "_", "")] = m
		}
	}
	if uintptr(c.Size) != typ.Size() {
		t.Errorf("struct %s has %d bytes, %v %d", c.Name, c.Size, typ, typ.Size())
	}
	fields := fieldsOf(typ, 0)
	for i, f := range fields {
		if f.Name == "_" {
			continue
		}
		m, ok := members[strings.ToLower(f.Name)]
		if !ok {
			t.Errorf("struct %s has no %s", c.Name, f.Name)
			continue
		}
		delete(members, strings.ToLower(f.Name))
		size, err := btf.Sizeof(m.Type)
		if err != nil {
			t.Fatal(err)
		}
		most := f.Type.Size()
		if i+1 < len(fields) && fields[i+1].Name == "_" {
			most += fields[i+1].Type.Size()
		}
		if uintptr(m.Offset.Bytes()) != f.Offset || uintptr(size) != f.Type.Size() && uintptr(size) != most {
			t.Errorf("%s.%s: %d bytes at %d, in Go %d at %d", c.Name, m.Name, size, m.Offset.Bytes(), f.Type.Size(), f.Offset)
		}
	}
	for _, m := range members {
		t.Errorf("%s.%s has no field in %v", c.Name, m.Name, typ)
	}
}

// fieldsOf are the fields of a struct and of those embedded in it, at their offsets in it.
func fieldsOf(typ reflect.Type, at uintptr) (list []reflect.StructField) {
	for i := range typ.NumField() {
		f := typ.Field(i)
		f.Offset += at
		if f.Anonymous {
			list = append(list, fieldsOf(f.Type, f.Offset)...)
			continue
		}
		list = append(list, f)
	}
	return list
}

func TestConstants(t *testing.T) {
	s, err := loadPrograms()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]map[string]int{
		"flowmap_limit": {
			"FLOWMAP_VERSION": flowmap.Version, "FLOWMAP_MAX_ENTRIES": flowmap.MaxEntries, "FLOWMAP_CHUNK_ENTRIES": flowmap.ChunkEntries, "FLOWMAP_MAX_CHUNKS": flowmap.MaxChunks,
			"FLOWMAP_MAX_PORTS": flowmap.MaxPorts, "FLOWMAP_MAX_COUNTERS": flowmap.MaxCounters,
			"FLOWMAP_MAX_PEERS": flowmap.MaxPeers, "FLOWMAP_MAX_SUBNETS": flowmap.MaxSubnets,
			"FLOWMAP_MAX_FRAGMENTS": flowmap.MaxFragments, "FLOWMAP_MAX_STRANGERS": flowmap.MaxStrangers,
			"FLOWMAP_MAX_STATIONS": flowmap.MaxStations, "FLOWMAP_MAX_STATION_FLOWS": flowmap.MaxStationFlows,
		},
		"asker_flag":   {"ASKER_HOST": flowmap.AskerHost, "ASKER_IP4": flowmap.AskerIP4, "ASKER_IP6": flowmap.AskerIP6},
		"station_flag": {"STATION_GATEWAY": flowmap.StationGateway},
		"station_row_flag": {
			"STATION_SENDS": flowmap.StationSends, "STATION_RECEIVES": flowmap.StationReceives, "STATION_PEER": flowmap.StationPeer, "STATION_HOST": flowmap.StationHost,
		},
		"flow_state": {
			"FLOW_OFF": int(flowmap.Off), "FLOW_PENDING": int(flowmap.Pending), "FLOW_READY": int(flowmap.Ready),
			"FLOW_DRAIN": int(flowmap.Drain), "FLOW_ACTIVE": int(flowmap.Active),
		},
		"flow_flag": {
			"FLOW_TO_PEER": flowmap.ToPeer, "FLOW_REWRITE": flowmap.Rewrite, "FLOW_NEEDS_DF": flowmap.NeedsDF,
			"FLOW_TO_STACK": flowmap.ToStack, "FLOW_PROVE_SUM": flowmap.ProveSum, "FLOW_COUNTER_SHIFT": flowmap.CounterShift,
		},
		"flow_scale": {"FLOW_SCALE": flowmap.ScaleMask, "FLOW_SCALE_UNKNOWN": flowmap.ScaleUnknown, "FLOW_MOST_UNKNOWN": flowmap.MostUnknown},
		"claim": {
			"CLAIM_SLOTS": flowmap.ClaimSlots, "CLAIM_WILDCARD": flowmap.WildcardSlot, "CLAIM_WILDCARD6": flowmap.WildcardSlot6,
			"CLAIM_PROTOS": flowmap.ClaimProtos, "CLAIM_WORDS": flowmap.ClaimWords,
		},
		"subnet": {"SUBNET_OURS": int(flowmap.SubnetOurs), "SUBNET_ROUTED": int(flowmap.SubnetRouted)},
		"peer":   {"PEER_CLAIMED": int(flowmap.PeerClaimed), "PEER_ASKED": int(flowmap.PeerAsked)},
		"claim_proto": {
			"CLAIM_TCP": flowmap.ClaimProto(header.ProtoTCP), "CLAIM_UDP": flowmap.ClaimProto(header.ProtoUDP),
			"CLAIM_ICMP": flowmap.ClaimProto(header.ProtoICMP), "CLAIM_SCTP": flowmap.ClaimProto(header.ProtoSCTP),
		},
		"relay_socket": {
			"RELAY_TCP": sockTCP4, "RELAY_TCP6": sockTCP6, "RELAY_UDP": sockUDP4, "RELAY_UDP6": sockUDP6,
			"RESOLVER_TCP": resolverSockets, "RESOLVER_TCP6": resolverSockets + 1, "RESOLVER_UDP": resolverSockets + 2, "RESOLVER_UDP6": resolverSockets + 3, "RELAY_SOCKETS": 2 * sockCount,
		},
	} {
		var e *btf.Enum
		if err := s.Types.TypeByName(name, &e); err != nil {
			t.Errorf("enum %s: %v", name, err)
			continue
		}
		for _, v := range e.Values {
			w, ok := want[v.Name]
			if !ok || int(v.Value) != w {
				t.Errorf("%s is %d, in Go %d", v.Name, v.Value, w)
			}
			delete(want, v.Name)
		}
		for v := range want {
			t.Errorf("enum %s has no %s", name, v)
		}
	}
	if l := s.Programs[programsProgVswSeal].License; l != "Dual BSD/GPL" {
		t.Errorf("the license is %q", l)
	}
}
