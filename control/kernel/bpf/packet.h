/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* The context of a program and how a packet is read. */

#include <stdbool.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Memory that the switch reads and writes meanwhile: one access each. */
#define READ_ONCE(x)     (*(const volatile typeof(x) *)&(x))
#define WRITE_ONCE(x, v) (*(volatile typeof(x) *)&(x) = (v))

/* An Ethernet header as it is copied, in words that are aligned. */
struct ether {
	__u16 macs[6]; /* destination, source */
	__be16 type;
};

/*
 * An Ethernet and an IP header, and the first 8 bytes of the transport header: ports,
 * and TCP's sequence number or UDP's length. Read to eth, so that what follows it is
 * aligned.
 */
struct frame4 {
	__u16 pad;
	struct ether eth;
	struct iphdr ip;
	__be32 ports;
	__be32 seq;
} __attribute__((aligned(8)));

struct frame6 {
	__u16 pad;
	struct ether eth;
	struct ipv6hdr ip;
	__be32 ports;
	__be32 seq;
} __attribute__((aligned(8)));

/*
 * load copies n bytes of a packet and says whether it has them. The helper reads paged
 * data too, which direct access and bpf_skb_load_bytes_relative do not.
 */
static __always_inline bool load(struct __sk_buff *skb, __u32 at, void *to, __u32 n)
{
	return bpf_skb_load_bytes(skb, at, to, n) == 0;
}

/* mapped makes ::ffff:a.b.c.d, which is how IPv4 addresses stand in every key. */
static __always_inline void mapped(__be32 to[4], __be32 addr)
{
	to[0] = 0;
	to[1] = 0;
	to[2] = bpf_htonl(0xffff);
	to[3] = addr;
}

static __always_inline void copy16(__be32 to[4], const __be32 from[4])
{
	__builtin_memcpy(to, from, 16);
}
