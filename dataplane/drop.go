package dataplane

// DropReason says why a frame ended. Every frame that enters the switch is sent
// or counted under exactly one reason. The name begins with the stage that
// dropped it, which is also the name of the file to read.
type DropReason uint8

// NotDropped is the zero reason: the frame goes on.
const (
	NotDropped DropReason = iota

	DropInvalidOffload // the virtio header cannot be true of the frame
	DropNewcomer       // it may begin a flow, and too many of those wait for its container

	DropNotReady  // the port is in no snapshot yet, or no longer
	DropMalformed // lengths or header fields contradict each other

	DropTagged    // a VLAN tag where none belongs: an access port, an uplink, a second tag, 802.1ad
	DropNotMember // the port is not in the VLAN of the tag

	DropBadSource     // source MAC is multicast or zero
	DropReservedGroup // 01-80-C2-00-00-0X is not forwarded by a bridge (802.1Q 8.6.3)
	DropNoIPv6        // IPv6 in a network that has none: no policy would cover it
	DropSpoofedMAC    // source MAC is pinned to another port
	DropNotFromHost   // came from the host's TAP but is not the host's own traffic
	DropSpoofedIP     // source address was not handed out to the port
	DropForgedSource  // from an uplink with a source address that is ours
	DropSpoofedARP    // ARP that speaks for another's address
	DropSpoofedND     // neighbour discovery that speaks for another's address
	DropRouterMessage // router advertisement or redirect from a container
	DropDHCPServer    // a DHCP server's message from a container
	DropUnreadable    // headers that hide what the packet is

	DropFlapping // the station moves too often and was frozen on its port

	DropSamePort     // the destination is on the port it came from
	DropNoHostPort   // for the host, but the network has no host port
	DropIsolatedPort // between two ports that are isolated from each other
	DropOversize     // larger than the network's MTU

	DropMalformedGroup // an IGMP or MLD message whose lengths contradict each other

	DropStorm // flooded faster than the port may

	DropFragment         // a fragment whose first never came, or more of them than there is room for
	DropOverlap          // fragments that overlap or contradict each other (RFC 5722)
	DropHostAccess       // to the host, from a network that keeps its containers from it
	DropUnmatchedError   // an ICMP error that quotes no tracked flow
	DropBadChecksum      // an ICMP error whose checksum, or that of the quoted header, is wrong (RFC 5508 REQ-3)
	DropForgedError      // an ICMP error that cannot be about what was sent: sequence number, MTU (RFC 5927)
	DropICMPType         // neither a query nor an error that passes a translator (RFC 5508 REQ-10, REQ-11)
	DropUnsupportedProto // a protocol that cannot be translated
	DropBadReset         // a TCP RST without the exact sequence number (RFC 5961 section 3)
	DropMartian          // a source or destination that no routed packet can have
	DropUnclaimed        // from the uplink, and neither published nor a reply
	DropUninvited        // to another container's port of masquerade, which does not let it in
	DropAsleep           // of a flow whose address of the host is away

	DropTTL        // TTL or hop limit ran out
	DropNoRoute    // no route, or one that leaves by no uplink
	DropNoEgress   // the way that was chosen for the container is not there
	DropNoHost     // the address in the network was handed out to nobody
	DropBroadcast  // the broadcast address of another link
	DropIsolated   // another network of this switch
	DropInternal   // the network has no way out
	DropTooBig     // larger than the next link's MTU and not to be cut
	DropNoNeighbor // the next hop's MAC stayed unknown, or the waiting room was full

	DropUnknownSource  // masquerade only serves addresses that were handed out
	DropInvalidState   // a TCP segment that can begin no flow
	DropTableFull      // the map of peers is full
	DropShare          // conntrack is full, and its container has its share of it
	DropPortsExhausted // no masquerade port is free
	DropQuota          // the container has as many flows as it may
	DropFlowRate       // the container begins flows faster than it may
	DropTupleConflict  // the reply tuple belongs to another flow

	DropNobody     // flooded, but no other port may have it
	DropDeviceFull // the port's device took no more
	DropPortGone   // the port was removed in this turn

	NumDropReasons
)

var dropNames = [NumDropReasons]string{
	NotDropped:           "not-dropped",
	DropInvalidOffload:   "receive-invalid-offload",
	DropNewcomer:         "receive-newcomer",
	DropNotReady:         "parse-not-ready",
	DropMalformed:        "parse-malformed",
	DropTagged:           "vlan-tagged",
	DropNotMember:        "vlan-not-member",
	DropBadSource:        "guard-bad-source",
	DropReservedGroup:    "guard-reserved-group",
	DropNoIPv6:           "guard-no-ipv6",
	DropSpoofedMAC:       "guard-spoofed-mac",
	DropNotFromHost:      "guard-not-from-host",
	DropSpoofedIP:        "guard-spoofed-ip",
	DropForgedSource:     "guard-forged-source",
	DropSpoofedARP:       "guard-spoofed-arp",
	DropSpoofedND:        "guard-spoofed-nd",
	DropRouterMessage:    "guard-router-message",
	DropDHCPServer:       "guard-dhcp-server",
	DropUnreadable:       "guard-unreadable",
	DropFlapping:         "learn-flapping",
	DropSamePort:         "classify-same-port",
	DropNoHostPort:       "classify-no-host-port",
	DropIsolatedPort:     "classify-isolated-port",
	DropOversize:         "classify-oversize",
	DropMalformedGroup:   "snoop-malformed",
	DropStorm:            "storm-limit",
	DropFragment:         "prerouting-fragment",
	DropOverlap:          "prerouting-fragment-overlap",
	DropBadChecksum:      "prerouting-bad-checksum",
	DropForgedError:      "prerouting-forged-error",
	DropICMPType:         "prerouting-icmp-type",
	DropBadReset:         "prerouting-bad-reset",
	DropMartian:          "prerouting-martian",
	DropHostAccess:       "prerouting-host-access",
	DropUnmatchedError:   "prerouting-unmatched-error",
	DropUnsupportedProto: "prerouting-unsupported-protocol",
	DropUnclaimed:        "prerouting-unclaimed",
	DropUninvited:        "prerouting-uninvited",
	DropAsleep:           "prerouting-asleep",
	DropTTL:              "route-ttl-exceeded",
	DropNoRoute:          "route-no-route",
	DropNoEgress:         "route-no-egress",
	DropNoHost:           "route-no-host",
	DropBroadcast:        "route-broadcast",
	DropIsolated:         "route-isolated",
	DropInternal:         "route-internal-network",
	DropTooBig:           "route-too-big",
	DropNoNeighbor:       "route-no-neighbor",
	DropUnknownSource:    "postrouting-unknown-source",
	DropInvalidState:     "postrouting-invalid-state",
	DropTableFull:        "postrouting-table-full",
	DropShare:            "postrouting-share",
	DropPortsExhausted:   "postrouting-ports-exhausted",
	DropQuota:            "postrouting-quota",
	DropFlowRate:         "postrouting-flow-rate",
	DropTupleConflict:    "postrouting-tuple-conflict",
	DropNobody:           "egress-nobody",
	DropDeviceFull:       "egress-device-full",
	DropPortGone:         "egress-port-gone",
}

// String is the reason's name and metric label: stage, dash, cause.
func (r DropReason) String() string {
	if r < NumDropReasons {
		return dropNames[r]
	}
	return "unknown"
}
