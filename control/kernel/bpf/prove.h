/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * prove looks at the place of a partial checksum. Whoever finishes it, the last device,
 * writes there; a container says where by a packet socket (PACKET_VNET_HDR), and could have
 * an address or a port overwritten that was decided about. No field of a program's context
 * tells the place, so it is read in the kernel's struct sk_buff.
 */

#include "flow.h"

/*
 * Where struct sk_buff has csum_start, which csum_offset follows, and network_header, all three of
 * them from the head of the buffer: by the loader, 0 where that cannot tell.
 */
volatile const __u32 sk_buff_at[2];

/*
 * Where struct sk_buff says whether a checksum is to be finished (ip_summed): the byte, and how
 * far it is to be shifted; by the loader, 0 as above.
 */
volatile const __u32 ip_summed_at[2];

/* provable is a constant to the verifier: what does without it is not looked at. */
static __always_inline bool provable(void)
{
	return sk_buff_at[0] != 0;
}

/*
 * placed says whether a checksum that is partial is to be written at a place in the frame or
 * after it, as that of a packet in a tunnel is.
 */
static __always_inline bool placed(struct __sk_buff *skb, __u32 at)
{
	struct {
		__u16 start, offset;
	} sum;
	__u16 network;

	return provable() &&
	       bpf_probe_read_kernel(&sum, sizeof(sum), (void *)skb + sk_buff_at[0]) == 0 &&
	       bpf_probe_read_kernel(&network, sizeof(network), (void *)skb + sk_buff_at[1]) == 0 &&
	       (__u32)sum.start + sum.offset + ETH_HLEN >= (__u32)network + at;
}

/*
 * partial says whether a checksum is still to be finished. bpf_l4_csum_replace with
 * BPF_F_PSEUDO_HDR adds to a sum if so, and to its complement if not. It is tried on the
 * first two bytes of the frame, which are the machine's word was; the second call is for
 * the sum over the packet that a device may have made (CHECKSUM_COMPLETE).
 */
static __always_inline bool partial(struct __sk_buff *skb, __u16 was)
{
	__u16 now;

	if (skb->gso_size)
		return true; /* or it is no packet that could be segmented */
	if (bpf_l4_csum_replace(skb, 0, 0, 1, BPF_F_PSEUDO_HDR) || !load(skb, 0, &now, sizeof(now)))
		return true;
	bpf_l4_csum_replace(skb, 0, 0, 0xfffffffe, BPF_F_PSEUDO_HDR);
	return now == (was == 0xffff ? 1 : was + 1);
}

/* proved is false when a partial checksum lies before the place that it has in the transport header. */
static __always_inline bool proved(struct __sk_buff *skb, __u16 was, __u32 at)
{
	return placed(skb, at) || !partial(skb, was);
}

#define CHECKSUM_PARTIAL 3

/*
 * finished_at says whether nobody finishes a checksum before a place in the frame: it is not
 * partial, or is to be written there or after it. Unlike proved it changes nothing, so that a
 * socket filter can ask it.
 */
static __always_inline bool finished_at(struct __sk_buff *skb, __u32 at)
{
	__u8 summed;

	if (!ip_summed_at[0] || bpf_probe_read_kernel(&summed, sizeof(summed), (void *)skb + ip_summed_at[0]))
		return false;
	if ((summed >> (ip_summed_at[1] & 7) & 3) == CHECKSUM_PARTIAL)
		return placed(skb, at);
	return !skb->gso_size;
}
