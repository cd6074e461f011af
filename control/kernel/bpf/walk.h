/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* The walk through the headers of a packet, from an IP header to that of the transport. */

#include "packet.h"

/* What has more extension headers is not ours, so the host's stack deals with it. */
#define MAX_EXTENSIONS 4

/* An IP header, and where the walk through a packet stands. */
struct walk {
	union {
		struct iphdr v4;
		struct ipv6hdr v6;
	} ip;
	__u32 at;    /* offset of the transport header */
	__u32 proto; /* its protocol */
	bool later;  /* there is none: this is a later fragment */
	bool first;  /* later fragments follow */
	__u32 id;    /* of a datagram in pieces */
};

/* The first bytes of an extension or transport header. */
union head {
	__u8 bytes[8];
	__be16 words[4];
	__be32 longs[2];
};

/*
 * extensions walks the IPv6 extension headers (RFC 8200, section 4) to the transport
 * header or the header of a later fragment.
 */
static __always_inline bool extensions(struct __sk_buff *skb, struct walk *w)
{
	union head h;

#pragma clang loop unroll(full)
	for (int i = 0; i < MAX_EXTENSIONS; i++) {
		switch (w->proto) {
		case IPPROTO_HOPOPTS:
		case IPPROTO_ROUTING:
		case IPPROTO_DSTOPTS:
			if (!load(skb, w->at, &h, sizeof(h)))
				return false;
			w->at += 8 + (h.bytes[1] << 3);
			break;
		case IPPROTO_FRAGMENT:
			if (!load(skb, w->at, &h, sizeof(h)))
				return false;
			w->at += 8;
			w->id = h.longs[1];
			w->first = h.words[1] & bpf_htons(1);
			if (h.words[1] & bpf_htons(0xfff8)) {
				w->proto = h.bytes[0];
				w->later = true;
				w->first = false;
				return true;
			}
			break;
		default:
			return true;
		}
		w->proto = h.bytes[0];
	}
	return true;
}

/* network reads the IP header at w->at and goes on to the transport header. */
static __always_inline bool network(struct __sk_buff *skb, struct walk *w, bool v4)
{
	w->later = false;
	w->first = false;
	w->id = 0;
	if (v4) {
		if (!load(skb, w->at, &w->ip.v4, sizeof(w->ip.v4)) || w->ip.v4.version != 4 || w->ip.v4.ihl < 5)
			return false;
		w->at += w->ip.v4.ihl << 2;
		w->proto = w->ip.v4.protocol;
		w->later = w->ip.v4.frag_off & bpf_htons(0x1fff);
		w->first = !w->later && w->ip.v4.frag_off & bpf_htons(0x2000);
		w->id = w->ip.v4.id;
		return true;
	}
	if (!load(skb, w->at, &w->ip.v6, sizeof(w->ip.v6)) || w->ip.v6.version != 6)
		return false;
	w->at += sizeof(w->ip.v6);
	w->proto = w->ip.v6.nexthdr;
	return extensions(skb, w);
}
