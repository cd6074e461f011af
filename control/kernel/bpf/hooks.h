/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* The programs that lead the host's own connections to published ports to containers. */

#include "asked.h"
#include "connect.h"

/* A hook of both families: near reads the source that a packet would have. */
#define LEADS(name, hook, near, family, verdict)			\
	SEC("cgroup/" hook #family)					\
	int vsw_##name##family(struct bpf_sock_addr *ctx)		\
	{								\
		struct bpf_sock *sk = ours(ctx);			\
		struct led l = {};					\
		__be32 from[4];						\
									\
		if (!sk)						\
			return 1;					\
		near##family(from, ctx, sk);				\
		read##family(&l.asked, ctx);				\
		if (verdict(ctx, sk, from, &l))				\
			write##family(ctx, &l.to);			\
		return 1;						\
	}

/* The same of one that tells a program the end that it asked for in place of the one it has. */
#define TELLS(name, hook, family, verdict)				\
	SEC("cgroup/" hook #family)					\
	int vsw_##name##family(struct bpf_sock_addr *ctx)		\
	{								\
		struct bpf_sock *sk = ours(ctx);			\
		struct led l = {};					\
									\
		if (!sk)						\
			return 1;					\
		read##family(&l.to, ctx);				\
		if (verdict(sk, &l))					\
			write##family(ctx, &l.asked);			\
		return 1;						\
	}

/*
 * connect and sendmsg, of a cgroup, lead what the host sends to a published port to the container. They
 * are there only while the daemon is: without it the relay's sockets keep what comes for the next one.
 */
LEADS(connect, "connect", near, 4, connects)
LEADS(connect, "connect", near, 6, connects)
LEADS(send, "sendmsg", source, 4, sends)
LEADS(send, "sendmsg", source, 6, sends)

/*
 * The others stay while nobody is there: a socket goes on where it went, and sees what it asked for.
 */
LEADS(send_on, "sendmsg", source, 4, sends_on)
LEADS(send_on, "sendmsg", source, 6, sends_on)
TELLS(receive, "recvmsg", 4, receives)
TELLS(receive, "recvmsg", 6, receives)
TELLS(peername, "getpeername", 4, asked_for)
TELLS(peername, "getpeername", 6, asked_for)

/* whose_led tells, in a test run, what a connected socket asked for: see struct whose_socket. */
SEC("tc")
int vsw_whose_led(struct __sk_buff *skb)
{
	return whose_led(skb);
}
