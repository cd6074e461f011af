package pcapfilter

// EtherTypes and SAPs that a word means.
const (
	etherIP    = 0x0800
	etherARP   = 0x0806
	etherRARP  = 0x8035
	etherIPv6  = 0x86dd
	etherMPLS  = 0x8847
	etherPPPD  = 0x8863
	etherPPPS  = 0x8864
	etherQ     = 0x8100
	etherAD    = 0x88a8
	etherQinQ  = 0x9100
	maxLength  = 1500 // of an 802.3 length field
	protoTCP   = 6
	protoUDP   = 17
	protoSCTP  = 132
	protoICMP6 = 58
	protoFrag  = 44
)

// links are the words for the Ethernet header.
var links = map[string]bool{"ether": true, "link": true, "fddi": true, "tr": true, "wlan": true}

// etherTypes are the protocols of layer 3, and what is like one.
var etherTypes = map[string]uint32{
	"ip": etherIP, "arp": etherARP, "rarp": etherRARP, "ip6": etherIPv6,
	"decnet": 0x6003, "sca": 0x6007, "lat": 0x6004, "moprc": 0x6002, "mopdl": 0x6001, "stp": 0x42,
}

// escapedTypes are further names after "ether proto".
var escapedTypes = map[string]uint32{"ipx": 0x8137, "atalk": 0x809b, "aarp": 0x80f3, "loopback": 0x9000, "revarp": etherRARP, "vlan": etherQ, "mpls": etherMPLS, "lldp": 0x88cc}

// ipProtocol is a protocol behind IP, with the families that the bare word takes.
type ipProtocol struct {
	num    uint32
	v4, v6 bool
	ports  bool
}

var ipProtocols = map[string]ipProtocol{
	"tcp": {protoTCP, true, true, true}, "udp": {protoUDP, true, true, true}, "sctp": {protoSCTP, true, true, true},
	"icmp": {1, true, false, false}, "icmp6": {protoICMP6, false, true, false}, "igmp": {2, true, false, false},
	"igrp": {9, true, false, false}, "pim": {103, true, true, false}, "vrrp": {112, true, false, false}, "carp": {112, true, false, false},
	"ah": {51, true, true, false}, "esp": {50, true, true, false},
}

// namedProtocols are further names after "proto".
var namedProtocols = map[string]uint32{
	"ipip": 4, "ipencap": 4, "ipv6": 41, "gre": 47, "ospf": 89, "ipv6-icmp": protoICMP6, "icmpv6": protoICMP6,
	"udplite": 136, "dccp": 33, "ipv6-frag": protoFrag, "ipv6-route": 43, "ipv6-opts": 60, "egp": 8, "ipcomp": 108, "l2tp": 115,
}

// constants are the names of numbers.
var constants = map[string]uint32{
	"tcpflags": 13, "tcp-fin": 1, "tcp-syn": 2, "tcp-rst": 4, "tcp-push": 8, "tcp-ack": 16, "tcp-urg": 32, "tcp-ece": 64, "tcp-cwr": 128,
	"icmptype": 0, "icmpcode": 1, "icmp-echoreply": 0, "icmp-unreach": 3, "icmp-sourcequench": 4, "icmp-redirect": 5,
	"icmp-echo": 8, "icmp-routeradvert": 9, "icmp-routersolicit": 10, "icmp-timxceed": 11, "icmp-paramprob": 12,
	"icmp-tstamp": 13, "icmp-tstampreply": 14, "icmp-ireq": 15, "icmp-ireqreply": 16, "icmp-maskreq": 17, "icmp-maskreply": 18,
	"icmp6type": 0, "icmp6code": 1, "icmp6-destinationunreach": 1, "icmp6-destinationunrach": 1, "icmp6-packettoobig": 2, "icmp6-timeexceeded": 3,
	"icmp6-parameterproblem": 4, "icmp6-echo": 128, "icmp6-echoreply": 129, "icmp6-multicastlistenerquery": 130,
	"icmp6-multicastlistenerreportv1": 131, "icmp6-multicastlistenerdone": 132, "icmp6-routersolicit": 133,
	"icmp6-routeradvert": 134, "icmp6-neighborsolicit": 135, "icmp6-neighboradvert": 136, "icmp6-redirect": 137,
	"icmp6-routerrenum": 138, "icmp6-nodeinformationquery": 139, "icmp6-nodeinformationresponse": 140,
	"icmp6-ineighbordiscoverysolicit": 141, "icmp6-ineighbordiscoveryadvert": 142, "icmp6-multicastlistenerreportv2": 143,
	"icmp6-homeagentdiscoveryrequest": 144, "icmp6-homeagentdiscoveryreply": 145, "icmp6-mobileprefixsolicit": 146,
	"icmp6-mobileprefixadvert": 147, "icmp6-certpathsolicit": 148, "icmp6-certpathadvert": 149,
	"icmp6-multicastrouteradvert": 151, "icmp6-multicastroutersolicit": 152, "icmp6-multicastrouterterm": 153,
}

// service is a well-known port; proto is 0 when several protocols use it.
type service struct{ port, proto uint32 }

// services are the names of ports that people filter for, as in /etc/services,
// which the switch does not read: an expression means the same everywhere.
var services = map[string]service{
	"ftp-data": {20, protoTCP}, "ftp": {21, protoTCP}, "ssh": {22, protoTCP}, "telnet": {23, protoTCP}, "smtp": {25, protoTCP},
	"domain": {53, 0}, "bootps": {67, protoUDP}, "bootpc": {68, protoUDP}, "tftp": {69, protoUDP}, "http": {80, protoTCP},
	"kerberos": {88, 0}, "pop3": {110, protoTCP}, "sunrpc": {111, 0}, "ntp": {123, protoUDP}, "netbios-ns": {137, protoUDP},
	"netbios-dgm": {138, protoUDP}, "netbios-ssn": {139, protoTCP}, "imap2": {143, protoTCP}, "imap": {143, protoTCP}, "snmp": {161, 0},
	"snmp-trap": {162, 0}, "bgp": {179, protoTCP}, "ldap": {389, 0}, "https": {443, 0}, "microsoft-ds": {445, 0},
	"isakmp": {500, protoUDP}, "syslog": {514, protoUDP}, "submission": {587, protoTCP}, "ldaps": {636, 0}, "domain-s": {853, 0}, "imaps": {993, protoTCP},
	"pop3s": {995, protoTCP}, "openvpn": {1194, 0}, "ms-sql-s": {1433, protoTCP}, "radius": {1812, 0}, "mqtt": {1883, 0},
	"nfs": {2049, 0}, "mysql": {3306, protoTCP}, "ms-wbt-server": {3389, protoTCP}, "ipsec-nat-t": {4500, protoUDP}, "vxlan": {4789, protoUDP},
	"mdns": {5353, protoUDP}, "postgresql": {5432, protoTCP}, "amqp": {5672, 0}, "redis": {6379, protoTCP}, "geneve": {6081, protoUDP},
	"http-alt": {8080, 0},
}
