/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* Whose socket was led, for the daemon: sock_diag tells what TCP sockets store, but not UDP's. */

#include "connect.h"

/* A question: the flow as a packet to the socket has it. The answer takes its place. */
struct whose_socket {
	__u16 pad; /* what follows an Ethernet header is aligned */
	struct ether none;
	union {
		struct {
			__u32 proto;
			struct sock_end from, to;
		} flow;
		struct led led;
	};
};

/* whose_led finds what the connected socket asked for to which a packet would go. */
static __always_inline bool whose_led(struct __sk_buff *skb)
{
	const __u32 at = sizeof(struct ether);
	struct bpf_sock_tuple tuple = {};
	struct whose_socket q = {};
	struct bpf_sock *sk;
	struct led *kept;
	bool found = false;

	if (!load(skb, at, &q.flow, sizeof(q.flow)))
		return false;
	if (is4(q.flow.to.addr)) {
		tuple.ipv4.saddr = q.flow.from.addr[3];
		tuple.ipv4.daddr = q.flow.to.addr[3];
		tuple.ipv4.sport = q.flow.from.port;
		tuple.ipv4.dport = q.flow.to.port;
		sk = q.flow.proto == IPPROTO_TCP ? bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0)
						 : bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		copy16(tuple.ipv6.saddr, q.flow.from.addr);
		copy16(tuple.ipv6.daddr, q.flow.to.addr);
		tuple.ipv6.sport = q.flow.from.port;
		tuple.ipv6.dport = q.flow.to.port;
		sk = q.flow.proto == IPPROTO_TCP ? bpf_sk_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0)
						 : bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!sk)
		return false;
	kept = bpf_sk_storage_get(&vsw_asked, sk, 0, 0);
	if (kept) {
		q.led = *kept;
		found = true;
	}
	bpf_sk_release(sk);
	return found && bpf_skb_store_bytes(skb, at, &q.led, sizeof(q.led), 0) == 0;
}
