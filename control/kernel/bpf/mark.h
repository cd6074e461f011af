/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * A socket filter hands what it has decided to the program after it, from the filter of a
 * tap to tc ingress, so that a frame is decided once. The kernel calls both for a frame
 * before it takes the next one on that CPU, so there is a place for each CPU, which says
 * whose frame it holds. The frame is marked in skb->cb as well, five words that the kernel
 * keeps with the packet but which programs of others may use, too.
 *
 * A filter says something of every frame it sees. So a frame of which nothing was said has
 * met no filter: no process has a socket there, nobody is there.
 */

#include "flow.h"
#include "rows.h"

enum whose {
	UNKNOWN, /* no filter has seen it */
	THEIRS,
	OURS,
	FRAGMENT, /* a later one, to an address with a slot: it bears no port */
	NOBODYS,  /* neither the switch nor the host gets it */
	CARRIED,  /* the kernel carries it, by an entry */
	ECHO,     /* both get it: an answer to an ICMP query of ours and perhaps of the host, a broadcast */
	BY_PORT,  /* what the planes say of a port */
	QUOTES,   /* an ICMP error: what the packet in it says */
	SOCKETS,  /* a socket of the host received the last one of the flow */
	SURE,	  /* OURS, and no socket of the host is asked for: see socket.h */
	STATION,  /* the kernel carries it, by the rows of two stations */
};

/* What a filter says of a frame: cb[2] to cb[4] are index, generation and whose. */
struct said {
	__u64 frame; /* its struct sk_buff; 0: the place is empty */
	__u32 whose; /* enum whose */
	__u32 index; /* of the entry, of a carried frame; of STATION the pair */
	__u32 generation;
	__u32 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct said);
} vsw_said SEC(".maps");

/* stamp tells a decision of ours from what the sender left there: random, by the loader. */
volatile const __u32 stamp[2];

static __always_inline struct said *say(struct __sk_buff *skb, enum whose whose)
{
	__u32 zero = 0;
	struct said *s = bpf_map_lookup_elem(&vsw_said, &zero);

	if (s) {
		s->frame = (unsigned long)skb;
		s->whose = whose;
	}
	skb->cb[0] = stamp[0];
	skb->cb[1] = stamp[1];
	skb->cb[4] = whose;
	return s;
}

static __always_inline void mark(struct __sk_buff *skb, const struct flow *f)
{
	struct said *s = say(skb, CARRIED);

	if (s) {
		s->index = f->index;
		s->generation = f->row->generation;
	}
	skb->cb[2] = f->index;
	skb->cb[3] = f->row->generation;
}

/*
 * heard takes what the filter has said of a frame. With CARRIED there is an entry, with STATION
 * a row; one that is another's by now makes the frame nobody's. While nobody is there no filter writes over
 * what is old: a container may send a packet on with the mark that it came with, and the
 * place may be of a frame that another program took. The entry is then of another interface.
 */
static __always_inline enum whose heard(struct __sk_buff *skb, struct flow_entry **row, struct station_row **to)
{
	__u32 zero = 0, whose, index, generation;
	struct said *s = bpf_map_lookup_elem(&vsw_said, &zero);
	struct flow_entry *found;

	if (s && s->frame == (unsigned long)skb) {
		s->frame = 0; /* the address is another frame's soon */
		whose = s->whose;
		index = s->index;
		generation = s->generation;
		/* Or they are loaded from one of two places, and a program may do so only from one. */
		barrier_var(whose);
		barrier_var(index);
		barrier_var(generation);
	} else if (skb->cb[0] == stamp[0] && skb->cb[1] == stamp[1]) {
		whose = skb->cb[4];
		index = skb->cb[2];
		generation = skb->cb[3];
	} else {
		return UNKNOWN;
	}
	if (whose == STATION) {
		*to = receiver(skb, index, generation);
		return *to ? STATION : UNKNOWN;
	}
	if (whose != CARRIED)
		return whose;
	found = entry_of(index);
	if (!found || found->generation != generation)
		return NOBODYS;
	if (found->in != skb->ifindex)
		return UNKNOWN;
	*row = found;
	return CARRIED;
}
