/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * steer assigns a socket of the relay to what the host sends to a published port, and one of
 * the resolver to what a container asks at port 53 of a gateway.
 */

#include "claim.h"

#define AF_INET 2
#define DNS_PORT 53

/* The numbers of the sockets: protocol index * 2, plus one for IPv6. */
enum relay_socket {
	RELAY_TCP,
	RELAY_TCP6,
	RELAY_UDP,
	RELAY_UDP6,
	RESOLVER_TCP,
	RESOLVER_TCP6,
	RESOLVER_UDP,
	RESOLVER_UDP6,
	RELAY_SOCKETS,
};

/* The host's addresses that are gateways. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, FLOWMAP_MAX_SUBNETS);
	__type(key, __be32[4]);
	__type(value, __u32); /* a bit for each enum claim_proto: names are answered there */
} vsw_gateways SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, RELAY_SOCKETS);
	__type(key, __u32);
	__type(value, __u64);
} vsw_relay SEC(".maps");

/* local and remote are the addresses of a lookup. Either is loaded from one of two places, and a program may do so only from one. */
static __always_inline void local(struct bpf_sk_lookup *ctx, __be32 addr[4])
{
	if (ctx->family == AF_INET) {
		__be32 ip = ctx->local_ip4;

		barrier_var(ip);
		mapped(addr, ip);
	} else {
		addr[0] = ctx->local_ip6[0];
		addr[1] = ctx->local_ip6[1];
		addr[2] = ctx->local_ip6[2];
		addr[3] = ctx->local_ip6[3];
	}
}

static __always_inline void remote(struct bpf_sk_lookup *ctx, __be32 addr[4])
{
	if (ctx->family == AF_INET) {
		__be32 ip = ctx->remote_ip4;

		barrier_var(ip);
		mapped(addr, ip);
	} else {
		addr[0] = ctx->remote_ip6[0];
		addr[1] = ctx->remote_ip6[1];
		addr[2] = ctx->remote_ip6[2];
		addr[3] = ctx->remote_ip6[3];
	}
}

static __always_inline bool published(struct bpf_sk_lookup *ctx, __u32 proto, __u32 port)
{
	__be32 addr[4];
	__u32 *slot;

	if (claimed(&vsw_published, ctx->family == AF_INET ? CLAIM_WILDCARD : CLAIM_WILDCARD6, proto, port))
		return true;
	local(ctx, addr);
	slot = bpf_map_lookup_elem(&vsw_addrs, addr);
	return slot && claimed(&vsw_published, *slot, proto, port);
}

/*
 * resolves says whether a container asks for a name: at a gateway, and from a network. The
 * host itself, from one of its own addresses, asks its own name server there.
 */
static __always_inline bool resolves(struct bpf_sk_lookup *ctx, __u32 proto, __u32 port)
{
	struct subnet_key key = {.bits = 128};
	const __u32 *at;

	if (port != DNS_PORT)
		return false;
	local(ctx, key.addr);
	at = bpf_map_lookup_elem(&vsw_gateways, key.addr);
	if (!at || !(*at >> proto & 1))
		return false;
	remote(ctx, key.addr);
	return !bpf_map_lookup_elem(&vsw_gateways, key.addr) && bpf_map_lookup_elem(&vsw_subnets, &key);
}

/* Whatever fails leaves the choice to the usual lookup. */
static __always_inline void steer(struct bpf_sk_lookup *ctx)
{
	__u32 proto = CLAIM_TCP, port = ctx->local_port & 0xffff, number;
	struct bpf_sock *sk;

	if (ctx->protocol == IPPROTO_UDP)
		proto = CLAIM_UDP;
	else if (ctx->protocol != IPPROTO_TCP)
		return;
	if (resolves(ctx, proto, port))
		number = RESOLVER_TCP;
	else if (published(ctx, proto, port))
		number = RELAY_TCP;
	else
		return;
	number += proto * 2 + (ctx->family != AF_INET);
	sk = bpf_map_lookup_elem(&vsw_relay, &number);
	if (!sk)
		return;
	bpf_sk_assign(ctx, sk, 0);
	bpf_sk_release(sk);
}
