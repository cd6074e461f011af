/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * parse reads a frame and puts its key together. Only whole TCP and UDP packets and ICMP
 * echoes without options or extension headers have one, and whose TTL leaves them a hop.
 */

#include "flowmap.h"
#include "packet.h"

/* A TCP header from the acknowledgment on. */
struct tcp_tail {
	__be32 ack;
	__u8 offset; /* 32-bit words, upper half */
	__u8 flags;
	__be16 window;
};

enum {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_SYN_OR_RST = TCP_SYN | TCP_RST,
	TCP_ACK = 0x10,
};

struct packet {
	__u16 macs[6] __attribute__((aligned(4))); /* destination, source */
	__u32 proto;
	__be16 fragment; /* word of the IPv4 header that holds DF */
	__u32 head;      /* length of the IP header */
	__u32 body;      /* and of what follows it, in the packet */
	__be32 seq;      /* of TCP */
	struct tcp_tail tcp;
};

#define IP_DF     bpf_htons(0x4000)
#define IP_LATER  bpf_htons(0x3fff) /* more fragments and offset */

/* data_offset is the length of a TCP header. */
static __always_inline __u32 data_offset(const struct packet *p)
{
	return (p->tcp.offset >> 4) << 2;
}

/*
 * body takes the length of an IP packet. A packet that claims to be longer than its frame
 * is left to the switch, and so is one without a length: only of a super-packet of more
 * than 64 KiB the header has none.
 */
static __always_inline bool body(struct __sk_buff *skb, struct packet *p, __u32 length)
{
	__u32 most = skb->len - ETH_HLEN;

	if (!length && skb->gso_size && most > 0xffff)
		length = most;
	if (length > most || length < p->head)
		return false;
	p->body = length - p->head;
	return true;
}

#define ICMP_ECHO_REPLY  0
#define ICMP_ECHO        8
#define ICMP6_ECHO       128
#define ICMP6_ECHO_REPLY 129

/*
 * echo makes the identifier of an ICMP query the port of who asks, as the switch does, and says
 * whether the packet is one, or its answer.
 */
static __always_inline bool echo(const struct packet *p, struct flow_key *key, __be32 second)
{
	bool v4 = p->head == sizeof(struct iphdr);
	__u32 type = bpf_ntohl(key->ports) >> 16; /* and code */

	if (p->proto != (v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6) || p->body < 8)
		return false;
	if (type == (v4 ? ICMP_ECHO << 8 : ICMP6_ECHO << 8))
		key->ports = bpf_htonl(bpf_ntohl(second) & 0xffff0000);
	else if (type == (v4 ? ICMP_ECHO_REPLY << 8 : ICMP6_ECHO_REPLY << 8))
		key->ports = bpf_htonl(bpf_ntohl(second) >> 16);
	else
		return false;
	return true;
}

/* transport reads the rest of a TCP header; length is that of UDP. */
static __always_inline bool transport(struct __sk_buff *skb, struct packet *p, struct flow_key *key, __be32 second)
{
	p->seq = second;
	if (p->proto == IPPROTO_TCP) {
		if (!load(skb, ETH_HLEN + p->head + 8, &p->tcp, sizeof(p->tcp)))
			return false;
		return data_offset(p) >= 20 && data_offset(p) <= p->body;
	}
	if (p->proto == IPPROTO_UDP) {
		__u32 length = bpf_ntohl(second) >> 16;

		return length >= 8 && length <= p->body;
	}
	return echo(p, key, second);
}

static __always_inline bool parse4(struct __sk_buff *skb, struct packet *p, struct flow_key *key)
{
	struct frame4 f;

	if (!load(skb, 0, &f.eth, sizeof(f.eth) + sizeof(f.ip) + 8) || f.ip.version != 4 || f.ip.ihl != 5)
		return false;
	p->fragment = f.ip.frag_off;
	p->head = sizeof(f.ip);
	p->proto = f.ip.protocol;
	if (p->fragment & IP_LATER || f.ip.ttl <= 1 || !body(skb, p, bpf_ntohs(f.ip.tot_len)))
		return false;
	__builtin_memcpy(p->macs, f.eth.macs, sizeof(p->macs));
	mapped(key->src, f.ip.saddr);
	mapped(key->dst, f.ip.daddr);
	key->ports = f.ports;
	return transport(skb, p, key, f.seq);
}

static __always_inline bool parse6(struct __sk_buff *skb, struct packet *p, struct flow_key *key)
{
	struct frame6 f;
	__u32 length;

	if (!load(skb, 0, &f.eth, sizeof(f.eth) + sizeof(f.ip) + 8) || f.ip.version != 6)
		return false;
	p->fragment = IP_DF;
	p->head = sizeof(f.ip);
	p->proto = f.ip.nexthdr;
	length = bpf_ntohs(f.ip.payload_len);
	if (f.ip.hop_limit <= 1 || !body(skb, p, length ? length + sizeof(f.ip) : 0))
		return false;
	__builtin_memcpy(p->macs, f.eth.macs, sizeof(p->macs));
	copy16(key->src, f.ip.saddr.in6_u.u6_addr32);
	copy16(key->dst, f.ip.daddr.in6_u.u6_addr32);
	key->ports = f.ports;
	return transport(skb, p, key, f.seq);
}

/* The Ethernet header begins at offset 0. */
static __always_inline bool parse(struct __sk_buff *skb, struct packet *p, struct flow_key *key)
{
	if (skb->vlan_present)
		return false;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (!parse4(skb, p, key))
			return false;
	} else if (skb->protocol != bpf_htons(ETH_P_IPV6) || !parse6(skb, p, key)) {
		return false;
	}
	key->proto = p->proto;
	return true;
}
