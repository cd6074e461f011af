/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */

/*
 * The programs of the switch, with hooks.h. Each is the order of its stages; a stage has
 * its file. One whose name ends in _bare does without the flow table, one in _ip is for interfaces that
 * speak IP alone, without a header of the link, and does without it, too; to the kernel all have one name.
 * Programs of interfaces outlive the process (ADR 36).
 */

#include "answer.h"
#include "bind.h"
#include "classify.h"
#include "decide.h"
#include "execute.h"
#include "hooks.h"
#include "jump.h"
#include "socket.h"
#include "station.h"
#include "steer.h"

/* A type is in the object's BTF where something is of it: here, for TestLayout and the map of chunks. */
const struct {
	struct flow_entry entry;
	enum flowmap_limit limit;
	enum flow_state state;
	enum flow_flag flag;
	enum flow_scale scale;
	enum half_end half_end;
	enum claim claim;
	enum peer peer;
	enum claim_proto claim_proto;
	enum subnet subnet;
	enum relay_socket relay_socket;
	enum asker_flag asker_flag;
	enum station_flag station_flag;
	enum station_row_flag station_row_flag;
} layout SEC(".rodata.layout") = {};

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* Verdicts of a socket filter: bytes to keep. */
#define SOCKET_NONE 0
#define SOCKET_ALL  -1

/* Apart, for the stacks of a program and of what it calls add up to 512 bytes at most. */
static __noinline struct flow_entry *alone_uplink(struct __sk_buff *skb)
{
	return alone(skb, true);
}

static __noinline struct flow_entry *alone_host(struct __sk_buff *skb)
{
	return alone(skb, false);
}

/*
 * decide, socket filter of a container's AF_PACKET socket, keeps frames of active flows, and
 * those between stations that rows speak for, from the socket and marks them for the seal.
 */
SEC("socket")
int vsw_decide(struct __sk_buff *skb)
{
	struct flow f = {};

	switch (decide(skb, &f, false)) {
	case CARRY:
		mark(skb, &f);
		return SOCKET_NONE;
	case LOSE:
		say(skb, NOBODYS);
		return SOCKET_NONE;
	case NO_FLOW:
		switch (station(skb, &f)) {
		case CARRY:
			return SOCKET_NONE;
		case NO_FLOW:
			count(skb);
		}
	default:
		say(skb, OURS);
		return SOCKET_ALL;
	}
}

/*
 * seal, tc ingress of a host-side veth, keeps every packet of a container from the host's
 * stack. Those that decide has marked go to their output. While nobody is there seal looks the
 * flow up itself, and answers who asks for a MAC address.
 */
SEC("tc")
int vsw_seal(struct __sk_buff *skb)
{
	struct flow_entry *row = NULL;
	struct station_row *to = NULL;
	enum whose whose = heard(skb, &row, &to);

	if (to)
		return deliver(skb, to);
	if (whose == UNKNOWN) {
		row = alone(skb, false);
		if (!row) {
			int verdict = station_alone(skb);

			return verdict == TC_ACT_UNSPEC ? answer(skb, TC_ACT_SHOT) : verdict;
		}
	}
	return row ? execute(skb, row) : TC_ACT_SHOT;
}

SEC("tc")
int vsw_seal_bare(struct __sk_buff *skb)
{
	return TC_ACT_SHOT;
}

/*
 * forwarded, tc egress of a network's TAP before everything else there, takes a frame that
 * came to the host by an interface, whatever its source address says. It goes on without a
 * source MAC address, by which the switch knows it: the switch drops it and says so. One
 * that came by the TAP itself is of a container there: a rule of the host sends it back.
 */
static __always_inline bool disown(struct __sk_buff *skb)
{
	const __u16 nobody[3] = {};

	if (!skb->ingress_ifindex || skb->ingress_ifindex == skb->ifindex)
		return true;
	return bpf_skb_store_bytes(skb, ETH_ALEN, nobody, sizeof(nobody), 0) == 0;
}

SEC("tc")
int vsw_forwarded(struct __sk_buff *skb)
{
	if (disown(skb))
		return TC_ACT_UNSPEC;
	lose(skb);
	return TC_ACT_SHOT;
}

SEC("tc")
int vsw_forwarded_bare(struct __sk_buff *skb)
{
	return disown(skb) ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}

/*
 * host, tc egress of a network's TAP after everything else there, looks every frame that
 * the host sends into a network up and sends what it finds into the container's cable:
 * decided and carried out in one. The rows of a TAP change nothing of a frame. A frame that is not
 * in the table, and for no station, goes on into the TAP's queue, counted. A TAP has no filter that tells whether
 * somebody is there: there does. While nobody is, host answers who asks for a MAC address.
 */
SEC("tc")
int vsw_host(struct __sk_buff *skb)
{
	int verdict = TC_ACT_UNSPEC, sent;
	struct flow_entry *row;
	struct flow f = {};

	switch (decide(skb, &f, false)) {
	case CARRY:
		carried(skb, f.row);
		return bpf_redirect(f.row->out, 0);
	case LOSE:
		verdict = TC_ACT_SHOT;
		break;
	case NO_FLOW:
		sent = station_sent(skb, &f);
		if (sent != TC_ACT_UNSPEC)
			return sent;
	default:
		break;
	}
	there(skb, verdict);
	row = alone_host(skb);
	if (!row) {
		sent = station_alone(skb);
		return sent == TC_ACT_UNSPEC ? answer(skb, verdict) : sent;
	}
	carried(skb, row);
	return bpf_redirect(row->out, 0);
}

/* The programs that there goes on with: the frame goes into the TAP's queue, or nowhere. */
SEC("tc")
int vsw_there(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

/*
 * filter, which enter goes on with, accepts whole packets that are ours and later fragments,
 * except the frames of active flows, which it marks for the shield.
 */
static __always_inline bool wanted(enum whose whose)
{
	return whose == OURS || whose == SURE || whose == FRAGMENT || whose == ECHO;
}

SEC("socket")
int vsw_filter(struct __sk_buff *skb)
{
	enum whose whose;
	struct flow f;

	if (skb->pkt_type > PACKET_MULTICAST) {
		say(skb, THEIRS);
		return SOCKET_NONE;
	}
	switch (decide(skb, &f, true)) {
	case CARRY:
		mark(skb, &f);
		return SOCKET_NONE;
	case LOSE:
		say(skb, NOBODYS);
		return SOCKET_NONE;
	case TO_SWITCH:
		say(skb, OURS);
		return SOCKET_ALL;
	case NO_FLOW:
		break;
	}
	whose = classify(skb, ETH_HLEN);
	say(skb, whose);
	if (!wanted(whose))
		return SOCKET_NONE;
	count(skb);
	return SOCKET_ALL;
}

SEC("socket")
int vsw_filter_bare(struct __sk_buff *skb)
{
	return wanted(classify(skb, ETH_HLEN)) ? SOCKET_ALL : SOCKET_NONE;
}

SEC("socket")
int vsw_filter_ip(struct __sk_buff *skb)
{
	return wanted(classify(skb, 0)) ? SOCKET_ALL : SOCKET_NONE;
}

/*
 * enter, socket filter of the uplink's AF_PACKET socket, goes on with filter. A socket pays
 * for the length of its own program only, and may have 20 KiB until Linux 6.7
 * (net.core.optmem_max).
 */
SEC("socket")
int vsw_enter(struct __sk_buff *skb)
{
	jump(skb);
	return SOCKET_NONE;
}

/*
 * shield, tc ingress of an uplink, drops what is ours, and executes what filter has decided.
 * Later fragments whose first one has not come pass, for they may be the host's; of ours
 * the host misses the first one, so it neither completes the packet nor answers (RFC 792:
 * time exceeded needs fragment zero). While nobody is there shield finds flows itself; what
 * is ours and in none is dropped, and not refused: its sender tries again.
 */
static __always_inline bool may_be(enum whose whose)
{
	return whose == OURS || whose == SOCKETS;
}

static __always_inline int keep(enum whose whose)
{
	switch (whose) {
	case NOBODYS:
	case OURS:
	case SURE:
	case SOCKETS:
		return TC_ACT_SHOT;
	default:
		return TC_ACT_UNSPEC;
	}
}

SEC("tc")
int vsw_shield(struct __sk_buff *skb)
{
	struct flow_entry *row = NULL;
	struct station_row *to = NULL;
	enum whose whose = heard(skb, &row, &to);

	if (whose == UNKNOWN) {
		if (skb->pkt_type <= PACKET_MULTICAST)
			row = alone_uplink(skb);
		if (!row)
			whose = classify(skb, ETH_HLEN);
	}
	if (row)
		return contested(row) && asks(skb, OURS) == THEIRS ? TC_ACT_UNSPEC : execute(skb, row);
	return keep(may_be(whose) ? asks(skb, whose) : whose);
}

SEC("tc")
int vsw_shield_bare(struct __sk_buff *skb)
{
	enum whose whose = classify(skb, ETH_HLEN);

	return keep(may_be(whose) ? asks(skb, whose) : whose);
}

SEC("tc")
int vsw_shield_ip(struct __sk_buff *skb)
{
	enum whose whose = classify(skb, 0);

	return keep(may_be(whose) ? asks_ip(skb, whose) : whose);
}

/*
 * steer, sk_lookup of the namespace: the host's own connections to published ports reach
 * the sockets of the relay.
 */
SEC("sk_lookup")
int vsw_steer(struct bpf_sk_lookup *ctx)
{
	steer(ctx);
	return SK_PASS;
}

/*
 * created, bound4, bound6 and released, of a cgroup: which UDP ports programs of the host hold, which TCP
 * ports they bind, and that they open a socket for packets without ports. They refuse nothing.
 */
SEC("cgroup/sock_create")
int vsw_created(struct bpf_sock *sk)
{
	created(sk);
	return 1;
}

SEC("cgroup/post_bind4")
int vsw_bound4(struct bpf_sock *sk)
{
	bound_at(sk, loopback4(sk->src_ip4) ? 0 : FAMILY4);
	return 1;
}

SEC("cgroup/post_bind6")
int vsw_bound6(struct bpf_sock *sk)
{
	__be32 addr[4] = {sk->src_ip6[0], sk->src_ip6[1], sk->src_ip6[2], sk->src_ip6[3]};

	bound_at(sk, families6(addr));
	return 1;
}

SEC("cgroup/sock_release")
int vsw_released(struct bpf_sock *sk)
{
	released(sk);
	return 1;
}

/* clock tells the jiffies, in a test run: how many a second has is known to nobody else. */
SEC("tc")
int vsw_clock(struct __sk_buff *skb)
{
	return (int)bpf_jiffies64();
}
