/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * classify says of a packet whether it is ours. Its destination must be an address of the
 * host that holds a slot, and its flow or its port be claimed; or it goes to a subnet of a
 * network (subnets).
 *
 * Lengths in the headers are not compared: a packet that lies about its length is dropped
 * as malformed by whoever gets it, and IPv4 super-packets of more than 64 KiB have total
 * length 0.
 */

#include "claim.h"
#include "fragment.h"
#include "mark.h"
#include "walk.h"

/* quotes says whether an ICMP message is an error that quotes a packet. */
static __always_inline bool quotes(bool v4, __u8 type)
{
	return v4 ? type == 3 || type == 11 || type == 12 : type >= 1 && type <= 4;
}

/* What is asked of a packet besides its headers. */
struct asked {
	struct port_claim claim;
	struct fragment_key datagram;
	bool first; /* of the datagram */
};

/* Which of the two ports is the host's, and which the other's. */
struct ends {
	__u8 host, other;
};

/* came says whether a packet came to the host, and was not sent by it. */
static __always_inline bool came(struct ends ends) { return ends.host; }

/*
 * plain says whether a TCP segment neither begins nor refuses a connection. A socket of the host
 * that has connected since a flow was asked about hears of such a one first.
 */
static __always_inline bool plain(struct __sk_buff *skb, __u32 at)
{
	__u8 flags;

	return load(skb, at + 13, &flags, sizeof(flags)) && !(flags & TCP_SYN_OR_RST);
}

/*
 * ports judges a packet by its transport header: it is ours when its port is published or its flow
 * is ours, and may be ours by its port. query is the type of ICMP queries. Of those no socket can
 * be asked for, and a program of the host may send one with the identifier that masquerade has
 * given out: both get the answer, which the host's stack answers to nobody.
 */
static __always_inline enum whose ports(struct __sk_buff *skb, const struct walk *w, bool v4, const __be32 remote[4],
					struct ends ends, __u8 query, struct port_claim *c)
{
	struct peer_key key = {.slot = c->slot, .proto = w->proto};
	enum whose other = THEIRS;
	bool portless = true; /* masquerade gives it no other port */
	bool whole = w->proto == IPPROTO_TCP && came(ends) && !w->first; /* a segment */
	__u8 *peer;
	union head h;

	copy16(key.addr, remote);
	if (w->proto == IPPROTO_TCP || w->proto == IPPROTO_UDP || w->proto == IPPROTO_SCTP) {
		if (!load(skb, w->at, &h, 4))
			return THEIRS;
		key.port = h.words[ends.host];
		key.peer_port = h.words[ends.other];
		c->proto = w->proto == IPPROTO_TCP ? CLAIM_TCP : w->proto == IPPROTO_UDP ? CLAIM_UDP : CLAIM_SCTP;
		c->port = bpf_ntohs(key.port);
		portless = c->proto == CLAIM_SCTP;
		if (received(&key))
			return SOCKETS;
		if (published_port(c))
			return whole && unnoted(c->port) && plain(skb, w->at) ? SURE : OURS;
		other = BY_PORT;
	} else if (w->proto == (v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6)) {
		if (!load(skb, w->at, &h, sizeof(h)))
			return THEIRS;
		if (h.bytes[0] != query)
			return quotes(v4, h.bytes[0]) ? QUOTES : THEIRS;
		key.port = h.words[2]; /* the identifier */
		portless = false;
	}
	peer = bpf_map_lookup_elem(&vsw_peers, &key);
	if (peer && whole && READ_ONCE(*peer) == PEER_ASKED && plain(skb, w->at))
		return SURE;
	if (peer) {
		if (other == BY_PORT)
			return host_port(c) ? THEIRS : OURS;
		return portless ? OURS : ECHO;
	}
	if (portless && came(ends))
		stranger(&key);
	return other;
}

static __always_inline void addresses(const struct walk *w, bool v4, __be32 src[4], __be32 dst[4])
{
	if (v4) {
		mapped(src, w->ip.v4.saddr);
		mapped(dst, w->ip.v4.daddr);
	} else {
		copy16(src, w->ip.v6.saddr.in6_u.u6_addr32);
		copy16(dst, w->ip.v6.daddr.in6_u.u6_addr32);
	}
}

/* quoted judges an ICMP error: the host must have sent the packet that it quotes. */
static __always_inline enum whose quoted(struct __sk_buff *skb, __u32 at, bool v4, const __be32 host[4], struct port_claim *c)
{
	const struct ends sent = {.host = 0, .other = 1};
	struct walk w;
	__be32 src[4], dst[4];
	enum whose whose;

	w.at = at;
	if (!network(skb, &w, v4) || w.later)
		return THEIRS;
	addresses(&w, v4, src, dst);
	if (src[0] != host[0] || src[1] != host[1] || src[2] != host[2] || src[3] != host[3])
		return THEIRS;
	whose = ports(skb, &w, v4, dst, sent, v4 ? ICMP_ECHO : ICMP6_ECHO, c);
	return whose == QUOTES ? THEIRS : whose;
}

/*
 * A loopback address may hold claims, but never on the wire: the host's stack drops such
 * packets as martian, and so a port published on 127.0.0.1 stays closed to the
 * neighbours. Of IPv6 that goes for :: and for every IPv4-mapped address, too.
 */
static __always_inline bool martian(const __be32 dst[4], bool v4)
{
	return v4 ? *(const __u8 *)&dst[3] == 127 : !(dst[0] | dst[1]);
}

/* family judges the packet at an offset of the frame. */
static __always_inline enum whose family(struct __sk_buff *skb, __u32 at, bool v4, struct asked *a)
{
	const struct ends to_host = {.host = 1, .other = 0};
	struct port_claim *c = &a->claim;
	struct walk w;
	__be32 src[4], dst[4];
	enum whose whose;
	__u32 *slot;

	w.at = at;
	if (!network(skb, &w, v4))
		return THEIRS;
	addresses(&w, v4, src, dst);
	if (martian(dst, v4))
		return THEIRS;
	slot = bpf_map_lookup_elem(&vsw_addrs, dst);
	if (!slot)
		return subnets(src, dst) ? OURS : THEIRS;
	c->slot = *slot;
	c->wildcard = v4 ? CLAIM_WILDCARD : CLAIM_WILDCARD6;
	a->first = w.first;
	if (w.first || w.later)
		datagram(&a->datagram, &w, v4, src, dst);
	if (w.later)
		return follow(&a->datagram);
	whose = ports(skb, &w, v4, src, to_host, v4 ? ICMP_ECHO_REPLY : ICMP6_ECHO_REPLY, c);
	if (whose == QUOTES)
		return quoted(skb, w.at + sizeof(union head), v4, dst, c);
	return whose;
}

#define VLAN_ID 0xfff

struct tag {
	__be16 control, type;
};

static __always_inline bool tagged(__be16 type)
{
	return type == bpf_htons(ETH_P_8021Q) || type == bpf_htons(ETH_P_8021AD);
}

/*
 * untagged finds where the packet of a frame begins, behind a header of so many bytes: an interface
 * that speaks IP alone has none. VLAN 0 is none (802.1Q, 6.9.1): the
 * host's stack takes the frame as if it bore no tag, and takes off further tags of that
 * kind. The first tag is no longer in the frame's bytes.
 */
static __always_inline enum whose untagged(struct __sk_buff *skb, __u32 head, __u32 *at, __be16 *type)
{
	struct tag t;

	*at = head;
	*type = skb->protocol;
	if (!skb->vlan_present)
		return UNKNOWN;
	if (skb->vlan_tci & VLAN_ID)
		return THEIRS;
	if (!tagged(*type))
		return UNKNOWN;
	if (!load(skb, *at, &t, sizeof(t)) || t.control & bpf_htons(VLAN_ID))
		return THEIRS;
	*at += sizeof(t);
	*type = t.type;
	return tagged(*type) ? NOBODYS : UNKNOWN;
}

/*
 * everyones says whether a frame is to all stations of a link, and its packet for a port that is
 * published at every address. A program that had bound the port would hear it, and so does the
 * container: both get it, the host as one of the stations. The switch knows which addresses are
 * broadcasts.
 */
static __always_inline bool everyones(struct __sk_buff *skb, __u32 at)
{
	struct iphdr ip;
	__be32 dst[4];
	__u16 mac[3];
	__be16 port;

	if (!load(skb, 0, mac, sizeof(mac)) || (mac[0] & mac[1] & mac[2]) != 0xffff)
		return false;
	if (!load(skb, at, &ip, sizeof(ip)) || ip.version != 4 || ip.ihl < 5)
		return false;
	if (ip.protocol != IPPROTO_UDP || ip.frag_off & bpf_htons(0x3fff))
		return false;
	mapped(dst, ip.daddr);
	if (martian(dst, true) || bpf_map_lookup_elem(&vsw_addrs, dst))
		return false;
	if (!load(skb, at + (ip.ihl << 2) + 2, &port, sizeof(port)))
		return false;
	return claimed(&vsw_published, CLAIM_WILDCARD, CLAIM_UDP, bpf_ntohs(port));
}

/*
 * The tap also sees what the host sends, and what a promiscuous interface receives for
 * others. A packet of ours in a frame to a group or to all is nobody's (RFC 1122, 3.3.6):
 * the host would take it for its own. A broadcast packet has no address that holds a slot: it is
 * the host's, and perhaps a container's as well (everyones).
 */
static __always_inline enum whose classify(struct __sk_buff *skb, __u32 head)
{
	struct asked a = {};
	enum whose whose;
	__be16 type;
	__u32 at;

	if (skb->pkt_type > PACKET_MULTICAST)
		return THEIRS;
	whose = untagged(skb, head, &at, &type);
	if (whose != UNKNOWN)
		return whose;
	if (head && skb->pkt_type != PACKET_HOST && type == bpf_htons(ETH_P_IP) && everyones(skb, at))
		return ECHO;
	if (type == bpf_htons(ETH_P_IP))
		whose = family(skb, at, true, &a);
	else if (type == bpf_htons(ETH_P_IPV6))
		whose = family(skb, at, false, &a);
	else
		return THEIRS;
	if (whose == BY_PORT)
		whose = opened_port(&a.claim) ? OURS : THEIRS;
	if (a.first)
		lead(&a.datagram, whose == SOCKETS ? THEIRS : whose);
	if (skb->pkt_type == PACKET_HOST)
		return whose;
	return whose == OURS || whose == SURE || whose == ECHO ? NOBODYS : THEIRS;
}
