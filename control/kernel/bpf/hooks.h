/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* The programs that lead the host's own connections to published ports to containers. */

#include "asked.h"
#include "connect.h"

/*
 * connect and sendmsg, of a cgroup, lead what the host sends to a published port to the container. They
 * are there only while the daemon is: without it the relay's sockets keep what comes for the next one.
 */
SEC("cgroup/connect4")
int vsw_connect4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ours(ctx);
	struct led l = {};
	__be32 near[4];

	if (!sk)
		return 1;
	near4(near, sk);
	read4(&l.asked, ctx);
	if (connects(ctx, sk, near, &l))
		write4(ctx, &l.to);
	return 1;
}

SEC("cgroup/connect6")
int vsw_connect6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ours(ctx);
	struct led l = {};
	__be32 near[4];

	if (!sk)
		return 1;
	near6(near, sk);
	read6(&l.asked, ctx);
	if (connects(ctx, sk, near, &l))
		write6(ctx, &l.to);
	return 1;
}

SEC("cgroup/sendmsg4")
int vsw_send4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ours(ctx);
	struct led l = {};
	__be32 near[4];

	if (!sk)
		return 1;
	source4(near, ctx);
	read4(&l.asked, ctx);
	if (sends(ctx, sk, near, &l))
		write4(ctx, &l.to);
	return 1;
}

SEC("cgroup/sendmsg6")
int vsw_send6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ours(ctx);
	struct led l = {};
	__be32 near[4];

	if (!sk)
		return 1;
	source6(near, ctx);
	read6(&l.asked, ctx);
	if (sends(ctx, sk, near, &l))
		write6(ctx, &l.to);
	return 1;
}

/*
 * The others stay while nobody is there: a socket goes on where it went, and sees what it asked for.
 */
SEC("cgroup/sendmsg4")
int vsw_send_on4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ours(ctx);
	struct led l = {};
	__be32 near[4];

	if (!sk)
		return 1;
	source4(near, ctx);
	read4(&l.asked, ctx);
	if (sends_on(sk, near, &l))
		write4(ctx, &l.to);
	return 1;
}

SEC("cgroup/sendmsg6")
int vsw_send_on6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ours(ctx);
	struct led l = {};
	__be32 near[4];

	if (!sk)
		return 1;
	source6(near, ctx);
	read6(&l.asked, ctx);
	if (sends_on(sk, near, &l))
		write6(ctx, &l.to);
	return 1;
}

SEC("cgroup/recvmsg4")
int vsw_receive4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ours(ctx);
	struct led l = {};

	if (!sk)
		return 1;
	read4(&l.to, ctx);
	if (receives(sk, &l))
		write4(ctx, &l.asked);
	return 1;
}

SEC("cgroup/recvmsg6")
int vsw_receive6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ours(ctx);
	struct led l = {};

	if (!sk)
		return 1;
	read6(&l.to, ctx);
	if (receives(sk, &l))
		write6(ctx, &l.asked);
	return 1;
}

SEC("cgroup/getpeername4")
int vsw_peername4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ours(ctx);
	struct led l = {};

	if (!sk)
		return 1;
	read4(&l.to, ctx);
	if (asked_for(sk, &l))
		write4(ctx, &l.asked);
	return 1;
}

SEC("cgroup/getpeername6")
int vsw_peername6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ours(ctx);
	struct led l = {};

	if (!sk)
		return 1;
	read6(&l.to, ctx);
	if (asked_for(sk, &l))
		write6(ctx, &l.asked);
	return 1;
}

/* whose_led tells, in a test run, what a connected socket asked for: see struct whose_socket. */
SEC("tc")
int vsw_whose_led(struct __sk_buff *skb)
{
	return whose_led(skb);
}
