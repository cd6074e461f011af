/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

#include "packet.h"

/*
 * Of UDP no more ends than these are led in a window of 67 ms; further ones are the relay's, where users take
 * turns. Each costs the switch a flow, and all wait in the one queue of their network's device: a user who
 * begins them in masses would have everybody else's lost there.
 */
#define BEGIN_WINDOW 26 /* ns, as a power of two */
#define BEGIN_MOST   64

struct begun {
	__u64 window;
	__u64 ends;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct begun);
} vsw_begun SEC(".maps");

/* may_begin counts an end of UDP that is about to be led. Of two CPUs at once one may count for both. */
static __always_inline bool may_begin(void)
{
	__u64 window = bpf_ktime_get_ns() >> BEGIN_WINDOW;
	__u32 zero = 0;
	struct begun *b = bpf_map_lookup_elem(&vsw_begun, &zero);

	if (!b)
		return false;
	if (READ_ONCE(b->window) != window) {
		WRITE_ONCE(b->window, window);
		WRITE_ONCE(b->ends, 0);
	}
	if (READ_ONCE(b->ends) >= BEGIN_MOST)
		return false;
	__sync_fetch_and_add(&b->ends, 1);
	return true;
}
