/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * TCP connections by who talks to whom: connects and how they failed, retransmissions, round-trip times, bytes.
 *
 * State changes and retransmissions are told by the kernel; nothing runs per packet. A connection's round-trip time and bytes
 * are taken when it is established, when it ends, and of those that live by a pass over all sockets.
 */
#include "packet.h"
#include "task.h"
#include "histogram.h"
#include "sums.h"

char LICENSE[] SEC("license") = "GPL";

enum lost_reason { LOST_FLOW, LOST_STORAGE, LOST_FAILURE };

#define AF_INET 2
#define AF_INET6 10
#define ECONNREFUSED 111
#define ETIMEDOUT 110
#define ENETUNREACH 101
#define EHOSTUNREACH 113

/* net/tcp_states.h */
enum tcp_state { TCP_ESTABLISHED = 1, TCP_SYN_SENT = 2, TCP_SYN_RECV = 3, TCP_CLOSE = 7 };

struct in6_addr___kernel {
	u8 bytes[16];
};

struct sock_common {
	u32 skc_daddr;
	u16 skc_dport;
	u16 skc_num;
	unsigned short skc_family;
	struct in6_addr___kernel skc_v6_daddr;
} CORE;

struct sock_cgroup_data {
	struct cgroup *cgroup;
} CORE;

struct sock {
	struct sock_common __sk_common;
	int sk_err;
	u16 sk_protocol;
	struct sock_cgroup_data sk_cgrp_data;
} CORE;

struct tcp_sock {
	u32 srtt_us; /* shifted left by three */
	u64 bytes_acked;
	u64 bytes_received;
} CORE;

enum side { SIDE_SERVER, SIDE_CLIENT, SIDE_UNKNOWN };

/* Mirrored by `RawFlow` in src/net.rs. */
struct flow {
	u64 unified_cgroup;
	u64 memory_cgroup;
	struct address peer;
	u16 port; /* of the server */
	u8 side;
	u8 pad[5];
};

enum failure { REFUSED, TIMED_OUT, UNREACHABLE, ABANDONED, OTHER, FAILURES };

/* Mirrored by `RawSums` in src/net.rs. */
struct sums {
	u64 established;
	u64 failures[FAILURES];
	u64 retransmits;
	u64 bytes_sent;
	u64 bytes_received;
	u64 rtt_count;
	u64 rtt_us;
	u64 connect_ns;
	u32 tgid;
	u32 pad;
	u32 rtt[BUCKETS];
};

SUMS_TABLE(FLOWS, struct flow, struct sums, 16384, BPF_F_NO_PREALLOC)

struct connection {
	struct flow flow;
	u64 began_ns;
	u64 sampled_ns;
	u64 bytes_sent; /* told so far */
	u64 bytes_received;
	u32 tgid;
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connection);
} CONNECTIONS SEC(".maps");

/* Mirrored by `RawFailure` in src/net.rs. */
struct failed_connect {
	u64 boot_ns;
	u64 took_ns;
	struct flow flow;
	u32 tgid;
	s32 error;
	char comm[COMM_LEN]; /* empty if the process is not known */
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} FAILED SEC(".maps");

/* Of a flow; when the table is full, of all that found no place. */
static __always_inline struct sums *sums_of(struct connection *c)
{
	struct sums *sums = FLOWS_entry(&c->flow);

	if (!sums) {
		lost(LOST_FLOW);
		ZERO(c->flow);
		sums = FLOWS_entry(&c->flow);
	}
	if (sums && c->tgid)
		sums->tgid = c->tgid;
	return sums;
}

static __always_inline void describe(struct connection *c, struct sock *sk, u8 side)
{
	struct sock_common *common = &sk->__sk_common;

	c->flow.side = side;
	c->flow.unified_cgroup = BPF_CORE_READ(sk, sk_cgrp_data.cgroup, kn, id);
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == AF_INET)
		address_v4(&c->flow.peer, BPF_CORE_READ(sk, __sk_common.skc_daddr));
	else
		bpf_core_read(&c->flow.peer, sizeof(c->flow.peer), &common->skc_v6_daddr);
	if (side == SIDE_UNKNOWN)
		return;
	c->flow.port = side == SIDE_CLIENT ? bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport))
					    : BPF_CORE_READ(sk, __sk_common.skc_num);
}

static __always_inline void sample(struct connection *c, struct sums *sums, struct sock *sk)
{
	struct tcp_sock *tcp = (struct tcp_sock *)sk;
	u64 rtt_us = BPF_CORE_READ(tcp, srtt_us) >> 3, sent = BPF_CORE_READ(tcp, bytes_acked),
	    received = BPF_CORE_READ(tcp, bytes_received);

	/* The SYN counts as a byte for the kernel. */
	if (sent)
		sent--;
	if (sent > c->bytes_sent)
		__sync_fetch_and_add(&sums->bytes_sent, sent - c->bytes_sent);
	if (received > c->bytes_received)
		__sync_fetch_and_add(&sums->bytes_received, received - c->bytes_received);
	c->bytes_sent = sent;
	c->bytes_received = received;
	if (!rtt_us)
		return;
	__sync_fetch_and_add(&sums->rtt_count, 1);
	__sync_fetch_and_add(&sums->rtt_us, rtt_us);
	__sync_fetch_and_add(&sums->rtt[bucket_of(rtt_us * 1000)], 1);
}

static __always_inline u32 failure_of(int error)
{
	switch (error) {
	case 0:
		return ABANDONED; /* closed by its own process before an answer came */
	case ECONNREFUSED:
		return REFUSED;
	case ETIMEDOUT:
		return TIMED_OUT;
	case ENETUNREACH:
	case EHOSTUNREACH:
		return UNREACHABLE;
	}
	return OTHER;
}

static __always_inline void failed(struct connection *c, struct sock *sk)
{
	struct failed_connect *e;
	struct task_struct *task = bpf_get_current_task_btf();
	struct sums *sums = sums_of(c);
	int error = sk->sk_err;
	u64 took_ns = bpf_ktime_get_ns() - c->began_ns;

	if (sums) {
		switch (failure_of(error)) {
		case REFUSED:
			__sync_fetch_and_add(&sums->failures[REFUSED], 1);
			break;
		case TIMED_OUT:
			__sync_fetch_and_add(&sums->failures[TIMED_OUT], 1);
			break;
		case UNREACHABLE:
			__sync_fetch_and_add(&sums->failures[UNREACHABLE], 1);
			break;
		case ABANDONED:
			__sync_fetch_and_add(&sums->failures[ABANDONED], 1);
			break;
		default:
			__sync_fetch_and_add(&sums->failures[OTHER], 1);
		}
	}
	e = bpf_ringbuf_reserve(&FAILED, sizeof(*e), 0);
	if (!e) {
		lost(LOST_FAILURE);
		return;
	}
	e->boot_ns = bpf_ktime_get_boot_ns();
	e->took_ns = took_ns;
	e->flow = c->flow;
	e->tgid = c->tgid;
	e->error = error;
	e->comm[0] = 0;
	if (task->tgid == c->tgid)
		read_comm(e->comm, task);
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

SEC("tp_btf/inet_sock_set_state") int tcp_state(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	int from = ctx[1], to = ctx[2];
	struct connection *c;
	struct sums *sums;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (to == TCP_SYN_SENT || (from == TCP_SYN_RECV && to == TCP_ESTABLISHED)) {
		c = bpf_sk_storage_get(&CONNECTIONS, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (!c) {
			lost(LOST_STORAGE);
			return 0;
		}
		__builtin_memset(c, 0, sizeof(*c));
		describe(c, sk, to == TCP_SYN_SENT ? SIDE_CLIENT : SIDE_SERVER);
		c->began_ns = bpf_ktime_get_ns();
		if (to == TCP_SYN_SENT) {
			/* connect(2) runs in the process that asks */
			struct task_struct *task = bpf_get_current_task_btf();

			c->tgid = task->tgid;
			c->flow.memory_cgroup = memory_cgroup_id(task);
			return 0;
		}
	} else {
		c = bpf_sk_storage_get(&CONNECTIONS, sk, 0, 0);
		if (!c)
			return 0;
	}
	if (to == TCP_ESTABLISHED) {
		sums = sums_of(c);
		if (!sums)
			return 0;
		__sync_fetch_and_add(&sums->established, 1);
		__sync_fetch_and_add(&sums->connect_ns, bpf_ktime_get_ns() - c->began_ns);
		sample(c, sums, sk);
	} else if (from == TCP_SYN_SENT && to == TCP_CLOSE) {
		failed(c, sk);
	} else if (to == TCP_CLOSE) {
		sums = sums_of(c);
		if (sums)
			sample(c, sums, sk);
	}
	return 0;
}

SEC("tp_btf/tcp_retransmit_skb") int tcp_retransmit(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	struct connection *c = bpf_sk_storage_get(&CONNECTIONS, sk, 0, 0), before = {};
	struct sums *sums;

	if (!c) {
		/* It was there before the program: which end asked cannot be seen any more. */
		c = &before;
		describe(c, sk, SIDE_UNKNOWN);
	}
	sums = sums_of(c);
	if (sums)
		__sync_fetch_and_add(&sums->retransmits, 1);
	return 0;
}

#define SAMPLE_NS 1000000000ULL

/* A process has read from a socket: of connections that live long, once a second is enough. */
SEC("tp_btf/tcp_rcv_space_adjust") int tcp_received(u64 *ctx)
{
	struct sock *sk = (void *)ctx[0];
	struct connection *c = bpf_sk_storage_get(&CONNECTIONS, sk, 0, 0);
	u64 now = bpf_ktime_get_ns();
	struct sums *sums;

	if (!c || now - c->sampled_ns < SAMPLE_NS)
		return 0;
	/* The first second is told when it is over, or with the connection's end. */
	if (c->sampled_ns) {
		sums = sums_of(c);
		if (sums)
			sample(c, sums, sk);
	}
	c->sampled_ns = now;
	return 0;
}
