/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once

/*
 * track keeps what the switch must know of a routed flow (conntrack of package dataplane)
 * and leaves to it what it decides about: SYN, a reset without the exact number and what follows
 * one, IPv4 packets that need an identification. It follows a connection to its end, which the
 * switch learns from the halves.
 *
 * Each direction of a connection has its half in its entry, and only segments of that
 * direction move it. A segment is checked against both halves before it moves anything, as
 * conntrack checks it. One that fits nowhere is carried as well, since nobody can say that
 * its receiver does not want it, and moves nothing.
 */

#include "flow.h"

/*
 * How far an acknowledgment may lie behind the highest of its side, by the largest window
 * of that side, and how far ahead of what the other side is known to have sent (conntrack has
 * the same). Two CPUs that move one half at once lose one of two numbers, which the other side
 * acknowledges all the same.
 */
#define LEAST_BEHIND 66000
#define MOST_BEHIND  (256 << 10)
#define ACK_AHEAD    (128 << 10)

static __always_inline bool after(__u32 a, __u32 b)
{
	return (__s32)(a - b) > 0;
}

static __always_inline __u32 most(__u32 a, __u32 b)
{
	return a > b ? a : b;
}

static __always_inline __u32 least(__u32 a, __u32 b)
{
	return a < b ? a : b;
}

/* segment_end is the number after what a segment takes of the sequence space. */
static __always_inline __u32 segment_end(const struct packet *p)
{
	return bpf_ntohl(p->seq) + p->body - data_offset(p) + (p->tcp.flags & TCP_FIN);
}

/* fits says whether a segment of the half s, which o answers, lies in the window. */
static __always_inline bool fits(const struct packet *p, const struct flow_half *s, const struct flow_half *o)
{
	__u32 seq = bpf_ntohl(p->seq), ack = bpf_ntohl(p->tcp.ack), last = READ_ONCE(s->seq_end);

	if (after(seq, last) && after(seq, READ_ONCE(o->edge)))
		return false;
	if (!after(segment_end(p), last - READ_ONCE(o->window) - 1))
		return false;
	if (!(p->tcp.flags & TCP_ACK)) /* RFC 9293 3.10.7.4: its receiver drops it */
		return false;
	return !after(ack, READ_ONCE(o->seq_end) + ACK_AHEAD) && after(ack, READ_ONCE(s->ack) - most(least(READ_ONCE(s->window), MOST_BEHIND), LEAST_BEHIND));
}

/* announced is the window of a segment. */
static __always_inline __u32 announced(const struct packet *p, const struct flow_half *s)
{
	__u32 window = (__u32)bpf_ntohs(p->tcp.window) << (s->scale & FLOW_SCALE);

	return s->scale & FLOW_SCALE_UNKNOWN ? least(window, FLOW_MOST_UNKNOWN) : window;
}

/* move takes a segment that fits into its half. */
static __always_inline void move(const struct packet *p, struct flow_half *s)
{
	__u32 end = segment_end(p), ack = bpf_ntohl(p->tcp.ack), window = announced(p, s);

	if (window > s->window)
		WRITE_ONCE(s->window, window);
	if (after(end, s->seq_end))
		WRITE_ONCE(s->seq_end, end);
	if (after(ack, s->ack))
		WRITE_ONCE(s->ack, ack);
	ack += most(window, 1);
	if (after(ack, s->edge))
		WRITE_ONCE(s->edge, ack);
}

/* What becomes of a frame of a routed flow. */
enum tracked {
	LEAVE,  /* to the switch, which may not be there */
	IGNORE, /* it is carried, and moves nothing */
	MOVE,   /* it is carried, and moves its half */
	RESET,  /* it is carried, and ends the connection */
};

/*
 * exact says whether a reset has the number that its receiver expects next (validReset of
 * conntrack): where its sender's data ended, or the highest that the other acknowledged.
 */
static __always_inline bool exact(const struct packet *p, const struct flow_half *s, const struct flow_half *o)
{
	__u32 seq = bpf_ntohl(p->seq);

	return seq == READ_ONCE(s->seq_end) || seq == READ_ONCE(o->ack);
}

/*
 * proves says whether a segment of who began a connection shows that he hears the answers: it
 * acknowledges the exact number of the SYN that answered.
 */
static __always_inline bool proves(const struct packet *p, const struct flow_half *s, const struct flow_half *o)
{
	return !(p->tcp.flags & TCP_RST) && bpf_ntohl(p->tcp.ack) == READ_ONCE(o->seq_end) && fits(p, s, o);
}

/*
 * alone says that nobody is there to whom a frame could be left. A FIN is carried, and an exact
 * reset. What follows a reset the switch judges: the reset may not have been heeded.
 */
static __always_inline enum tracked track(const struct flow *f, bool alone)
{
	const struct packet *p = &f->packet;
	const struct flow_half *s = &f->row->half;
	const struct flow_entry *o;

	if (f->row->flags & FLOW_NEEDS_DF && !(f->row->flags >> FLOW_COUNTER_SHIFT) && !(p->fragment & IP_DF))
		return LEAVE;
	if (p->proto != IPPROTO_TCP)
		return IGNORE;
	if (p->tcp.flags & TCP_SYN)
		return LEAVE;
	o = entry_of(f->index ^ 1);
	if (!o || READ_ONCE(o->half.doubt))
		return LEAVE;
	if (!alone && (READ_ONCE(s->ended) == HALF_RST || READ_ONCE(o->half.ended) == HALF_RST))
		return LEAVE;
	if (READ_ONCE(s->doubt))
		return proves(p, s, &o->half) ? MOVE : LEAVE;
	if (p->tcp.flags & TCP_RST)
		return exact(p, s, &o->half) ? RESET : LEAVE;
	return fits(p, s, &o->half) ? MOVE : IGNORE;
}

/* ring notes that a connection may have ended. */
static __always_inline void ring(const struct flow *f)
{
	__u32 zero = 0;
	struct flow_ends *ends = bpf_map_lookup_elem(&vsw_flow_ends, &zero);

	if (!ends)
		return;
	WRITE_ONCE(ends->pairs[f->index / 2 % (FLOWMAP_MAX_ENTRIES / 2)], 1);
	__sync_fetch_and_add(&ends->rung, 1);
}

/* end notes how a side has ended, and rings when the connection has. */
static __always_inline void end(const struct flow *f, __u32 how)
{
	struct flow_half *s = &f->row->half;
	__u32 was = READ_ONCE(s->ended), theirs;
	const struct flow_entry *o = entry_of(f->index ^ 1);

	theirs = o ? READ_ONCE(o->half.ended) : 0;
	if (was >= how || (was == HALF_FIN && theirs == HALF_FIN))
		return;
	WRITE_ONCE(s->ended, how);
	if (how == HALF_RST || theirs)
		ring(f);
}

/* learn takes over what a frame that is carried says of its connection. */
static __always_inline void learn(const struct flow *f, enum tracked tracked)
{
	const struct packet *p = &f->packet;

	if (tracked < MOVE)
		return;
	if (tracked == MOVE) {
		move(p, &f->row->half);
		if (f->row->half.doubt)
			WRITE_ONCE(f->row->half.doubt, 0);
	}
	if (p->tcp.flags & (TCP_FIN | TCP_RST))
		end(f, tracked == RESET ? HALF_RST : HALF_FIN);
}
