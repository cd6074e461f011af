package reasons

import (
	"strings"

	"github.com/vswitch/vswitch/dataplane"
)

// remedy says of a drop reason what it means and what changes it. In both texts
// {container}, {capture}, {network}, {proto}, {source}, {destination}, {port}, {peer} and
// {interface} stand for the frame's own. docs/frame-walk.md has the long version.
type remedy struct{ means, fix string }

// remedies has a row for every drop reason.
var remedies = [dataplane.NumDropReasons]remedy{
	dataplane.DropInvalidOffload: {"the offload facts beside the frame cannot be true of it", "look at what sends at {interface}: vswitch capture {capture}"},
	dataplane.DropNewcomer:       {"refused: share of new connections that wait used up: more begin at published ports of a container than it gets turns for", "vswitch top --shares says which container; vswitch capture {capture} shows who begins them"},

	dataplane.DropNotReady:  {"{interface} is just being added or removed", "nothing, if it stays at a few frames"},
	dataplane.DropMalformed: {"lengths or header fields of the packet contradict each other", "find what builds such packets: vswitch capture {capture}"},

	dataplane.DropTagged:    {"the frame has a VLAN tag and {interface} is no trunk", "send without a tag, or make it a trunk: vswitch detach {container}, then vswitch attach {container} --netns PATH --trunk VLANS"},
	dataplane.DropNotMember: {"the trunk at {interface} does not carry the VLAN of the tag", "attach it anew with that VLAN in --trunk: vswitch inspect {container} shows the present ones"},

	dataplane.DropBadSource:     {"the source MAC address is a group's or zero, which no station has", "look at the program in {container}"},
	dataplane.DropReservedGroup: {"frames to 01-80-C2-00-00-0X (spanning tree, LLDP) are for the next bridge and not forwarded", ""},
	dataplane.DropNoIPv6:        {"network {network} has no IPv6", "make one with it: vswitch network create --ipv6 NAME, then vswitch network connect NAME {container}"},
	dataplane.DropSpoofedMAC:    {"the source MAC address belongs to another port", "find whose it is: vswitch fdb --network {network}"},
	dataplane.DropNotFromHost:   {"the host routes somebody else's packets to {network}, past the published ports", "publish the port instead: vswitch port add {peer} {port}:{port}"},
	dataplane.DropSpoofedIP:     {"{source} was not handed out to {container}", "use the address that vswitch inspect {container} shows; a router or virtual machine inside needs --guard off: vswitch detach {container}, then vswitch attach {container} --netns PATH --guard off"},
	dataplane.DropForgedSource:  {"{source} is an address of a container or of the host, and the packet came in by an uplink", "somebody beyond the uplink lies, or its network has the same addresses: look for the sender's MAC address with vswitch events"},
	dataplane.DropSpoofedARP:    {"{container} speaks in ARP for an address that is not its own", "find the program that does; a router or virtual machine inside needs --guard off: vswitch detach {container}, then vswitch attach {container} --netns PATH --guard off"},
	dataplane.DropSpoofedND:     {"{container} speaks in neighbour discovery for an address that is not its own", "find the program that does; a router or virtual machine inside needs --guard off: vswitch detach {container}, then vswitch attach {container} --netns PATH --guard off"},
	dataplane.DropRouterMessage: {"{container} acts as an IPv6 router", "if it may: vswitch detach {container}, then vswitch attach {container} --netns PATH --guard off"},
	dataplane.DropDHCPServer:    {"{container} acts as a DHCP server", "if it may: vswitch detach {container}, then vswitch attach {container} --netns PATH --guard off"},
	dataplane.DropUnreadable:    {"the headers hide what the packet is, so that the guard cannot judge it", "if it is meant: vswitch detach {container}, then vswitch attach {container} --netns PATH --guard off"},

	dataplane.DropFlapping: {"the station moves between ports too often and was frozen on one for a minute", "look for a loop or a MAC address that two stations use: vswitch events --since 1h"},

	dataplane.DropSamePort:     {"the destination is behind the port where the frame came in", "nothing, if rare; otherwise something bridges behind {container}"},
	dataplane.DropNoHostPort:   {"it is for the host, but network {network} has lost its device", "restart the daemon"},
	dataplane.DropIsolatedPort: {"network {network} keeps its containers from each other", "let them speak: vswitch network update {network} --icc"},
	dataplane.DropOversize:     {"the packet is larger than the MTU of network {network}, which a bridge cannot tell the sender", "set the same MTU on all its interfaces: vswitch network inspect {network}"},

	dataplane.DropMalformedGroup: {"an IGMP or MLD message whose lengths contradict each other", "find the sender: vswitch capture {capture}"},

	dataplane.DropStorm: {"refused: share of floods used up: {container} floods more than a port may", "look for a loop or a scan: vswitch capture {capture}"},

	dataplane.DropFragment:         {"the first fragment did not come within 2 s, or refused: share of fragments used up", "lower the sender's packet size; vswitch top --shares says who has how many"},
	dataplane.DropOverlap:          {"fragments of the datagram overlap or contradict each other", "nothing, if rare: a duplicate; otherwise an attack"},
	dataplane.DropHostAccess:       {"network {network} keeps its containers from the host", "publish what they need to reach, or vswitch network update {network} --host-access"},
	dataplane.DropUnmatchedError:   {"an ICMP error about no flow that the switch knows", "nothing: late, or forged"},
	dataplane.DropBadChecksum:      {"an ICMP error with a wrong checksum", "something on the way damages packets: vswitch capture {capture}"},
	dataplane.DropForgedError:      {"an ICMP error about data that was not sent lately", "nothing: late, or forged"},
	dataplane.DropICMPType:         {"ICMP of a type that does not pass a translator", ""},
	dataplane.DropUnsupportedProto: {"{proto} is broken by a change of addresses", "use it inside one network"},
	dataplane.DropBadReset:         {"a TCP RST without the exact sequence number", "nothing, if rare; otherwise somebody tries to end flows"},
	dataplane.DropMartian:          {"{source} to {destination} can be no routed packet here: a source or destination that does not belong to its port", "look at the addresses and routes inside {container}: vswitch inspect {container}"},
	dataplane.DropUnclaimed:        {"{destination} is neither published nor the answer to anything: what comes in for it is the host's own, and a container's own address is not reached from outside", ""},
	dataplane.DropUninvited:        {"{destination} is another container's port of masquerade, which lets in whom it has written to", "two programs that punch holes both send, and the next packet passes; otherwise publish a port, or let everybody in: vswitch network update NETWORK --nat-filter eif"},
	dataplane.DropAsleep:           {"the flow came in by, or left with, an address that the host does not have now: it goes on if the address returns within ten seconds", "ip -br addr shows which addresses there are"},

	dataplane.DropTTL:        {"the TTL ran out on the way", "nothing, if a traceroute did it; otherwise a loop"},
	dataplane.DropNoRoute:    {"the host has no route to {destination}, or one that leaves by no uplink", "ip route get {destination} shows it, with rules of policy routing (ip rule) with from {source} iif and the network's device; the daemon's --uplink names the interfaces that lead out"},
	dataplane.DropNoEgress:   {"the way that was chosen for {container} (--egress) is not there, or does not lead to {destination}, and nothing leaves by another", "vswitch inspect {container} shows the way and what it lacks; ip route get {destination} oif INTERFACE says whether the host has a route by it"},
	dataplane.DropNoHost:     {"no container has the address {destination}", "vswitch ps lists who has which"},
	dataplane.DropBroadcast:  {"{destination} is the broadcast address of another network, and broadcasts are not forwarded", "send to one of its addresses; what has to broadcast there runs in the host's network: vswitch run --network host -- COMMAND"},
	dataplane.DropIsolated:   {"{destination} is in another network, and networks are kept apart", "connect {container} to it: vswitch network connect {peer-network} {container}"},
	dataplane.DropInternal:   {"network {network} has no way out: it is internal or isolated", "connect {container} to one that has: vswitch network connect bridge {container}"},
	dataplane.DropTooBig:     {"the packet is larger than the next link's MTU and must not be cut; the sender was told", "use a network with that MTU: vswitch network create NAME --mtu N, then vswitch network connect NAME {container}"},
	dataplane.DropNoNeighbor: {"the next hop does not answer ARP or neighbour discovery, or refused: share of frames that wait for next hops used up", "ip neigh shows it; look at the cable and the gateway's address; vswitch top --shares says who waits"},

	dataplane.DropUnknownSource:  {"{source} was not handed out to {container}, so that no answer could find back", "use the address that vswitch inspect {container} shows"},
	dataplane.DropInvalidState:   {"the TCP segment begins no connection, and the switch knows none that it belongs to", "connect anew: its state timed out or was flushed"},
	dataplane.DropTableFull:      {"the claims of flows in the kernel are used up", "see who holds flows and let go: vswitch flows, vswitch nat flush --container NAME"},
	dataplane.DropShare:          {"refused: share of flows used up", "nobody holds more, and what the container holds is in use: vswitch top --shares; vswitch nat flush --container NAME, or a larger table: --max-flows"},
	dataplane.DropPortsExhausted: {"refused: share of masquerade ports used up: none of the host's address is free", "see who holds them and let go: vswitch nat ls, vswitch nat flush --container NAME"},
	dataplane.DropQuota:          {"{container} has as many flows as it may", "see them: vswitch flows {container}; forget them: vswitch nat flush --container {container}"},
	dataplane.DropFlowRate:       {"{container} begins flows faster than it may", "look for a scan: vswitch flows {container}"},
	dataplane.DropTupleConflict:  {"the answers could not be told from another flow's answers", "vswitch nat flush --container {container}"},

	dataplane.DropNobody:     {"it was to be flooded, and no other port may have it", ""},
	dataplane.DropDeviceFull: {"the device of {interface} took no more frames, or is down", "look at the receiver: ip -s link show {interface}; vswitch top"},
	dataplane.DropPortGone:   {"the port was removed just then", ""},
}

// Facts are what stands for the words in braces.
type Facts struct {
	Container, Network, Iface, Proto, Source, Destination, Port, Peer, PeerNetwork string
}

// capture is what a capture has to name to see the frame's port.
func (f *Facts) capture() string {
	switch {
	case f.Container != "":
		return f.Container
	case f.Network != "":
		return "network:" + f.Network
	case f.Iface != "":
		return "uplink:" + f.Iface
	}
	return "NAME"
}

// Explain fills a reason's row in. Where a fact is missing its word stands in
// capitals, as in a command's help.
func Explain(why dataplane.DropReason, f Facts) (means, fix string) {
	if why >= dataplane.NumDropReasons {
		return "", ""
	}
	word := func(v, missing string) string {
		if v == "" {
			return missing
		}
		return v
	}
	who := word(f.Container, "")
	if who == "" {
		who = word(f.Iface, "NAME")
	}
	r := strings.NewReplacer(
		"{container}", who, "{capture}", f.capture(), "{network}", word(f.Network, "NETWORK"), "{interface}", word(f.Iface, "the port"),
		"{proto}", word(f.Proto, "tcp"), "{source}", word(f.Source, "the source"), "{destination}", word(f.Destination, "the destination"),
		"{port}", word(f.Port, "PORT"), "{peer}", word(f.Peer, "CONTAINER"), "{peer-network}", word(f.PeerNetwork, "NETWORK"),
	)
	m := remedies[why]
	if why == dataplane.DropUnclaimed {
		m.fix = unclaimed(f)
	}
	return r.Replace(m.means), r.Replace(m.fix)
}

// unclaimed is the way out for who comes from outside, to an address of the host or of a
// container. There is nothing to publish for a ping.
func unclaimed(f Facts) string {
	switch {
	case strings.HasPrefix(f.Proto, "icmp"):
		return "none for a ping: what comes in is for published ports, see vswitch port ls"
	case f.PeerNetwork != "": // a container's own address
		return "publish the port, and use an address of the host: vswitch port add {peer} PORT:{port}/{proto}"
	}
	return "publish a port: vswitch port add CONTAINER {port}:PORT/{proto}"
}

// Remedies lists what each drop reason's way out says, by the reason's name.
func Remedies() map[string]string {
	all := make(map[string]string, len(remedies))
	for r := range remedies {
		_, all[dataplane.DropReason(r).String()] = Explain(dataplane.DropReason(r), Facts{})
	}
	return all
}
