/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * DNS over UDP as clients see it: how each query was answered and how long it took.
 *
 * A query waits in a table by socket and id until its answer comes. User space takes out those that wait for too long.
 */
#include "packet.h"
#include "task.h"
#include "histogram.h"
#include "sums.h"

#include <linux/udp.h>

char LICENSE[] SEC("license") = "GPL";

enum lost_reason { LOST_TABLE_FULL, LOST_PENDING_FULL, LOST_FAILURE };

#define DNS_PORT 53
/* RFC 1035, 4.1.1; network order */
struct dns_header {
	u16 id;
	u8 flags;
	u8 rcode;
	u16 questions;
	u16 answers;
	u16 authorities;
	u16 additional;
};
#define DNS_RESPONSE 0x80
#define DNS_OPCODE 0x78
#define DNS_RCODE 0x0f
/* How much of the question is kept, as it is in the message; user space reads it. */
#define QUESTION_LEN 72

/* Mirrored by `RawKey` in src/dns.rs. */
struct dns_key {
	u64 unified_cgroup;
	u64 memory_cgroup;
	struct address server;
	u8 rcode;
	u8 pad[7];
};

/* Mirrored by `RawSums` in src/dns.rs. */
struct dns_sums {
	u64 count;
	u64 latency_ns;
	u32 tgid;
	u32 pad;
	u32 buckets[BUCKETS];
};

SUMS_TABLE(ANSWERS, struct dns_key, struct dns_sums, 8192, BPF_F_NO_PREALLOC)

/* Mirrored by `RawPendingKey` in src/dns.rs. */
struct pending_key {
	u64 cookie;
	u16 id;
	u16 pad[3];
};

/* Mirrored by `RawPending` in src/dns.rs. */
struct pending {
	u64 began_ns; /* CLOCK_BOOTTIME */
	struct dns_key key;
	u32 tgid;
	u32 question_len;
	u8 question[QUESTION_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 8192);
	__type(key, struct pending_key);
	__type(value, struct pending);
} PENDING SEC(".maps");

/* Mirrored by `RawFailure` in src/dns.rs. */
struct failed_query {
	u64 boot_ns;
	u64 took_ns;
	struct pending query;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 18);
} FAILED SEC(".maps");

/* Whether there is a message with one question, as all have. */
static __always_inline bool read_header(struct __sk_buff *skb, u32 offset, struct dns_header *h)
{
	return !bpf_skb_load_bytes(skb, offset, h, sizeof(*h)) && !(h->flags & DNS_OPCODE) && h->questions == bpf_htons(1);
}

/* Offset of the payload if the packet is UDP from or to port 53, else 0. */
static __always_inline u32 dns_offset(struct __sk_buff *skb, bool egress, struct address *server)
{
	u32 offset = transport_offset(skb, IPPROTO_UDP, server, egress);
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct udphdr *udp;

	if (!offset || offset > 60)
		return 0;
	udp = data + offset;
	if ((void *)(udp + 1) > end)
		return 0;
	if ((egress ? udp->dest : udp->source) != bpf_htons(DNS_PORT))
		return 0;
	return offset + sizeof(*udp);
}

SEC("cgroup_skb/egress") int dns_egress(struct __sk_buff *skb)
{
	struct task_struct *task;
	struct pending_key key;
	struct dns_header h;
	struct pending p;
	u64 n;
	u32 offset;

	ZERO(p);
	ZERO(key);
	offset = dns_offset(skb, true, &p.key.server);
	if (!offset || !read_header(skb, offset, &h) || h.flags & DNS_RESPONSE)
		return 1;
	key.cookie = bpf_get_socket_cookie(skb);
	key.id = h.id;
	/* The same query once more: its time counts from the first one. */
	if (bpf_map_lookup_elem(&PENDING, &key))
		return 1;
	p.began_ns = bpf_ktime_get_boot_ns();
	p.key.unified_cgroup = bpf_skb_cgroup_id(skb);
	task = bpf_get_current_task_btf();
	if (task->mm) {
		/* A datagram goes out in the context of the process that sends it. */
		p.tgid = task->tgid;
		p.key.memory_cgroup = memory_cgroup_id(task);
		p.key.unified_cgroup = unified_cgroup_id(task);
	}
	offset += sizeof(h);
	n = skb->len > offset ? skb->len - offset : 0;
	if (n > QUESTION_LEN)
		n = QUESTION_LEN;
	asm volatile("" : "+r"(n)); /* the bound below must be that of the register that is used */
	if (n > 0 && n <= QUESTION_LEN && !bpf_skb_load_bytes(skb, offset, p.question, n))
		p.question_len = n;
	if (bpf_map_update_elem(&PENDING, &key, &p, BPF_ANY))
		lost(LOST_PENDING_FULL);
	return 1;
}

SEC("cgroup_skb/ingress") int dns_ingress(struct __sk_buff *skb)
{
	struct dns_header h;
	struct pending_key key;
	struct failed_query *e;
	struct dns_sums *sums;
	struct pending *p;
	u64 took_ns, now;
	u32 offset;

	ZERO(key);
	offset = dns_offset(skb, false, 0);
	if (!offset || !read_header(skb, offset, &h) || !(h.flags & DNS_RESPONSE))
		return 1;
	key.cookie = bpf_get_socket_cookie(skb);
	key.id = h.id;
	p = bpf_map_lookup_elem(&PENDING, &key);
	if (!p)
		return 1; /* not asked, or answered already */
	now = bpf_ktime_get_boot_ns();
	took_ns = now - p->began_ns;
	p->key.rcode = h.rcode & DNS_RCODE;
	sums = ANSWERS_entry(&p->key);
	if (sums) {
		__sync_fetch_and_add(&sums->count, 1);
		__sync_fetch_and_add(&sums->latency_ns, took_ns);
		__sync_fetch_and_add(&sums->buckets[bucket_of(took_ns)], 1);
		if (p->tgid)
			sums->tgid = p->tgid;
	} else {
		lost(LOST_TABLE_FULL);
	}
	if (h.rcode & DNS_RCODE) {
		e = bpf_ringbuf_reserve(&FAILED, sizeof(*e), 0);
		if (e) {
			e->boot_ns = now;
			e->took_ns = took_ns;
			e->query = *p;
			bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
		} else {
			lost(LOST_FAILURE);
		}
	}
	bpf_map_delete_elem(&PENDING, &key);
	return 1;
}
