/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* The planes of claimed ports, and the addresses, subnets and flows that are claimed. */

#include "flowmap.h"
#include "packet.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, CLAIM_WORDS);
	__type(key, __u32);
	__type(value, __u64);
} vsw_opened SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, CLAIM_WORDS);
	__type(key, __u32);
	__type(value, __u64);
} vsw_published SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, CLAIM_SLOTS);
	__type(key, __be32[4]); /* an address of the host */
	__type(value, __u32);   /* its slot in the planes */
} vsw_addrs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, FLOWMAP_MAX_SUBNETS);
	__type(key, struct subnet_key);
	__type(value, __u8); /* enum subnet */
} vsw_subnets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, FLOWMAP_MAX_PEERS);
	__type(key, struct peer_key);
	__type(value, __u8); /* enum peer */
} vsw_peers SEC(".maps");

/* What is known of a claimed flow. The switch enters PEER_CLAIMED. */
enum peer {
	PEER_CLAIMED = 1,
	PEER_ASKED, /* no socket of the host has a connection of its tuple */
};

/* Flows of protocols without ports, and of SCTP, that came in and were the host's. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FLOWMAP_MAX_STRANGERS);
	__type(key, struct peer_key);
	__type(value, __u64); /* when the last came, CLOCK_MONOTONIC in ns */
} vsw_strangers SEC(".maps");

/* Flows whose packets a socket of the host receives, though they are claimed. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FLOWMAP_MAX_STRANGERS);
	__type(key, struct peer_key);
	__type(value, __u8);
} vsw_sockets SEC(".maps");

/* When one of them had a packet last, CLOCK_MONOTONIC in ns, so that most packets need no lookup. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} vsw_sockets_at SEC(".maps");

#define SOCKETS_TIME 60000000000ull /* ns */

/*
 * How many sockets of the host hold a UDP port, as the hooks of bind and release count them,
 * of IPv4 and of IPv6. A count below zero is none: the daemon, which compares them with the
 * list of sockets, has taken a socket out whose release was late.
 */
struct bound_ports {
	__s32 sockets[2][65536];
	__u32 tcp[65536]; /* how often programs have bound a TCP port since nobody had it, see note_port */
	__u32 listed;	  /* the ports of all connections of the host are noted, except those that began since */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bound_ports);
} vsw_bound_ports SEC(".maps");

/*
 * note_port notes that a program has bound a TCP port, of whose connections no hook hears, or that
 * a connection was found there. The daemon takes the note away when it has found no socket there
 * twice, and no bind since.
 */
static __always_inline void note_port(__u32 port)
{
	__u32 zero = 0;
	struct bound_ports *b = bpf_map_lookup_elem(&vsw_bound_ports, &zero);

	if (b)
		__sync_fetch_and_add(&b->tcp[port & 0xffff], 1);
}

/*
 * stranger notes a packet that nobody has claimed: who has a tunnel to the peer is the
 * host, and no container takes it away.
 */
static __always_inline void stranger(const struct peer_key *key)
{
	__u64 now = bpf_ktime_get_ns(), *last = bpf_map_lookup_elem(&vsw_strangers, key);

	if (last)
		WRITE_ONCE(*last, now);
	else
		bpf_map_update_elem(&vsw_strangers, key, &now, BPF_ANY);
}

/* claimed says whether the bit of a port stands in a plane. */
static __always_inline bool claimed(void *plane, __u32 slot, __u32 proto, __u32 port)
{
	__u32 word = ((slot * CLAIM_PROTOS + proto) << 10) + (port >> 6);
	__u64 *bits = bpf_map_lookup_elem(plane, &word);

	return bits && *bits >> (port & 63) & 1;
}

/* What is asked of the planes: a port, and the slot of every address of its family. */
struct port_claim {
	__u32 slot, wildcard;
	__u32 proto; /* enum claim_proto */
	__u32 port;
};

/*
 * bound_port says whether a program of the host has bound a UDP port of a family. That
 * swapped bytes are no more than 16 bits the verifier of Linux 6.1 does not know, and the
 * compiler, which does, would leave out the mask.
 */
static __always_inline bool bound_port(bool v4, __u32 port)
{
	__u32 zero = 0;
	struct bound_ports *b = bpf_map_lookup_elem(&vsw_bound_ports, &zero);

	barrier_var(port);
	port &= 0xffff;
	return b && READ_ONCE(b->sockets[v4 ? 0 : 1][port]) > 0;
}

/* published_port looks at the ports published on the slot and on every address. */
static __always_inline bool published_port(const struct port_claim *c)
{
	return claimed(&vsw_published, c->slot, c->proto, c->port) || claimed(&vsw_published, c->wildcard, c->proto, c->port);
}

/*
 * host_port says whether a UDP port is the host's, whatever flows of ours there are: a
 * program has bound it. What holds a published one is ours.
 */
static __always_inline bool host_port(const struct port_claim *c)
{
	return c->proto == CLAIM_UDP && bound_port(c->wildcard == CLAIM_WILDCARD, c->port) && !published_port(c);
}

/* noted_port says whether a program of the host may have a TCP port: see note_port. */
static __always_inline bool noted_port(__u32 port)
{
	__u32 zero = 0;
	struct bound_ports *b = bpf_map_lookup_elem(&vsw_bound_ports, &zero);

	barrier_var(port); /* see bound_port */
	port &= 0xffff;
	return b && READ_ONCE(b->tcp[port]);
}

/* unnoted says whether no connection of the host has a TCP port, but one that began a moment ago. */
static __always_inline bool unnoted(__u32 port)
{
	__u32 zero = 0;
	struct bound_ports *b = bpf_map_lookup_elem(&vsw_bound_ports, &zero);

	barrier_var(port); /* see bound_port */
	port &= 0xffff;
	return b && READ_ONCE(b->listed) && !READ_ONCE(b->tcp[port]);
}

/*
 * opened_port looks at mappings that are open to strangers. Where a program of the host has
 * bound the port since, it may listen there: new connections are the program's.
 */
static __always_inline bool opened_port(const struct port_claim *c)
{
	return claimed(&vsw_opened, c->slot, c->proto, c->port) && !host_port(c) && !(c->proto == CLAIM_TCP && noted_port(c->port));
}

/* received says whether a socket of the host received the last packet of a flow. */
static __always_inline bool received(const struct peer_key *key)
{
	__u32 zero = 0;
	__u64 *at = bpf_map_lookup_elem(&vsw_sockets_at, &zero), last;

	if (!at)
		return false;
	last = READ_ONCE(*at);
	return last && bpf_ktime_get_ns() - last < SOCKETS_TIME && bpf_map_lookup_elem(&vsw_sockets, key);
}


/*
 * subnets judges a packet to an address that is no uplink's. All to a routed subnet is ours,
 * also later fragments. To the gateways of others, which are the host's own addresses, comes
 * what strangers send, but nothing from a container by an uplink (S-36): it is ours, so that
 * the host has no part in it, and the switch drops it as forged. So it does with what else is
 * ours, and the host judges what is its own.
 */
static __always_inline bool subnets(const __be32 src[4], const __be32 dst[4])
{
	struct subnet_key key = {.bits = 128};
	const __u8 *to;

	copy16(key.addr, dst);
	to = bpf_map_lookup_elem(&vsw_subnets, &key);
	if (!to)
		return false;
	if (*to == SUBNET_ROUTED)
		return true;
	copy16(key.addr, src);
	return bpf_map_lookup_elem(&vsw_subnets, &key) || bpf_map_lookup_elem(&vsw_addrs, key.addr);
}
