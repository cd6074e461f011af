/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* execute does with a packet what a row says, and counts it: one that is lost here is not carried. */

#include <linux/pkt_cls.h>

#include "rewrite.h"

/*
 * use notes when an entry was used last, if that has changed: two CPUs that send one flow
 * share the line.
 */
static __always_inline void use(struct flow_entry *row)
{
	__u64 now = bpf_jiffies64();

	if (READ_ONCE(row->last_use) != now)
		WRITE_ONCE(row->last_use, now);
}

static __always_inline void carried(struct __sk_buff *skb, struct flow_entry *row)
{
	__sync_fetch_and_add(&row->packets, 1);
	__sync_fetch_and_add(&row->bytes, skb->len);
	use(row);
}

static __always_inline int execute(struct __sk_buff *skb, struct flow_entry *row)
{
	__u32 flags;

	/*
	 * The interface has another address than the frame: PACKET_OTHERHOST, which the
	 * stack of the container would drop.
	 */
	bpf_skb_change_type(skb, PACKET_HOST);
	flags = row->flags;
	if (flags & FLOW_REWRITE ? !rewrite(skb, row) : flags & FLOW_PROVE_SUM && !unchanged(skb)) {
		lose(skb);
		return TC_ACT_SHOT;
	}
	carried(skb, row);
	if (flags & FLOW_TO_PEER)
		return bpf_redirect_peer(row->out, 0);
	return bpf_redirect(row->out, flags & FLOW_TO_STACK ? BPF_F_INGRESS : 0);
}
