/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/* The maps of the flow table, and the row and the tally of a frame. */

#include "parse.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC); /* memory for the keys that there are */
	__uint(max_entries, FLOWMAP_MAX_ENTRIES);
	__type(key, struct flow_key);
	__type(value, __u32); /* number of a row */
} vsw_flow_keys SEC(".maps");

/* The switch makes a chunk when those that are there fill up. */
struct flow_chunk {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FLOWMAP_CHUNK_ENTRIES);
	__type(key, __u32);
	__type(value, struct flow_entry);
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, FLOWMAP_MAX_CHUNKS);
	__type(key, __u32);
	__array(values, struct flow_chunk);
} vsw_flow_entries SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_ends);
} vsw_flow_ends SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FLOWMAP_MAX_PORTS);
	__type(key, __u32);   /* ifindex */
	__type(value, __u32); /* number of a tally */
} vsw_flow_ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FLOWMAP_MAX_PORTS);
	__type(key, __u32);
	__type(value, struct flow_tally);
} vsw_flow_tally SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_identifiers);
} vsw_identifiers SEC(".maps");

/* A frame of a flow in the table. */
struct flow {
	struct packet packet;
	struct flow_key key; /* its protocol is 0 where the frame has none */
	struct flow_entry *row;
	__u32 index; /* of the row */
};

/* entry_of is the entry of a number, NULL where there is none. */
static __always_inline struct flow_entry *entry_of(__u32 number)
{
	__u32 at = number / FLOWMAP_CHUNK_ENTRIES;
	void *chunk = bpf_map_lookup_elem(&vsw_flow_entries, &at);

	if (!chunk)
		return NULL;
	at = number % FLOWMAP_CHUNK_ENTRIES;
	return bpf_map_lookup_elem(chunk, &at);
}

/* same compares two keys, whose unused bytes are zero. */
static __always_inline bool same(const struct flow_key *a, const struct flow_key *b)
{
	const __u64 *x = (const void *)a, *y = (const void *)b;

	return x[0] == y[0] && x[1] == y[1] && x[2] == y[2] && x[3] == y[3] && x[4] == y[4] && x[5] == y[5];
}

/* from says whether a frame came in as those that the flow was decided by. */
static __always_inline bool from(struct __sk_buff *skb, const struct packet *p, const struct flow_entry *row)
{
	const __u32 *x = (const void *)p->macs, *y = (const void *)row->match;

	return skb->ifindex == row->in && x[0] == y[0] && x[1] == y[1] && x[2] == y[2];
}

/*
 * idle says whether an entry was not used for longer than its flow may be idle. What another
 * CPU has just noted may lie ahead of the jiffies that this one reads.
 */
static __always_inline bool idle(const struct flow_entry *row)
{
	__u64 last = READ_ONCE(row->last_use);

	return row->timeout && last && (__s64)(bpf_jiffies64() - last) > (__s64)row->timeout;
}

/*
 * dead says whether the switch has ended an entry, or neither direction was used for too long
 * to be a flow, whoever removes it.
 */
static __always_inline bool dead(struct flow *f)
{
	const struct flow_entry *o;
	bool used;

	if (READ_ONCE(f->row->ended))
		return true;
	used = READ_ONCE(f->row->last_use) != 0;
	if (used && !idle(f->row))
		return false;
	o = entry_of(f->index ^ 1);
	if (!used) /* the other direction tells, if it has one */
		return o && !READ_ONCE(o->ended) && idle(o);
	return !o || READ_ONCE(o->ended) || !READ_ONCE(o->last_use) || idle(o);
}

/*
 * find looks up the entry of a frame, at an uplink or not. An element of the hash is
 * reused as soon as it is deleted, also while a program reads its value, so the entry
 * must hold the key.
 */
static __always_inline bool find(struct __sk_buff *skb, struct flow *f, bool uplink)
{
	__u32 *index;

	f->key = (struct flow_key){};
	if (!parse(skb, &f->packet, &f->key))
		return false;
	if (f->packet.proto != IPPROTO_TCP && f->packet.proto != IPPROTO_UDP)
		return false; /* an echo has no entry */
	f->key.side = uplink ? 0 : skb->ifindex;
	index = bpf_map_lookup_elem(&vsw_flow_keys, &f->key);
	if (!index)
		return false;
	f->index = *index;
	f->row = entry_of(f->index);
	return f->row && same(&f->row->key, &f->key) && from(skb, &f->packet, f->row) && !dead(f);
}

/* tally is that of the interface, NULL when nobody keeps one. */
static __always_inline struct flow_tally *tally(struct __sk_buff *skb)
{
	__u32 ifindex = skb->ifindex, *found, n;

	found = bpf_map_lookup_elem(&vsw_flow_ports, &ifindex);
	if (!found)
		return NULL;
	n = *found;
	return bpf_map_lookup_elem(&vsw_flow_tally, &n);
}

/* count counts a frame that is for the switch. */
static __always_inline void count(struct __sk_buff *skb)
{
	struct flow_tally *a = tally(skb);

	if (a)
		__sync_fetch_and_add(&a->in, 1);
}

/* lose counts a frame that cannot be carried as it has to be, and that nobody gets. */
static __always_inline void lose(struct __sk_buff *skb)
{
	struct flow_tally *a = tally(skb);

	if (a)
		__sync_fetch_and_add(&a->refused, 1);
}
