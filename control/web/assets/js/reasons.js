// Written by go test ./control/web -update from docs/frame-walk.md.
export const reasons = {
 "classify-isolated-port": {
  "means": "Between two containers that a row keeps apart: a network made with --icc=false, isolated ports, a rule, also one of a single direction",
  "do": "vswitch why names the row; use a network with communication, or publish the port"
 },
 "classify-no-host-port": {
  "means": "For the host, but the network has no TAP",
  "do": "Restart the daemon: the device has vanished"
 },
 "classify-oversize": {
  "means": "Bridged and larger than the network's MTU, which a bridge cannot tell the sender",
  "do": "Set the same MTU on all interfaces of the network"
 },
 "classify-same-port": {
  "means": "The destination is on the port the frame came from",
  "do": "Nothing, if rare; otherwise something bridges behind that container"
 },
 "egress-device-full": {
  "means": "The port's device took no more, or is down",
  "do": "The receiver does not keep up, or its interface is down: ip -s link"
 },
 "egress-nobody": {
  "means": "Flooded, but no other port may have it: isolated ports, a VLAN with one member",
  "do": "Nothing"
 },
 "egress-port-gone": {
  "means": "The port was removed in this turn",
  "do": "Nothing"
 },
 "guard-bad-source": {
  "means": "The source MAC is multicast or zero",
  "do": "No station sends that: look at the program in the container"
 },
 "guard-dhcp-server": {
  "means": "A message to a DHCP client's port from a container to a neighbour; what leaves our networks by the gateway passes",
  "do": "A DHCP server inside needs --guard off"
 },
 "guard-forged-source": {
  "means": "From an uplink, with a source address of the host or of a network's subnet, for something of ours",
  "do": "Somebody beyond the uplink lies, which the event names by its MAC address; or the network there has the same subnet as one of ours"
 },
 "guard-no-ipv6": {
  "means": "IPv6 in a network that has none: no rule would cover it",
  "do": "Nothing: kernels look for IPv6 routers by themselves. Give the network IPv6 if it is wanted"
 },
 "guard-not-from-host": {
  "means": "Came out of the host's TAP and the host has forwarded it: the program there saw another interface, or the source is not the host's own",
  "do": "Somebody routes through the host towards a container, or a rule of the host (DNAT, such as that of portmap) leads there from another network: publish the port instead"
 },
 "guard-reserved-group": {
  "means": "Sent to 01-80-C2-00-00-0X (spanning tree, LLDP, pause), which a bridge does not forward (802.1Q 8.6.3)",
  "do": "Nothing"
 },
 "guard-router-message": {
  "means": "A router advertisement or an ICMPv6 redirect from a container",
  "do": "A router inside needs --guard off"
 },
 "guard-spoofed-arp": {
  "means": "ARP that speaks for an address of somebody else, or with another MAC",
  "do": "As above: ARP spoofing, or a second host behind the container"
 },
 "guard-spoofed-ip": {
  "means": "The source address was not handed out to the port",
  "do": "A router or VM inside? --guard off. Otherwise look at the program"
 },
 "guard-spoofed-mac": {
  "means": "The source MAC is pinned to another port: the gateway's, or that of another container",
  "do": "Find who uses it: vswitch fdb shows whose it is, the counter's port who sent it"
 },
 "guard-spoofed-nd": {
  "means": "The same of neighbour discovery, and malformed or fragmented messages",
  "do": "As above"
 },
 "guard-unreadable": {
  "means": "ARP of another hardware, or ICMPv6 and UDP behind a source route: not to be judged",
  "do": "Nothing, if rare"
 },
 "learn-flapping": {
  "means": "The station moved more than five times in ten seconds and is frozen for a minute on the port where it was before",
  "do": "A loop, or two stations with one MAC: the log names both ports"
 },
 "parse-malformed": {
  "means": "Lengths or header fields contradict each other",
  "do": "Capture the port: a sender, or an offload between it and us, builds bad packets"
 },
 "parse-not-ready": {
  "means": "The port is in no snapshot: it was just added, or is being removed",
  "do": "Nothing, if it stays at a few frames while something is attached or detached"
 },
 "postrouting-flow-rate": {
  "means": "The container begins flows faster than it may (20,000 a second)",
  "do": "As above"
 },
 "postrouting-invalid-state": {
  "means": "A TCP segment that can begin no flow: RST, or SYN with ACK",
  "do": "Usually the tail of a flow that was flushed or timed out"
 },
 "postrouting-ports-exhausted": {
  "means": "No masquerade port is free on the source address, and none can be shared: other flows to the same peer have them, or the network lets strangers in",
  "do": "As above: every container address and port with a live flow outside holds one"
 },
 "postrouting-quota": {
  "means": "The container has as many flows as it may (16,384, dataplane/conntrack/quota.go)",
  "do": "vswitch nat ls shows them; a scan, or a quota that is too small"
 },
 "postrouting-share": {
  "means": "Conntrack is full (262,144), nobody holds more of it than this container, and all that it holds was used in the last 30 s",
  "do": "vswitch top --shares shows who holds what; --max-flows makes the table larger"
 },
 "postrouting-table-full": {
  "means": "The claims of flows in the kernel are used up",
  "do": "vswitch nat ls shows who holds them; vswitch nat flush --container NAME"
 },
 "postrouting-tuple-conflict": {
  "means": "The reply tuple belongs to another flow",
  "do": "After a restart: the container spoke first on a published connection and was taken for a new flow. vswitch nat flush or reconnect"
 },
 "postrouting-unknown-source": {
  "means": "Masquerade serves addresses that were handed out, each from its own network, and with --guard off those that a container adds of it",
  "do": "The container sends with an address of another network, or of a neighbour"
 },
 "prerouting-asleep": {
  "means": "Of a flow whose address of the host is away: nothing leaves with it. The flow gives way to any other that needs its tuple, and ends when the address stays away for 10 s",
  "do": "Nothing, if the address moves or an uplink flaps"
 },
 "prerouting-bad-checksum": {
  "means": "An ICMP error with a wrong checksum, or one that quotes a wrong header checksum",
  "do": "Capture the port: something on the way damages packets"
 },
 "prerouting-bad-reset": {
  "means": "A TCP RST without the exact sequence number",
  "do": "Nothing, if rare. Many of them: somebody tries to end flows"
 },
 "prerouting-forged-error": {
  "means": "An ICMP error about data that was not sent lately, or with an MTU below 68 (IPv6: 1280)",
  "do": "Nothing: late, or forged"
 },
 "prerouting-fragment": {
  "means": "A fragment whose first did not come within 2 s, or for which there was no room",
  "do": "Lower the sender's packet size; path MTU discovery avoids fragments"
 },
 "prerouting-fragment-overlap": {
  "means": "Fragments of one datagram that overlap, repeat or contradict each other",
  "do": "Nothing, if rare: a duplicate. Otherwise an attack on the receiver's reassembly"
 },
 "prerouting-host-access": {
  "means": "To an address of the host, from a network made with --host-access=false",
  "do": "Publish the port, or make the network without the flag"
 },
 "prerouting-icmp-type": {
  "means": "ICMP that does not pass a translator: redirects, router advertisements, source quench",
  "do": "Nothing"
 },
 "prerouting-martian": {
  "means": "A source or destination that no routed packet can have: loopback, multicast, the host's own, another network's, or both the same; or a packet of a flow that came in elsewhere than its direction does: a container's is its own, the host's the TAP, everybody else's an uplink",
  "do": "Find who sends it by the counter's port"
 },
 "prerouting-unclaimed": {
  "means": "From the uplink, and neither a reply nor for a published port. In the first minute after a start also from a container, in the middle of a connection to a port of masquerade that nobody has taken over, or from a published port that it may not be reached by",
  "do": "A few after a port was removed or a flow ended, or after a start, are normal"
 },
 "prerouting-uninvited": {
  "means": "From a container, for another one's port of masquerade, which lets in whom it has written to (--nat-filter apdf)",
  "do": "The first packet of two programs that punch holes ends so, and the next one passes. Otherwise publish the port"
 },
 "prerouting-unmatched-error": {
  "means": "An ICMP error that quotes no tracked flow",
  "do": "Nothing: late, or forged"
 },
 "prerouting-unsupported-protocol": {
  "means": "A protocol that a change of addresses breaks: IGMP, DCCP, AH, UDP-Lite",
  "do": "It passes inside a network only"
 },
 "receive-invalid-offload": {
  "means": "the virtio header of a frame cannot be true of it, or it is a TCP super-frame of more than 136 segments",
  "do": "Look at what sends there: a kernel's own header is always right, and makes so many segments for a path MTU below 552 only."
 },
 "receive-newcomer": {
  "means": "It came by an uplink to a published port and may begin a flow, and as many wait for a turn of its container as may",
  "do": "A flood, or more clients at once than the machine can serve: vswitch top --shares names the container"
 },
 "route-broadcast": {
  "means": "To the broadcast address of a link other than the sender's: no router forwards it (RFC 2644), and nobody is told",
  "do": "Send to one address; what has to broadcast there runs with --network host"
 },
 "route-internal-network": {
  "means": "The network was made with --internal",
  "do": "Use another network for what needs a way out"
 },
 "route-isolated": {
  "means": "Another network of this switch",
  "do": "Connect the container to both: vswitch network connect"
 },
 "route-no-egress": {
  "means": "The container leaves by a way of its own (attach --egress), which is not there or does not lead to the destination; nothing leaves by another",
  "do": "vswitch inspect NAME shows the way and what it lacks; ip route get ADDRESS oif INTERFACE says whether the host has a route by it"
 },
 "route-no-host": {
  "means": "The address in the network was handed out to nobody",
  "do": "vswitch ps: a container that has gone, or a wrong address"
 },
 "route-no-neighbor": {
  "means": "The next hop's MAC stayed unknown for 3 s, or others needed the room in waiting",
  "do": "ip neigh on the host: the gateway does not answer"
 },
 "route-no-route": {
  "means": "The host has no route there, by its rules of policy routing too, or one that leaves by no uplink",
  "do": "ip route get on the host, with rules ip route get ADDRESS from CONTAINER iif vs-...; --uplink must name the interface; default routes lead to no link-local address: ip route add 169.254.x.y via GATEWAY"
 },
 "route-too-big": {
  "means": "Larger than the next link's MTU, and not to be cut",
  "do": "The sender was told by ICMP; if it does not react, lower the network's MTU"
 },
 "route-ttl-exceeded": {
  "means": "The TTL or hop limit ran out",
  "do": "traceroute causes it; otherwise look for a loop"
 },
 "snoop-malformed": {
  "means": "An IGMP or MLD message whose lengths contradict each other",
  "do": "Capture the port: the sender is broken, or tries something"
 },
 "storm-limit": {
  "means": "The port floods more than it may, or more of what it flooded waits in egress than it has room for",
  "do": "A loop, a scan or a broken program: vswitch capture NAME broadcast or multicast"
 },
 "vlan-not-member": {
  "means": "The trunk does not carry the VLAN of the tag",
  "do": "Add the VLAN to --trunk, or find out who sends it"
 },
 "vlan-tagged": {
  "means": "A tag on an access port or an uplink, a second tag, or one of 802.1ad",
  "do": "If it is meant, make the port a trunk: vswitch attach --trunk"
 }
}
