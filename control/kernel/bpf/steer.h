/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* steer assigns a socket of the relay to what the host sends to a published port. */

#include "claim.h"

#define AF_INET 2

/* The numbers of the sockets: protocol index * 2, plus one for IPv6. */
enum relay_socket {
	RELAY_TCP,
	RELAY_TCP6,
	RELAY_UDP,
	RELAY_UDP6,
	RELAY_SOCKETS,
};

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, RELAY_SOCKETS);
	__type(key, __u32);
	__type(value, __u64);
} vsw_relay SEC(".maps");

static __always_inline bool published(struct bpf_sk_lookup *ctx, __u32 proto, __u32 port)
{
	bool v4 = ctx->family == AF_INET;
	__be32 addr[4];
	__u32 *slot;

	if (claimed(&vsw_published, v4 ? CLAIM_WILDCARD : CLAIM_WILDCARD6, proto, port))
		return true;
	if (v4) {
		__be32 ip = ctx->local_ip4;

		/* Or it is loaded from one of two places, and a program may do so only from one. */
		barrier_var(ip);
		mapped(addr, ip);
	} else {
		addr[0] = ctx->local_ip6[0];
		addr[1] = ctx->local_ip6[1];
		addr[2] = ctx->local_ip6[2];
		addr[3] = ctx->local_ip6[3];
	}
	slot = bpf_map_lookup_elem(&vsw_addrs, addr);
	return slot && claimed(&vsw_published, *slot, proto, port);
}

/* Whatever fails leaves the choice to the usual lookup. */
static __always_inline void steer(struct bpf_sk_lookup *ctx)
{
	__u32 proto = CLAIM_TCP, number;
	struct bpf_sock *sk;

	if (ctx->protocol == IPPROTO_UDP)
		proto = CLAIM_UDP;
	else if (ctx->protocol != IPPROTO_TCP)
		return;
	if (!published(ctx, proto, ctx->local_port & 0xffff))
		return;
	number = proto * 2 + (ctx->family != AF_INET);
	sk = bpf_map_lookup_elem(&vsw_relay, &number);
	if (!sk)
		return;
	bpf_sk_assign(ctx, sk, 0);
	bpf_sk_release(sk);
}
