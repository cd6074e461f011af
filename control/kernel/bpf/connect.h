/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * connect leads the host's own connections and datagrams to published ports to the container
 * when they are made, in the cgroup of who makes them, and lets their program see the address
 * that it asked for. What it leaves alone reaches the relay (steer.h).
 */

#include "begun.h"
#include "bind.h"

#define WAYS	  65536 /* intervals of ports are up to 30 of them */
#define OWN_ADDRS 4096
#define SENT	  8

/* An address, IPv4 mapped, and a port in network order: two bytes of the four. */
struct sock_end {
	__be32 addr[4];
	__be32 port;
};

struct way_key {
	__u32 bits;
	__be32 addr[4]; /* of the host; 0 or ::ffff:0.0.0.0: each of the family */
	__u16 proto;	/* IPPROTO_ */
	__be16 port;
};

#define WAY_BITS (8 * (sizeof(struct way_key) - sizeof(__u32)))

/* Where published ports lead: to port 'to' of a container from 'first' on, in host order. */
struct way {
	__be32 addr[4];
	__u16 first, to;
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, WAYS);
	__type(key, struct way_key);
	__type(value, struct way);
} vsw_ways SEC(".maps");

/* The addresses of the host except loopback, which is known. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, OWN_ADDRS);
	__type(key, __be32[4]);
	__type(value, __u8);
} vsw_own SEC(".maps");

/* How many sockets were led anywhere so far. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} vsw_led SEC(".maps");

/* What a program asked for, and where that led. */
struct led {
	struct sock_end asked, to;
};

/* Of a connected socket. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct led);
} vsw_asked SEC(".maps");

/* Of a socket that names an end with each datagram. No two lead to one end, or who answers would be unknown. */
struct sent {
	struct bpf_spin_lock lock;
	struct led ends[SENT];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct sent);
} vsw_sent SEC(".maps");

static __always_inline bool same_end(const struct sock_end *a, const struct sock_end *b)
{
	return a->port == b->port && a->addr[3] == b->addr[3] && a->addr[2] == b->addr[2] && a->addr[1] == b->addr[1] &&
	       a->addr[0] == b->addr[0];
}

static __always_inline bool is4(const __be32 addr[4])
{
	return !(addr[0] | addr[1]) && addr[2] == bpf_htonl(0xffff);
}

static __always_inline bool loopback(const __be32 addr[4])
{
	if (is4(addr))
		return loopback4(addr[3]);
	return !(addr[0] | addr[1] | addr[2]) && addr[3] == bpf_htonl(1);
}

/* none says that an address is that of no socket in particular. */
static __always_inline bool none(const __be32 addr[4])
{
	return !addr[3] && (is4(addr) || !(addr[0] | addr[1] | addr[2]));
}

/*
 * whole makes of no address the one that the kernel takes for it: the socket's own, or that of
 * loopback, which is that of IPv4 to a socket of IPv6 that is bound to an address of IPv4.
 */
static __always_inline void whole(struct sock_end *asked, const __be32 near[4])
{
	bool v4 = is4(asked->addr);

	if (!none(asked->addr))
		return;
	if (v4)
		asked->addr[3] = near[3] && is4(near) ? near[3] : bpf_htonl(0x7f000001);
	else if (is4(near))
		mapped(asked->addr, bpf_htonl(0x7f000001));
	else
		asked->addr[3] = bpf_htonl(1);
}

/* leads finds where a port of the host leads, for whom a container serves it in the same family. */
static __always_inline bool leads(__u32 proto, const struct sock_end *asked, struct sock_end *to)
{
	struct way_key key = {.bits = WAY_BITS, .proto = proto, .port = asked->port};
	const struct way *w;

	copy16(key.addr, asked->addr);
	if (!loopback(key.addr) && !bpf_map_lookup_elem(&vsw_own, key.addr))
		return false;
	w = bpf_map_lookup_elem(&vsw_ways, &key);
	if (!w) {
		if (!is4(key.addr))
			key.addr[0] = key.addr[1] = key.addr[2] = 0;
		key.addr[3] = 0;
		w = bpf_map_lookup_elem(&vsw_ways, &key);
	}
	if (!w)
		return false;
	copy16(to->addr, w->addr);
	to->port = bpf_htons(bpf_ntohs((__be16)asked->port) - w->first + w->to);
	return true;
}

/* near4 and near6 are the address that a socket is bound to, 0 or ::ffff:0.0.0.0 for none. */
static __always_inline void near4(__be32 to[4], struct bpf_sock_addr *ctx, struct bpf_sock *sk)
{
	__be32 ip = sk->src_ip4;

	barrier_var(ip); /* see published */
	mapped(to, ip);
}

static __always_inline void near6(__be32 to[4], struct bpf_sock_addr *ctx, struct bpf_sock *sk)
{
	to[0] = sk->src_ip6[0];
	to[1] = sk->src_ip6[1];
	to[2] = sk->src_ip6[2];
	to[3] = sk->src_ip6[3];
}

/*
 * stays says that no packet with this source, or by this interface, leads from the host to a
 * container, or that rules of routing may see to it that none does. Sources are loopback, addresses
 * of a link, and of others, as transparent proxies have.
 */
static __always_inline bool stays(struct bpf_sock *sk, const __be32 near[4])
{
	return sk->bound_dev_if || sk->mark || (!none(near) && !bpf_map_lookup_elem(&vsw_own, near));
}

/* led_to is of ports of TCP and UDP in the host's own network namespace: elsewhere 127.0.0.1 is another's. */
static __always_inline bool led_to(struct bpf_sock_addr *ctx, struct bpf_sock *sk, const __be32 near[4], struct led *l)
{
	__u32 proto = ctx->protocol;

	if (proto != IPPROTO_TCP && proto != IPPROTO_UDP)
		return false;
	whole(&l->asked, near);
	return leads(proto, &l->asked, &l->to) && !stays(sk, near);
}

/* connects says whether a socket that connects is led to l->to, and remembers that with the socket. */
static __always_inline bool connects(struct bpf_sock_addr *ctx, struct bpf_sock *sk, const __be32 near[4], struct led *l)
{
	__u32 zero = 0;
	__u64 *n;
	struct led *kept;

	if (!led_to(ctx, sk, near, l) || (ctx->protocol == IPPROTO_UDP && !may_begin())) {
		bpf_sk_storage_delete(&vsw_asked, sk); /* of a connection before */
		return false;
	}
	kept = bpf_sk_storage_get(&vsw_asked, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	n = bpf_map_lookup_elem(&vsw_led, &zero);
	if (!kept || !n)
		return false;
	*kept = *l;
	__sync_fetch_and_add(n, 1);
	return true;
}

/*
 * note_sent says whether an answer from l->to will be known. It is not, and the datagram is the
 * relay's, where the socket has asked as many ends as have room, or another that leads there.
 */
static __always_inline bool note_sent(struct sent *s, const struct led *l)
{
	struct led *place = NULL;
	bool taken = false;

	bpf_spin_lock(&s->lock);
	for (int i = SENT - 1; i >= 0; i--) {
		struct led *e = &s->ends[i];

		if (same_end(&e->asked, &l->asked))
			place = e;
		else if (!e->to.port) {
			if (!place || place->to.port == 0)
				place = e;
		} else if (same_end(&e->to, &l->to))
			taken = true;
	}
	if (taken)
		place = NULL;
	if (place)
		*place = *l;
	bpf_spin_unlock(&s->lock);
	return place;
}

/* forget_sent is for what is sent to an end itself, or to a port that is led nowhere any more. */
static __always_inline void forget_sent(struct sent *s, const struct sock_end *asked)
{
	bpf_spin_lock(&s->lock);
	for (int i = 0; i < SENT; i++) {
		struct led *e = &s->ends[i];

		if (same_end(&e->asked, asked) || same_end(&e->to, asked))
			e->to.port = e->asked.port = 0;
	}
	bpf_spin_unlock(&s->lock);
}

/* was_asked says whether a socket has been led to an end before. */
static __always_inline bool was_asked(struct sent *s, const struct sock_end *asked)
{
	bool found = false;

	bpf_spin_lock(&s->lock);
	for (int i = 0; i < SENT; i++) {
		struct led *e = &s->ends[i];

		if (e->to.port && same_end(&e->asked, asked))
			found = true;
	}
	bpf_spin_unlock(&s->lock);
	return found;
}

/* sends is connects for a datagram. */
static __always_inline bool sends(struct bpf_sock_addr *ctx, struct bpf_sock *sk, const __be32 near[4], struct led *l)
{
	struct sent *s = bpf_sk_storage_get(&vsw_sent, sk, 0, 0);

	if (led_to(ctx, sk, near, l)) {
		if ((!s || !was_asked(s, &l->asked)) && !may_begin())
			return false;
		if (!s)
			s = bpf_sk_storage_get(&vsw_sent, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		return s && note_sent(s, l);
	}
	if (!s)
		return false;
	forget_sent(s, &l->asked);
	return false;
}

/* sends_on is for a datagram while nobody is there: where an earlier one of its socket went. */
static __always_inline bool sends_on(struct bpf_sock_addr *ctx, struct bpf_sock *sk, const __be32 near[4], struct led *l)
{
	struct sent *s = bpf_sk_storage_get(&vsw_sent, sk, 0, 0);
	bool found = false;

	if (!s)
		return false;
	whole(&l->asked, near);
	bpf_spin_lock(&s->lock);
	for (int i = 0; i < SENT; i++) {
		struct led *e = &s->ends[i];

		if (!found && e->to.port && same_end(&e->asked, &l->asked)) {
			l->to = e->to;
			found = true;
		}
	}
	bpf_spin_unlock(&s->lock);
	return found && !stays(sk, near);
}

/* asked_for says what a socket asked for that is connected to l->to. */
static __always_inline bool asked_for(struct bpf_sock *sk, struct led *l)
{
	struct led *kept = bpf_sk_storage_get(&vsw_asked, sk, 0, 0);

	if (!kept || !same_end(&kept->to, &l->to))
		return false;
	l->asked = kept->asked;
	return true;
}

/* receives says what a socket of UDP asked for that l->to answers. One that is connected no more keeps what it asked. */
static __always_inline bool receives(struct bpf_sock *sk, struct led *l)
{
	struct sent *s = bpf_sk_storage_get(&vsw_sent, sk, 0, 0);
	bool found = false;

	if (s) {
		bpf_spin_lock(&s->lock);
		for (int i = 0; i < SENT; i++) {
			struct led *e = &s->ends[i];

			if (!found && same_end(&e->to, &l->to)) {
				l->asked = e->asked;
				found = true;
			}
		}
		bpf_spin_unlock(&s->lock);
	}
	return found || (sk->state == BPF_TCP_ESTABLISHED && asked_for(sk, l));
}

/* The context's end, which only aligned words of it may be read and written by. */

static __always_inline void read4(struct sock_end *e, struct bpf_sock_addr *ctx)
{
	__be32 ip = ctx->user_ip4;

	barrier_var(ip);
	mapped(e->addr, ip);
	e->port = ctx->user_port;
}

static __always_inline void read6(struct sock_end *e, struct bpf_sock_addr *ctx)
{
	e->addr[0] = ctx->user_ip6[0];
	e->addr[1] = ctx->user_ip6[1];
	e->addr[2] = ctx->user_ip6[2];
	e->addr[3] = ctx->user_ip6[3];
	e->port = ctx->user_port;
}

static __always_inline void write4(struct bpf_sock_addr *ctx, const struct sock_end *e)
{
	ctx->user_ip4 = e->addr[3];
	ctx->user_port = e->port;
}

static __always_inline void write6(struct bpf_sock_addr *ctx, const struct sock_end *e)
{
	ctx->user_ip6[0] = e->addr[0];
	ctx->user_ip6[1] = e->addr[1];
	ctx->user_ip6[2] = e->addr[2];
	ctx->user_ip6[3] = e->addr[3];
	ctx->user_port = e->port;
}

/* ours is the socket of a hook, where it is one of the host's own network namespace. */
static __always_inline struct bpf_sock *ours(struct bpf_sock_addr *ctx)
{
	return bpf_get_netns_cookie(ctx) == netns_cookie ? ctx->sk : NULL;
}

/* source4 and source6 are near of a datagram, which may name its own. */
static __always_inline void source4(__be32 to[4], struct bpf_sock_addr *ctx, struct bpf_sock *sk)
{
	__be32 ip = ctx->msg_src_ip4;

	barrier_var(ip);
	mapped(to, ip);
}

static __always_inline void source6(__be32 to[4], struct bpf_sock_addr *ctx, struct bpf_sock *sk)
{
	to[0] = ctx->msg_src_ip6[0];
	to[1] = ctx->msg_src_ip6[1];
	to[2] = ctx->msg_src_ip6[2];
	to[3] = ctx->msg_src_ip6[3];
}
