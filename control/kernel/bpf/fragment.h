/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * Later fragments bear no port: they go where their first one went. So the fragments of
 * the switch do not fill the memory in which the host puts packets together, and the
 * switch does not see the host's.
 */

#include "mark.h"
#include "walk.h"

#define FRAGMENT_TIME 2000000000ull /* ns; an identification comes round */

/* A datagram in pieces. */
struct fragment_key {
	__be32 src[4], dst[4];
	__u32 id;
	__u32 proto; /* of IPv4: of IPv6 each fragment may name another one (RFC 8200, 4.5) */
};

struct fragment {
	__u64 since; /* CLOCK_MONOTONIC in ns */
	__u32 whose; /* enum whose */
	__u32 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FLOWMAP_MAX_FRAGMENTS);
	__type(key, struct fragment_key);
	__type(value, struct fragment);
} vsw_fragments SEC(".maps");

static __always_inline void datagram(struct fragment_key *key, const struct walk *w, bool v4,
				     const __be32 src[4], const __be32 dst[4])
{
	copy16(key->src, src);
	copy16(key->dst, dst);
	key->id = w->id;
	key->proto = v4 ? w->proto : 0;
}

/* follow says whose a later fragment is: both get it while the first has not been seen. */
static __always_inline enum whose follow(const struct fragment_key *key)
{
	struct fragment *f = bpf_map_lookup_elem(&vsw_fragments, key);

	if (!f || bpf_ktime_get_ns() - f->since > FRAGMENT_TIME)
		return FRAGMENT;
	return f->whose;
}

/* lead notes whose a first fragment is. */
static __always_inline void lead(const struct fragment_key *key, enum whose whose)
{
	struct fragment f = {.since = bpf_ktime_get_ns(), .whose = whose};

	bpf_map_update_elem(&vsw_fragments, key, &f, BPF_ANY);
}
