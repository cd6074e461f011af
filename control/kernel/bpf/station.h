/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * station carries whole frames between stations of a network from the first one of a flow on
 * (ADR 39). Who sends is known by the interface, who receives by network and address. Policy
 * between the classes of the two is a bit. A frame that the rows do not speak for is the switch's.
 */

#include <linux/pkt_cls.h>

#include "decide.h"
#include "mark.h"
#include "rows.h"

enum {
	DHCP_SERVER = 67,
	DHCP_CLIENT = 68,
	DHCP6_CLIENT = 546,
	DHCP6_SERVER = 547,
};

/* Who sends a frame to whom. */
struct pair {
	struct station_row *from, *to;
	__u32 numbers;
};

/* guarded says whether a frame is from the addresses that its station was given. */
static __always_inline bool guarded(const struct station_row *s, const struct flow *f)
{
	const __be32 *src = f->key.src;

	if (f->packet.macs[3] != s->mac[0] || f->packet.macs[4] != s->mac[1] || f->packet.macs[5] != s->mac[2])
		return false;
	if (f->packet.head == sizeof(struct iphdr))
		return src[3] == s->addr4 && s->addr4;
	return src[0] == s->addr6[0] && src[1] == s->addr6[1] && src[2] == s->addr6[2] && src[3] == s->addr6[3] &&
	       (src[0] | src[1] | src[2] | src[3]);
}

/* leases says whether a packet may be of DHCP, which the guard looks at. */
static __always_inline bool leases(const struct flow *f)
{
	__u16 port = bpf_ntohl(f->key.ports);

	return f->packet.proto == IPPROTO_UDP &&
	       (port == DHCP_SERVER || port == DHCP_CLIENT || port == DHCP6_CLIENT || port == DHCP6_SERVER);
}

/*
 * pair finds the rows of a frame. A number of the hash may be another address's by the time
 * it is read, so the row must have the address.
 */
static __always_inline bool pair(struct __sk_buff *skb, const struct flow *f, struct pair *p)
{
	__u32 ifindex = skb->ifindex, *found, from, to;
	const struct station_row *r;
	struct station_key key;

	found = bpf_map_lookup_elem(&vsw_flow_ports, &ifindex);
	if (!found)
		return false;
	from = *found;
	p->from = bpf_map_lookup_elem(&vsw_station_rows, &from);
	if (!p->from || !READ_ONCE(p->from->state) || p->from->ifindex != ifindex)
		return false;
	if (!(p->from->flags & STATION_SENDS) || !guarded(p->from, f) || leases(f))
		return false;
	key.network = p->from->network;
	copy16(key.addr, f->key.dst);
	found = bpf_map_lookup_elem(&vsw_station_keys, &key);
	if (!found)
		return false;
	to = *found;
	r = p->to = bpf_map_lookup_elem(&vsw_station_rows, &to);
	if (!r || !READ_ONCE(r->state) || to == from || r->network != key.network || !(r->flags & STATION_RECEIVES))
		return false;
	if (f->packet.head == sizeof(struct iphdr) ? key.addr[3] != r->addr4 :
	    key.addr[0] != r->addr6[0] || key.addr[1] != r->addr6[1] || key.addr[2] != r->addr6[2] || key.addr[3] != r->addr6[3])
		return false;
	if (f->packet.macs[0] != r->mac[0] || f->packet.macs[1] != r->mac[1] || f->packet.macs[2] != r->mac[2])
		return false;
	p->numbers = pair_of(from, to);
	if ((p->from->flags | r->flags) & STATION_HOST)
		return true; /* where policy parts one from the host, the host has no row */
	return p->from->reach >> (r->class & 63) & 1;
}

/* sound says whether a frame of a pair may be carried: it fits, and its checksum is where it belongs. */
static __always_inline bool sound(struct __sk_buff *skb, const struct flow *f, const struct station_row *from)
{
	__u32 proto = f->packet.proto;
	__u32 at = ETH_HLEN + f->packet.head + (proto == IPPROTO_UDP ? 6 : proto == IPPROTO_TCP ? 16 : 2);

	if (at == ETH_HLEN + f->packet.head + 2 && skb->gso_size)
		return false; /* an echo has no segments */
	return wire_size(skb, &f->packet) <= from->mtu && (from->flags & STATION_HOST || finished_at(skb, at));
}

/*
 * waits says whether earlier frames of the sender, that the switch got although their receiver
 * was known, may still be under way, and counts the frame with them if so. It asks in each case:
 * a program that has seen this moment and one that adds to them may run at once. Frames for the host
 * and those for stations wait for their own kind: each flow is of one.
 */
static __always_inline bool waits(struct pair *p, bool sound)
{
	__u32 number = p->numbers >> 16;
	struct flow_tally *a = bpf_map_lookup_elem(&vsw_flow_tally, &number);
	bool up = p->to->flags & STATION_HOST;
	__u64 last;

	if (!a)
		return true;
	last = up ? READ_ONCE(p->from->last_up) : READ_ONCE(p->from->last_in);
	if (sound && READ_ONCE(p->from->state) == FLOW_ACTIVE && READ_ONCE(p->to->state) == FLOW_ACTIVE &&
	    last <= READ_ONCE(a->taken) + READ_ONCE(a->lost))
		return false;
	__sync_fetch_and_add(&a->in, 1);
	last = READ_ONCE(a->in);
	if (up)
		WRITE_ONCE(p->from->last_up, last);
	else
		WRITE_ONCE(p->from->last_in, last);
	return true;
}

/* lesser compares addresses as the machine's words. */
static __always_inline bool lesser(const __be32 a[4], const __be32 b[4])
{
	for (int i = 0; i < 4; i++) {
		if (a[i] != b[i])
			return a[i] < b[i];
	}
	return false;
}

/* turn makes the key of a flow that of both directions, and says whether it was turned. */
static __always_inline bool turn(struct flow_key *key, __u32 network)
{
	__be32 src[4];

	key->side = network;
	if (!lesser(key->dst, key->src))
		return false;
	copy16(src, key->src);
	copy16(key->src, key->dst);
	copy16(key->dst, src);
	key->ports = key->ports << 16 | key->ports >> 16;
	return true;
}

/* begin enters a flow, NULL when there is no room, or when the station has had its share of it. */
static __always_inline struct station_flow *begin(const struct pair *p, const struct flow_key *key, bool turned)
{
	struct station_flow n = {};

	if (READ_ONCE(p->from->begun) >= READ_ONCE(p->from->lease))
		return NULL;
	n.created = bpf_jiffies64();
	/* Both numbers at once: the verifier knows no index of a stack. */
	*(__u32 *)n.ports = turned ? p->numbers : p->numbers << 16 | p->numbers >> 16;
	n.began = turned;
	if (bpf_map_update_elem(&vsw_station_flows, key, &n, BPF_NOEXIST) == 0)
		__sync_fetch_and_add(&p->from->begun, 1);
	return bpf_map_lookup_elem(&vsw_station_flows, key); /* or another CPU has begun it */
}

/* closed says whether the ends of a TCP connection have closed it. */
static __always_inline bool closed(const struct station_flow *s)
{
	__u8 one = READ_ONCE(s->flags[0]), other = READ_ONCE(s->flags[1]);

	return (one | other) & TCP_RST || one & other & TCP_FIN;
}

/*
 * answers says whether a frame for a port of the host is of a flow in which the host has spoken. All
 * else for its address may be for a published port, or of a flow that is translated there: also
 * a SYN of a connection that is over, whose ports may be another's.
 */
static __always_inline bool answers(const struct packet *p, const struct station_flow *s, __u32 port)
{
	if (!s || (p->proto == IPPROTO_TCP && p->tcp.flags & TCP_SYN && closed(s)))
		return false;
	if (p->proto != IPPROTO_TCP && p->proto != IPPROTO_UDP)
		return true; /* of ICMP nothing is published */
	return !claimed(&vsw_published, p->head == sizeof(struct iphdr) ? CLAIM_WILDCARD : CLAIM_WILDCARD6,
			p->proto == IPPROTO_UDP ? CLAIM_UDP : CLAIM_TCP, port);
}

/* account counts a frame that is carried. */
static __always_inline void account(struct __sk_buff *skb, struct flow *f, struct pair *p, struct station_flow *s, bool turned)
{
	__u64 now;
	__u8 flags;

	if (!s)
		s = begin(p, &f->key, turned);
	if (!s) {
		__sync_fetch_and_add(&p->from->sent, 1);
		__sync_fetch_and_add(&p->from->sent_bytes, skb->len);
		__sync_fetch_and_add(&p->to->got, 1);
		__sync_fetch_and_add(&p->to->got_bytes, skb->len);
		return;
	}
	if (turned) {
		__sync_fetch_and_add(&s->packets[1], 1);
		__sync_fetch_and_add(&s->bytes[1], skb->len);
	} else {
		__sync_fetch_and_add(&s->packets[0], 1);
		__sync_fetch_and_add(&s->bytes[0], skb->len);
	}
	now = bpf_jiffies64();
	if (READ_ONCE(s->seen) != now)
		WRITE_ONCE(s->seen, now);
	if (f->packet.proto == IPPROTO_TCP) {
		flags = f->packet.tcp.flags;
		if ((flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && closed(s)) { /* its ports are used again */
			WRITE_ONCE(s->flags[0], 0);
			WRITE_ONCE(s->flags[1], 0);
		}
		if (turned) {
			if (flags & ~READ_ONCE(s->flags[1]))
				WRITE_ONCE(s->flags[1], s->flags[1] | flags);
		} else if (flags & ~READ_ONCE(s->flags[0])) {
			WRITE_ONCE(s->flags[0], s->flags[0] | flags);
		}
	}
}

/* between is decide for a frame that is in no entry. One that is carried is counted. */
static __always_inline enum decision between(struct __sk_buff *skb, struct flow *f, struct pair *p)
{
	struct station_flow *s;
	bool whole, turned;
	__u32 port;

	if (!f->key.proto || !pair(skb, f, p))
		return NO_FLOW;
	whole = sound(skb, f, p->from);
	port = bpf_ntohl(f->key.ports) & 0xffff;
	turned = turn(&f->key, p->from->network);
	s = bpf_map_lookup_elem(&vsw_station_flows, &f->key);
	if (waits(p, whole && (!(p->to->flags & STATION_HOST) || answers(&f->packet, s, port))))
		return TO_SWITCH;
	account(skb, f, p, s, turned);
	return CARRY;
}

/*
 * station decides about a frame that decide has found in no entry. The frame is counted and
 * marked when it is carried. Apart from what calls it, for the stack of both is 512 bytes.
 */
static __noinline int station(struct __sk_buff *skb, struct flow *f)
{
	enum decision d;
	struct pair p;
	struct said *s;

	d = between(skb, f, &p);
	if (d != CARRY)
		return d;
	s = say(skb, STATION);
	if (s) {
		s->index = p.numbers;
		s->generation = p.to->generation;
	}
	skb->cb[2] = p.numbers;
	skb->cb[3] = p.to->generation;
	return CARRY;
}

/* deliver sends a frame from a container's cable to a station, or up to the host. */
static __always_inline int deliver(struct __sk_buff *skb, const struct station_row *to)
{
	bpf_skb_change_type(skb, PACKET_HOST);
	if (to->flags & STATION_PEER)
		return bpf_redirect_peer(to->ifindex, 0);
	return bpf_redirect(to->ifindex, to->flags & STATION_HOST ? BPF_F_INGRESS : 0);
}

/*
 * station_sent is station for what the host sends: decided and carried out in one. It returns the
 * verdict, TC_ACT_UNSPEC for what is the switch's, which is counted.
 */
static __noinline int station_sent(struct __sk_buff *skb, struct flow *f)
{
	struct pair p;

	switch (between(skb, f, &p)) {
	case CARRY:
		return bpf_redirect(p.to->ifindex, 0);
	case NO_FLOW:
		count(skb);
	default:
		return TC_ACT_UNSPEC;
	}
}

/*
 * station_alone is station while nobody is there: what was under way went with the sockets, so a
 * row that is pending carries, too. It returns the verdict, or another when it is not carried.
 */
static __noinline int station_alone(struct __sk_buff *skb)
{
	struct station_flow *s;
	struct flow f = {};
	struct pair p;
	bool turned;
	__u32 port;

	if (!parse(skb, &f.packet, &f.key) || !pair(skb, &f, &p) || !sound(skb, &f, p.from))
		return TC_ACT_UNSPEC;
	port = bpf_ntohl(f.key.ports) & 0xffff;
	turned = turn(&f.key, p.from->network);
	s = bpf_map_lookup_elem(&vsw_station_flows, &f.key);
	if (p.to->flags & STATION_HOST && !answers(&f.packet, s, port))
		return TC_ACT_UNSPEC;
	account(skb, &f, &p, s, turned);
	return p.from->flags & STATION_HOST ? bpf_redirect(p.to->ifindex, 0) : deliver(skb, p.to);
}
