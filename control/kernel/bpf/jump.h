/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include <linux/pkt_cls.h>

#include "packet.h"

/* The program that a socket's own one goes on with. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} vsw_jumps SEC(".maps");

static __always_inline void jump(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &vsw_jumps, 0);
}

/*
 * What becomes of a frame as long as the process lives: 0 is where it goes on, 1 where it
 * ends. The kernel empties an array of programs when the last process that has it open ends.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} vsw_living SEC(".maps");

/* there ends the program with a verdict, and returns when nobody is there. */
static __always_inline void there(struct __sk_buff *skb, int verdict)
{
	if (verdict == TC_ACT_SHOT)
		bpf_tail_call(skb, &vsw_living, 1);
	else
		bpf_tail_call(skb, &vsw_living, 0);
}
