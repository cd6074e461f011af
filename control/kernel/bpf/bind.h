/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * bind counts the UDP sockets of the host at each port, from bind to release, notes the ports that
 * TCP sockets were bound to, and tells of sockets for packets without ports. A socket that is bound
 * by its first packet or by connect calls no hook (inet_autobind), nor does one that was there
 * before: the shield finds those.
 */

#include "claim.h"

#define AF_INET6 10

/* The namespace whose sockets count, and what a socket of ours is marked with. */
volatile const __u64 netns_cookie;

#define SOCKET_OURS (1 << 16)

/* Of a socket: its port, and in which families it is counted. */
struct bound_socket {
	__u32 port; /* 0: none, or SOCKET_OURS */
	__u32 families;
};

enum { FAMILY4 = 1, FAMILY6 = 2 };

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct bound_socket);
} vsw_bound_sockets SEC(".maps");

/* Says that a program has opened a socket which takes packets without ports. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} vsw_takers SEC(".maps");

#define SOCK_RAW 3

static __always_inline bool loopback4(__be32 addr)
{
	return (addr & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
}

/*
 * families6 are those from which packets from outside reach a socket of IPv6. One at every
 * address may be of IPv4, too.
 */
static __always_inline __u32 families6(const __be32 addr[4])
{
	if (addr[0] | addr[1])
		return FAMILY6;
	if (addr[2] == bpf_htonl(0xffff))
		return loopback4(addr[3]) ? 0 : FAMILY4;
	if (!addr[2] && addr[3] == bpf_htonl(1))
		return 0;
	return addr[2] | addr[3] ? FAMILY6 : FAMILY4 | FAMILY6;
}

static __always_inline void count_port(const struct bound_socket *s, int n)
{
	__u32 zero = 0, port = s->port & 0xffff;
	struct bound_ports *b = bpf_map_lookup_elem(&vsw_bound_ports, &zero);

	if (!b)
		return;
	if (s->families & FAMILY4)
		__sync_fetch_and_add(&b->sockets[0][port], n);
	if (s->families & FAMILY6)
		__sync_fetch_and_add(&b->sockets[1][port], n);
}

/*
 * created makes room for what a program's socket holds. The kernel's own sockets call
 * neither this hook nor that of release, but that of bind: without room they are not counted.
 */
static __always_inline void created(struct bpf_sock *sk)
{
	__u32 proto = sk->protocol;

	if ((sk->type == SOCK_RAW || proto == IPPROTO_SCTP) && proto != IPPROTO_ICMP && proto != IPPROTO_ICMPV6 &&
	    bpf_get_netns_cookie(sk) == netns_cookie)
		bpf_ringbuf_output(&vsw_takers, &proto, sizeof(proto), 0);
	if (sk->protocol == IPPROTO_UDP && bpf_get_netns_cookie(sk) == netns_cookie)
		bpf_sk_storage_get(&vsw_bound_sockets, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
}

/*
 * bound_at counts a socket that has been bound. One that another program refuses here was
 * counted before, and is until its release.
 */
static __always_inline void bound_at(struct bpf_sock *sk, __u32 families)
{
	struct bound_socket *s;
	__u32 port = sk->src_port, proto = sk->protocol;

	if ((proto != IPPROTO_UDP && proto != IPPROTO_TCP) || !families || bpf_get_netns_cookie(sk) != netns_cookie)
		return;
	s = bpf_sk_storage_get(&vsw_bound_sockets, sk, 0, 0);
	if (s && s->port == SOCKET_OURS)
		return;
	if (proto == IPPROTO_TCP) {
		note_port(port);
		return;
	}
	if (!s)
		return;
	count_port(s, -1);
	s->port = port;
	s->families = families;
	count_port(s, 1);
}

static __always_inline void released(struct bpf_sock *sk)
{
	struct bound_socket *s;

	if (sk->protocol != IPPROTO_UDP)
		return;
	s = bpf_sk_storage_get(&vsw_bound_sockets, sk, 0, 0);
	if (!s)
		return;
	count_port(s, -1);
	s->families = 0;
}
