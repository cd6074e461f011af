/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * What the programs share with the switch. Package dataplane/flowmap says the same in
 * Go; TestLayout of control/kernel compares the two by the object's BTF. Bytes of
 * frames are in network order, everything else as the machine has it.
 */

#include <linux/types.h>

enum flowmap_limit {
	FLOWMAP_VERSION = 6,
	FLOWMAP_MAX_ENTRIES = 131072,
	FLOWMAP_CHUNK_ENTRIES = 8192,
	FLOWMAP_MAX_CHUNKS = FLOWMAP_MAX_ENTRIES / FLOWMAP_CHUNK_ENTRIES,
	FLOWMAP_MAX_PORTS = 4096,
	FLOWMAP_MAX_COUNTERS = 2048,
	FLOWMAP_MAX_PEERS = 262144,
	FLOWMAP_MAX_SUBNETS = 8192,
	FLOWMAP_MAX_FRAGMENTS = 8192,
	FLOWMAP_MAX_STRANGERS = 4096,
	FLOWMAP_MAX_STATIONS = 16384,
	FLOWMAP_MAX_STATION_FLOWS = 65536,
};

/* Who carries the frames of a row on. */
enum flow_state {
	FLOW_OFF,     /* the switch */
	FLOW_PENDING, /* the switch; frames from before the row may be under way */
	FLOW_READY,   /* the switch, until none of the flow's frames is under way */
	FLOW_DRAIN,   /* nobody, until then */
	FLOW_ACTIVE,  /* the kernel */
};

enum flow_flag {
	FLOW_TO_PEER = 1 << 0,  /* into the namespace of the output's other end */
	FLOW_REWRITE = 1 << 1,  /* routed: the entry says what is written */
	FLOW_NEEDS_DF = 1 << 2, /* without DF a packet needs an identification of its own */
	FLOW_TO_STACK = 1 << 3, /* the host's stack has it, as if the output had received it */
	FLOW_PROVE_SUM = 1 << 4, /* a container says where a partial checksum is: prove it */
	/* With FLOW_NEEDS_DF: the counter of identifications, and one. 0: the switch has it. */
	FLOW_COUNTER_SHIFT = 16,
};

/* flow_half.scale. One that nobody has told counts as the largest, up to a window. */
enum flow_scale {
	FLOW_SCALE = 15,
	FLOW_SCALE_UNKNOWN = 1 << 4,
	FLOW_MOST_UNKNOWN = 16 << 20,
};

/* A flow in one direction. */
struct flow_key {
	__u32 side; /* ifindex, 0 for every uplink */
	__u16 realm;
	__u8 proto;
	__u8 unused1;
	__be32 src[4], dst[4];
	__be32 ports;
	__u32 unused2;
} __attribute__((aligned(8)));

/* How a side has ended. A reset hides a FIN, unless both sides have sent theirs before. */
enum half_end {
	HALF_FIN = 1, /* its FIN was carried */
	HALF_RST = 2, /* its reset, with the exact number */
};

/*
 * What one side of a TCP connection has sent, and has allowed the other to send. edge is
 * its highest acknowledgment with the window that it announced there, window the largest
 * that it announced; both are scaled.
 */
struct flow_half {
	__u32 seq_end, ack, edge, window, scale;
	__u32 ended; /* enum half_end */
	__u32 doubt; /* not 0: it is the beginner's, who has not shown yet that he hears the answers */
	__u32 unused;
};

struct flow_entry {
	__u32 state; /* enum flow_state, written by both sides */
	__u32 generation;

	/* Decided, and the same as long as the entry is in the hash. */
	struct flow_key key;
	__u32 flags; /* enum flow_flag */
	__u32 mtu;
	__u32 in;  /* ifindex */
	__u32 out; /* ifindex */
	__u16 match[6]; /* destination, source */
	__u16 macs[6];  /* destination, source */
	__be32 ports;   /* source, destination */
	__u32 l3_diff, addr_diff, port_diff;
	__be32 addrs[8]; /* source, destination; IPv4 in the first two */
	__u32 policy, rate, payer;
	__u32 timeout; /* jiffies */

	/* Of the switch. */
	__u64 counted[2]; /* packets and bytes, by conntrack */
	__u32 ended;      /* no flow's any more, whatever state says */
	/* What another process needs to go on with a tracked flow. */
	__u32 conn;
	__u16 container, holder;
	__u32 born;

	/* Of the program that carries. */
	__u64 last_in;
	__u64 packets;
	__u64 bytes;
	__u64 last_use; /* jiffies */
	struct flow_half half;
};

struct flow_tally {
	__u64 in;
	__u64 unused1[7];
	__u64 taken;
	__u64 unused2[7];
	__u64 lost;
	__u64 drained;
	__u64 refused;
	__u64 unused3[5];
};

/*
 * Which pairs of entries are of connections that may have ended, 1 each, and how often one was
 * noted: nobody is woken, the switch looks.
 */
struct flow_ends {
	__u64 rung;
	__u64 unused[7];
	__u32 pairs[FLOWMAP_MAX_ENTRIES / 2];
};

/* The counters of identifications, of the programs and the switch. */
struct flow_identifiers {
	__u64 keys[4]; /* of the switch */
	__u32 next[FLOWMAP_MAX_COUNTERS];
};

enum claim {
	CLAIM_SLOTS = 32,
	CLAIM_WILDCARD = 0,
	CLAIM_WILDCARD6 = CLAIM_SLOTS - 1,
	CLAIM_PROTOS = 4,
	CLAIM_WORDS = CLAIM_SLOTS * CLAIM_PROTOS * 1024,
};

/* The index of a protocol in a plane of claims. */
enum claim_proto {
	CLAIM_TCP,
	CLAIM_UDP,
	CLAIM_ICMP,
	CLAIM_SCTP,
};

/* The other end of a flow of ours. */
struct peer_key {
	__be32 addr[4]; /* remote */
	__u8 slot;
	__u8 proto;
	__be16 port;      /* the host's, or the identifier of an ICMP query */
	__be16 peer_port; /* the other's */
	__u16 unused;
};

/* What the subnet of a network is to the programs. */
enum subnet {
	SUBNET_OURS = 1,   /* nobody beyond an uplink speaks from it */
	SUBNET_ROUTED = 2, /* and every packet to it is ours */
};

/* struct bpf_lpm_trie_key */
struct subnet_key {
	__u32 bits;
	__be32 addr[4];
};

enum asker_flag {
	ASKER_HOST = 1 << 0, /* the host, by a network's TAP */
	ASKER_IP4 = 1 << 1,  /* it is told of addresses of IPv4 */
	ASKER_IP6 = 1 << 2,
};

/* Who is told whose MAC address while nobody is there: what is behind an interface. */
struct asker {
	__u64 hidden; /* classes of the network's stations that it is not told of */
	__u32 network;
	__u16 mac[3];
	__u16 flags; /* enum asker_flag */
	__u32 unused;
} __attribute__((aligned(8)));

struct station_key {
	__u32 network;
	__be32 addr[4];
};

enum station_flag {
	STATION_GATEWAY = 1 << 0, /* all are told of it, and it is a router */
};

struct station {
	__u32 port; /* ifindex */
	__u16 mac[3];
	__u8 class;
	__u8 flags; /* enum station_flag */
};

/* What the rows of stations say (ADR 39): see StationDecision and StationFlow of flowmap. */
enum station_row_flag {
	STATION_SENDS = 1 << 0,    /* its frames go on by the row of who receives them */
	STATION_RECEIVES = 1 << 1, /* frames go to it */
	STATION_PEER = 1 << 2,     /* into the namespace of its interface's other end */
	STATION_HOST = 1 << 3,     /* it is the host, by a network's TAP */
};

struct station_row {
	__u32 state; /* enum flow_state: OFF, PENDING or ACTIVE, written by the switch */
	__u32 generation;
	__u32 ifindex;
	__u32 network;
	__u32 flags; /* enum station_row_flag */
	__u32 mtu;
	__be32 addr4;
	__u16 mac[3];
	__u8 class;
	__u8 unused1;
	__be32 addr6[4];
	__u64 reach;

	/* Of the programs. */
	__u64 last_in; /* as of flow_entry */
	__u64 begun;
	__u64 sent, sent_bytes, got, got_bytes; /* of flows for which there was no room */
	__u64 lease;				/* how far begun may grow, written by the switch */
	__u64 last_up;				/* last_in of frames for the host */
};

struct station_flow {
	__u64 packets[2], bytes[2]; /* from src, from dst of the key */
	__u64 created, seen;        /* jiffies */
	__u16 ports[2];
	__u8 flags[2]; /* of TCP, all that were seen from each */
	__u8 began;    /* 0: src sent the first frame, 1: dst */
	__u8 unused;
};
