/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * rewrite gives a packet the addresses and ports of the row and takes a hop off its
 * TTL. The checksum of the transport header comes first: the kernel tells by the packet
 * as it is whether the checksum is finished or only the sum of the pseudo-header.
 */

#include "prove.h"

/* udphdr.check and tcphdr.check */
#define UDP_CHECK 6
#define TCP_CHECK 16

static __always_inline __u32 check_at(__u32 l4, __u8 proto)
{
	return l4 + (proto == IPPROTO_UDP ? UDP_CHECK : TCP_CHECK);
}

static __always_inline bool checksum(struct __sk_buff *skb, const struct flow_entry *row, __u16 was, __u32 l4, __u8 proto)
{
	__u64 flags = proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 at = check_at(l4, proto);

	if (row->flags & FLOW_PROVE_SUM && !proved(skb, was, at))
		return false;
	/* What adds 0 may write another form of 0. */
	return (!row->addr_diff || bpf_l4_csum_replace(skb, at, 0, row->addr_diff, flags | BPF_F_PSEUDO_HDR) == 0) &&
	       (!row->port_diff || bpf_l4_csum_replace(skb, at, 0, row->port_diff, flags) == 0);
}

static __always_inline __u16 adjusted(__u16 check, __u32 diff)
{
	__u64 sum = (__u64)(__u16)~check + diff;

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/*
 * identify gives a packet that may be cut an identification of its own (RFC 6864), and each
 * segment of a super-packet one: the device that cuts it counts on from the first. A packet socket
 * says how large segments are, and not how many.
 */
static __always_inline void identify(struct __sk_buff *skb, const struct flow_entry *row, struct iphdr *ip)
{
	__u32 zero = 0, at = (row->flags >> FLOW_COUNTER_SHIFT) - 1, segments = 1;
	struct flow_identifiers *ids;
	__be16 was = ip->id;

	if (!(row->flags & FLOW_NEEDS_DF) || ip->frag_off & IP_DF || at >= FLOWMAP_MAX_COUNTERS)
		return;
	ids = bpf_map_lookup_elem(&vsw_identifiers, &zero);
	if (!ids)
		return;
	if (skb->gso_size)
		segments = skb->gso_segs ? skb->gso_segs : (skb->len + skb->gso_size - 1) / skb->gso_size;
	ip->id = bpf_htons(__sync_fetch_and_add(&ids->next[at], segments));
	ip->check = adjusted(ip->check, (__u32)(__u16)~was + ip->id);
}

static __always_inline bool rewrite4(struct __sk_buff *skb, const struct flow_entry *row)
{
	struct frame4 f;
	__u32 size = sizeof(f.eth) + sizeof(f.ip) + sizeof(f.ports);

	if (!load(skb, 0, &f.eth, size) || !checksum(skb, row, f.eth.macs[0], sizeof(f.eth) + sizeof(f.ip), f.ip.protocol))
		return false;
	__builtin_memcpy(f.eth.macs, row->macs, sizeof(f.eth.macs));
	f.ip.saddr = row->addrs[0];
	f.ip.daddr = row->addrs[1];
	f.ports = row->ports;
	f.ip.ttl--;
	f.ip.check = adjusted(f.ip.check, row->l3_diff);
	identify(skb, row, &f.ip);
	return bpf_skb_store_bytes(skb, 0, &f.eth, size, 0) == 0;
}

static __always_inline bool rewrite6(struct __sk_buff *skb, const struct flow_entry *row)
{
	struct frame6 f;
	__u32 size = sizeof(f.eth) + sizeof(f.ip) + sizeof(f.ports);

	if (!load(skb, 0, &f.eth, size) || !checksum(skb, row, f.eth.macs[0], sizeof(f.eth) + sizeof(f.ip), f.ip.nexthdr))
		return false;
	__builtin_memcpy(f.eth.macs, row->macs, sizeof(f.eth.macs));
	copy16(f.ip.saddr.in6_u.u6_addr32, row->addrs);
	copy16(f.ip.daddr.in6_u.u6_addr32, row->addrs + 4);
	f.ports = row->ports;
	f.ip.hop_limit--;
	return bpf_skb_store_bytes(skb, 0, &f.eth, size, 0) == 0;
}

static __always_inline bool rewrite(struct __sk_buff *skb, const struct flow_entry *row)
{
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return rewrite4(skb, row);
	return rewrite6(skb, row);
}

/* unchanged is for a frame that goes out as it is, by a device that may finish checksums. */
static __always_inline bool unchanged(struct __sk_buff *skb)
{
	__u32 l4 = ETH_HLEN + sizeof(struct ipv6hdr), proto_at = ETH_HLEN + 6;
	__u16 was;
	__u8 proto;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		l4 = ETH_HLEN + sizeof(struct iphdr);
		proto_at = ETH_HLEN + 9;
	}
	return load(skb, 0, &was, sizeof(was)) && load(skb, proto_at, &proto, 1) && proved(skb, was, check_at(l4, proto)) &&
	       bpf_skb_store_bytes(skb, 0, &was, sizeof(was), 0) == 0;
}
