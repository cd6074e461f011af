/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * answer tells who asks for a MAC address, in place of the switch (answer.go of package
 * dataplane) and of the station itself, while nobody is there: a container's entry of the
 * gateway or of a neighbour would fail, and with it the flows that the kernel carries. The
 * question becomes its answer and goes back. Who asks without an address, as duplicate
 * address detection does, is not told: nothing is carried from an address that was not
 * handed out.
 */

#include <linux/pkt_cls.h>

#include "mark.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, FLOWMAP_MAX_PORTS);
	__type(key, __u32); /* ifindex */
	__type(value, struct asker);
} vsw_askers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, FLOWMAP_MAX_STATIONS);
	__type(key, struct station_key);
	__type(value, struct station);
} vsw_stations SEC(".maps");

/* An ARP message of Ethernet and IPv4 (RFC 826), read to eth. */
struct arp {
	__u16 pad;
	struct ether eth;
	__be16 kind[4]; /* hardware, protocol, their lengths, operation */
	__u16 sender_mac[3];
	__u16 sender[2];
	__u16 target_mac[3];
	__u16 target[2];
} __attribute__((aligned(8)));

#define ARP_LEN (sizeof(struct ether) + 28)

/* A solicitation or an advertisement with a link-layer address (RFC 4861), read to eth. */
struct neighbor {
	__u16 pad;
	struct ether eth;
	struct ipv6hdr ip;
	__u8 type, code;
	__u16 check;
	__be32 flags;
	__be32 target[4];
	__u8 option, option_len;
	__u16 mac[3];
} __attribute__((aligned(8)));

#define NEIGHBOR_LEN  (sizeof(struct neighbor) - 2)
#define OPTION_LEN    8
#define NEIGHBOR_BODY 32

enum {
	ND_SOLICIT = 135,
	ND_ADVERT = 136,
	ND_SOURCE = 1, /* options: link-layer address of */
	ND_TARGET = 2,
};

#define ND_ROUTER              0x80000000
#define ND_SOLICITED_OVERRIDE  0x60000000

static __always_inline bool same_mac(const __u16 a[3], const __u16 b[3])
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2];
}

static __always_inline void copy_mac(__u16 to[3], const __u16 from[3])
{
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
}

/*
 * may_ask says whether the stages would take the question: it comes from the asker's MAC
 * address and from an address that was handed out to it. The host has others, too.
 */
static __always_inline bool may_ask(struct __sk_buff *skb, const struct asker *a, const struct ether *eth, const struct station_key *sender)
{
	const struct station *s;

	if (!same_mac(eth->macs + 3, a->mac))
		return false;
	if (a->flags & ASKER_HOST)
		return true;
	s = bpf_map_lookup_elem(&vsw_stations, sender);
	return s && s->port == skb->ifindex;
}

/* who_has finds the station that is asked for, NULL when the asker is not told of it. */
static __always_inline const struct station *who_has(struct __sk_buff *skb, const struct asker *a, const struct ether *eth, const struct station_key *target)
{
	const struct station *s = bpf_map_lookup_elem(&vsw_stations, target);

	if (!s || s->port == skb->ifindex)
		return NULL;
	if (!(s->flags & STATION_GATEWAY) && a->hidden >> (s->class & 63) & 1)
		return NULL;
	if (!(eth->macs[0] & bpf_htons(0x0100)) && !same_mac(eth->macs, s->mac))
		return NULL; /* a probe of somebody else */
	return s;
}

static __always_inline bool answer_arp(struct __sk_buff *skb, const struct asker *a)
{
	struct station_key key = {.network = a->network};
	const struct station *s;
	struct arp f;

	if (!(a->flags & ASKER_IP4) || !load(skb, 0, &f.eth, ARP_LEN))
		return false;
	if (f.kind[0] != bpf_htons(1) || f.kind[1] != bpf_htons(ETH_P_IP) || f.kind[2] != bpf_htons(0x0604) || f.kind[3] != bpf_htons(1))
		return false;
	if (!same_mac(f.sender_mac, a->mac) || !(f.sender[0] | f.sender[1]))
		return false;
	mapped(key.addr, f.sender[0] | (__u32)f.sender[1] << 16);
	if (!may_ask(skb, a, &f.eth, &key))
		return false;
	key.addr[3] = f.target[0] | (__u32)f.target[1] << 16;
	s = who_has(skb, a, &f.eth, &key);
	if (!s)
		return false;
	copy_mac(f.eth.macs, a->mac);
	copy_mac(f.eth.macs + 3, s->mac);
	f.kind[3] = bpf_htons(2);
	copy_mac(f.target_mac, a->mac);
	f.target[0] = f.sender[0];
	f.target[1] = f.sender[1];
	copy_mac(f.sender_mac, s->mac);
	f.sender[0] = key.addr[3];
	f.sender[1] = key.addr[3] >> 16;
	return bpf_skb_store_bytes(skb, 0, &f.eth, ARP_LEN, 0) == 0;
}

/* solicits reads a solicitation, which says nothing else than from where it comes. */
static __always_inline bool solicits(struct __sk_buff *skb, const struct asker *a, struct neighbor *f)
{
	if (!load(skb, 0, &f->eth, NEIGHBOR_LEN - OPTION_LEN))
		return false;
	if (f->ip.version != 6 || f->ip.nexthdr != IPPROTO_ICMPV6 || f->ip.hop_limit != 255 || f->type != ND_SOLICIT || f->code)
		return false;
	if (f->ip.payload_len == bpf_htons(NEIGHBOR_BODY - OPTION_LEN))
		return true;
	return f->ip.payload_len == bpf_htons(NEIGHBOR_BODY) && load(skb, NEIGHBOR_LEN - OPTION_LEN, &f->option, OPTION_LEN) &&
	       f->option == ND_SOURCE && f->option_len == 1 && same_mac(f->mac, a->mac);
}

/* sum is the checksum of an advertisement, addresses and message, which lie side by side. */
static __always_inline __u16 sum(struct neighbor *f)
{
	__u32 sum = bpf_csum_diff(NULL, 0, (__be32 *)&f->ip.saddr, 32 + NEIGHBOR_BODY, bpf_htonl(NEIGHBOR_BODY + IPPROTO_ICMPV6));

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

static __always_inline bool answer_nd(struct __sk_buff *skb, const struct asker *a)
{
	struct station_key key = {.network = a->network};
	const struct station *s;
	struct neighbor f;

	if (!(a->flags & ASKER_IP6) || !solicits(skb, a, &f))
		return false;
	copy16(key.addr, f.ip.saddr.in6_u.u6_addr32);
	if (!(key.addr[0] | key.addr[1] | key.addr[2] | key.addr[3]) || !may_ask(skb, a, &f.eth, &key))
		return false;
	copy16(key.addr, f.target);
	s = who_has(skb, a, &f.eth, &key);
	if (!s)
		return false;
	copy_mac(f.eth.macs, a->mac);
	copy_mac(f.eth.macs + 3, s->mac);
	*(__be32 *)&f.ip = bpf_htonl(6 << 28); /* no traffic class, no flow label */
	f.ip.payload_len = bpf_htons(NEIGHBOR_BODY);
	copy16(f.ip.daddr.in6_u.u6_addr32, f.ip.saddr.in6_u.u6_addr32);
	copy16(f.ip.saddr.in6_u.u6_addr32, f.target);
	f.type = ND_ADVERT;
	f.check = 0;
	f.flags = bpf_htonl(s->flags & STATION_GATEWAY ? ND_ROUTER | ND_SOLICITED_OVERRIDE : ND_SOLICITED_OVERRIDE);
	f.option = ND_TARGET;
	f.option_len = 1;
	copy_mac(f.mac, s->mac);
	f.check = sum(&f);
	if (skb->len < NEIGHBOR_LEN && bpf_skb_change_tail(skb, NEIGHBOR_LEN, 0))
		return false;
	return bpf_skb_store_bytes(skb, 0, &f.eth, NEIGHBOR_LEN, 0) == 0;
}

/* answer returns the verdict of a question that is answered, and another of all else. */
static __always_inline int answer(struct __sk_buff *skb, int other)
{
	__u32 ifindex = skb->ifindex;
	const struct asker *a;
	bool arp = skb->protocol == bpf_htons(ETH_P_ARP);

	if (skb->vlan_present || (!arp && skb->protocol != bpf_htons(ETH_P_IPV6)))
		return other;
	a = bpf_map_lookup_elem(&vsw_askers, &ifindex);
	if (!a || !(arp ? answer_arp(skb, a) : answer_nd(skb, a)))
		return other;
	return bpf_redirect(ifindex, a->flags & ASKER_HOST ? BPF_F_INGRESS : 0);
}
