/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * What a claim says is ours is the host's all the same when a program of the host has a
 * connection of the packet's tuple, or holds the UDP port that one flow of ours has. Only
 * a tc program can ask for sockets; the socket filter before it has given the switch its
 * copy. So what is found is remembered, and both get the first packet of a flow alone, and
 * again the first after SOCKETS_TIME without any, or after vsw_sockets has forgotten it.
 *
 * To ask costs as much as the filter. Of TCP it is done once for a flow of ours, at a published
 * port while a connection of the host is noted there (unnoted), and always at a segment that
 * begins or refuses a connection.
 */

#include "classify.h"

#define TCP_STATE_LISTEN 10

/* What is asked for: the socket of a packet that came, or of one that an ICMP error quotes. */
struct sockets {
	struct bpf_sock_tuple tuple;
	bool v4;
	struct peer_key key;
	struct port_claim claim;
	struct fragment_key datagram;
	bool first; /* of the datagram */
};

/* target finds the header that names the socket, and the ends of its packet. */
static __always_inline bool target(struct __sk_buff *skb, struct sockets *s, struct walk *w, __u32 at, bool v4, struct ends *ends)
{
	__be32 src[4], dst[4];
	union head h;

	w->at = at;
	if (!network(skb, w, v4) || w->later)
		return false;
	addresses(w, v4, src, dst);
	s->first = w->first;
	datagram(&s->datagram, w, v4, src, dst);
	if (w->proto != (v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6))
		return true;
	if (!load(skb, w->at, &h, sizeof(h)) || !quotes(v4, h.bytes[0]))
		return false;
	w->at += sizeof(h);
	ends->host = 0;
	ends->other = 1;
	return network(skb, w, v4) && !w->later;
}

/* names fills in the tuple as a packet to the socket has it, and the key of the flow. */
static __always_inline bool names(struct __sk_buff *skb, struct sockets *s, __u32 at, bool v4)
{
	struct ends ends = {.host = 1, .other = 0};
	__be32 src[4], dst[4];
	struct walk w;
	__be16 port[2];
	__u32 *slot;

	if (!target(skb, s, &w, at, v4, &ends))
		return false;
	if (w.proto != IPPROTO_TCP && w.proto != IPPROTO_UDP)
		return false;
	if (!load(skb, w.at, port, sizeof(port)))
		return false;
	if (came(ends))
		addresses(&w, v4, src, dst);
	else
		addresses(&w, v4, dst, src);
	slot = bpf_map_lookup_elem(&vsw_addrs, dst);
	if (!slot)
		return false;
	copy16(s->key.addr, src);
	s->key.slot = *slot;
	s->key.proto = w.proto;
	s->key.port = came(ends) ? port[1] : port[0];
	s->key.peer_port = came(ends) ? port[0] : port[1];
	s->claim.slot = *slot;
	s->claim.wildcard = v4 ? CLAIM_WILDCARD : CLAIM_WILDCARD6;
	s->claim.proto = w.proto == IPPROTO_TCP ? CLAIM_TCP : CLAIM_UDP;
	s->claim.port = bpf_ntohs(s->key.port);
	s->v4 = v4;
	if (v4) {
		s->tuple.ipv4.saddr = src[3];
		s->tuple.ipv4.daddr = dst[3];
		s->tuple.ipv4.sport = s->key.peer_port;
		s->tuple.ipv4.dport = s->key.port;
	} else {
		copy16(s->tuple.ipv6.saddr, src);
		copy16(s->tuple.ipv6.daddr, dst);
		s->tuple.ipv6.sport = s->key.peer_port;
		s->tuple.ipv6.dport = s->key.port;
	}
	return true;
}

/* A length from memory is none that the verifier knows. */
#define lookup(proto, skb, s)                                                                             \
	((s)->v4 ? bpf_sk##proto(skb, &(s)->tuple, sizeof((s)->tuple.ipv4), BPF_F_CURRENT_NETNS, 0) : \
		   bpf_sk##proto(skb, &(s)->tuple, sizeof((s)->tuple.ipv6), BPF_F_CURRENT_NETNS, 0))

/*
 * connected: the lookup of TCP also finds listeners, the relay's among them, which say
 * nothing. TIME_WAIT is a connection.
 */
static __always_inline bool connected(struct __sk_buff *skb, struct sockets *s)
{
	struct bpf_sock *sk = lookup(c_lookup_tcp, skb, s);
	bool is;

	if (!sk)
		return false;
	is = sk->state != TCP_STATE_LISTEN;
	bpf_sk_release(sk);
	return is;
}

/* bound: a port that is published is held by sockets of ours. */
static __always_inline bool bound(struct __sk_buff *skb, struct sockets *s)
{
	struct bpf_sock *sk;

	if (published_port(&s->claim))
		return false;
	sk = lookup(_lookup_udp, skb, s);
	if (!sk)
		return false;
	bpf_sk_release(sk);
	return true;
}

/* remember lets the filter know of the socket, from the next packet on. */
static __always_inline void remember(const struct peer_key *key)
{
	__u32 zero = 0;
	__u64 *at = bpf_map_lookup_elem(&vsw_sockets_at, &zero);
	__u8 one = 1;

	bpf_map_update_elem(&vsw_sockets, key, &one, BPF_ANY);
	if (at)
		WRITE_ONCE(*at, bpf_ktime_get_ns());
}

/*
 * notes lets the filter know what was found of a TCP connection. Of one that begins later its
 * first segment is asked about again (plain).
 */
static __always_inline void notes(const struct sockets *s, bool is)
{
	__u8 *peer = bpf_map_lookup_elem(&vsw_peers, &s->key);

	if (peer)
		WRITE_ONCE(*peer, is ? PEER_CLAIMED : PEER_ASKED);
	if (is && !noted_port(s->claim.port))
		note_port(s->claim.port);
}

/*
 * asks says who gets a packet of ours, or one whose flow a socket of the host received
 * before: THEIRS while there is a socket. When it has gone, nobody gets the packet that
 * shows it: the host would refuse it, and end a flow that is ours again.
 */
static __always_inline enum whose asks_at(struct __sk_buff *skb, __u32 head, enum whose whose)
{
	struct sockets s = {};
	__be16 type;
	__u32 at;
	bool is;

	if (untagged(skb, head, &at, &type) != UNKNOWN)
		return whose;
	if (type == bpf_htons(ETH_P_IP) ? !names(skb, &s, at, true) : type != bpf_htons(ETH_P_IPV6) || !names(skb, &s, at, false))
		return whose;
	is = s.key.proto == IPPROTO_TCP ? connected(skb, &s) : bound(skb, &s);
	if (s.key.proto == IPPROTO_TCP)
		notes(&s, is);
	if (is) {
		remember(&s.key);
		if (s.first)
			lead(&s.datagram, THEIRS);
		return THEIRS;
	}
	if (whose == SOCKETS)
		bpf_map_delete_elem(&vsw_sockets, &s.key);
	return whose;
}

static __noinline enum whose asks(struct __sk_buff *skb, enum whose whose)
{
	return asks_at(skb, ETH_HLEN, whose);
}

/* The same at an interface that speaks IP alone. */
static __noinline enum whose asks_ip(struct __sk_buff *skb, enum whose whose)
{
	return asks_at(skb, 0, whose);
}

/* The ports that clients of the host bind which choose one below 1024 (rresvport(3)). */
#define FIRST_RESERVED 512
#define LAST_RESERVED  1023

/*
 * contested says whether a program of the host may have a connection of a TCP flow that the
 * kernel carries: it would have bound the port, for those the kernel chooses are not ours. The
 * kernel's NFS client does so without hooks as well.
 */
static __always_inline bool contested(const struct flow_entry *row)
{
	__u32 port = bpf_ntohs(row->key.ports >> 16);

	if (row->key.proto != IPPROTO_TCP)
		return false;
	return (port >= FIRST_RESERVED && port <= LAST_RESERVED) || noted_port(port);
}
