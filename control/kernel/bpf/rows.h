/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* The maps of station rows (ADR 39). */

#include "packet.h"
#include "flowmap.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 2 * FLOWMAP_MAX_PORTS);
	__type(key, struct station_key);
	__type(value, __u32); /* number of a row */
} vsw_station_keys SEC(".maps");

/* By the number of a port, which is that of its tally. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FLOWMAP_MAX_PORTS);
	__type(key, __u32);
	__type(value, struct station_row);
} vsw_station_rows SEC(".maps");

/* A flow that has been told of stays told: no entry gives way to another. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FLOWMAP_MAX_STATION_FLOWS);
	__type(key, struct flow_key);
	__type(value, struct station_flow);
} vsw_station_flows SEC(".maps");

/* A frame between two stations is named by the numbers of both rows, and by the generation of the receiver's. */
static __always_inline __u32 pair_of(__u32 from, __u32 to)
{
	return from << 16 | to;
}

/* receiver is the row that a pair leads to, NULL when it is another's by now, or comes from elsewhere. */
static __always_inline struct station_row *receiver(struct __sk_buff *skb, __u32 pair, __u32 generation)
{
	__u32 from = pair >> 16, to = pair & 0xffff;
	struct station_row *s = bpf_map_lookup_elem(&vsw_station_rows, &from);

	if (!s || s->ifindex != skb->ifindex)
		return NULL;
	s = bpf_map_lookup_elem(&vsw_station_rows, &to);
	return s && s->generation == generation ? s : NULL;
}
