/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* decide says of a frame of the flow table who carries it. */

#include "claim.h"
#include "prove.h"
#include "track.h"

enum decision {
	NO_FLOW,   /* not in the table, and not counted yet */
	TO_SWITCH, /* counted, where there is a tally */
	LOSE,      /* nobody has it */
	CARRY,     /* the kernel carries it, by the row */
};

/* wire_size is the length of the largest IP packet that a frame becomes on a wire. */
static __always_inline __u32 wire_size(struct __sk_buff *skb, const struct packet *p)
{
	__u32 segment = skb->gso_size;

	if (!segment)
		return skb->len - ETH_HLEN;
	return segment + p->head + (p->proto == IPPROTO_UDP ? 8 : data_offset(p));
}

/* to_switch counts a frame and notes in the row when it was. */
static __always_inline enum decision to_switch(struct __sk_buff *skb, struct flow_entry *row)
{
	struct flow_tally *a = tally(skb);

	if (a) {
		__sync_fetch_and_add(&a->in, 1);
		row->last_in = READ_ONCE(a->in);
	}
	return TO_SWITCH;
}

/*
 * lost says whether a flow of ours has a UDP port of the host's address that a program of the
 * host has bound since. A flow to an address of a routed network has none.
 */
static __always_inline bool lost(const struct flow *f)
{
	struct port_claim c = {
		.wildcard = f->packet.head == sizeof(struct iphdr) ? CLAIM_WILDCARD : CLAIM_WILDCARD6,
		.proto = CLAIM_UDP,
		.port = bpf_ntohs(f->row->key.ports >> 16),
	};
	__u32 *slot;

	if (f->packet.proto != IPPROTO_UDP || !bound_port(c.wildcard == CLAIM_WILDCARD, c.port))
		return false;
	slot = bpf_map_lookup_elem(&vsw_addrs, f->row->key.dst);
	if (!slot)
		return false;
	c.slot = *slot;
	return !published_port(&c);
}

/* ends notes that a side ends a connection that nobody tracks. */
static __always_inline void ends(const struct flow *f)
{
	const struct packet *p = &f->packet;

	if (p->proto == IPPROTO_TCP && p->tcp.flags & (TCP_FIN | TCP_RST))
		WRITE_ONCE(f->row->half.ended, p->tcp.flags & TCP_RST ? HALF_RST : HALF_FIN);
}

/* unproved says whether a flow is one whose partial checksums nothing here can prove. */
static __always_inline bool unproved(const struct flow_entry *row)
{
	return !provable() && row->flags & FLOW_PROVE_SUM;
}

/*
 * alone is decide while nobody is there: the entry that carries a frame, or NULL. A frame that
 * userspace must see, such as a SYN, is not carried. The state does not count: what was under way
 * went with the sockets. An entry that has ended or was idle for too long is none (dead).
 */
static __always_inline struct flow_entry *alone(struct __sk_buff *skb, bool uplink)
{
	enum tracked tracked = IGNORE;
	struct flow f;

	if (!find(skb, &f, uplink) || (uplink && lost(&f)))
		return NULL;
	if (unproved(f.row) || wire_size(skb, &f.packet) > f.row->mtu)
		return NULL;
	if (f.row->flags & FLOW_REWRITE)
		tracked = track(&f, true);
	else
		ends(&f);
	if (tracked == LEAVE)
		return NULL;
	learn(&f, tracked);
	return f.row;
}

/*
 * decide looks the tally up for frames that go to userspace: what the kernel carries needs none.
 */
static __always_inline enum decision decide(struct __sk_buff *skb, struct flow *f, bool uplink)
{
	enum tracked tracked = IGNORE;
	struct flow_entry *row;
	__u32 state;

	if (!find(skb, f, uplink) || (uplink && lost(f)))
		return NO_FLOW;
	row = f->row;
	if (row->flags & FLOW_REWRITE) {
		tracked = track(f, false);
		if (tracked == LEAVE)
			return to_switch(skb, row);
	} else {
		ends(f);
	}
	if (unproved(row))
		return to_switch(skb, row);
	state = READ_ONCE(row->state);
	if (state != FLOW_ACTIVE) {
		struct flow_tally *a;

		if (state < FLOW_READY)
			return to_switch(skb, row);
		a = tally(skb);
		if (!a)
			return TO_SWITCH;
		if (row->last_in > READ_ONCE(a->taken) + READ_ONCE(a->lost)) { /* some are under way */
			if (state == FLOW_READY)
				return to_switch(skb, row);
			__sync_fetch_and_add(&a->drained, 1);
			return LOSE;
		}
		WRITE_ONCE(row->state, FLOW_ACTIVE);
	}
	if (wire_size(skb, &f->packet) > row->mtu)
		return to_switch(skb, row);
	learn(f, tracked);
	return CARRY;
}
