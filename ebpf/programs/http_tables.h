/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What the program on HTTP keeps: sums by kind of transaction, texts of routes, the state of each connection. */
#pragma once
#include "packet.h"
#include "task.h"
#include "histogram.h"
#include "sums.h"
#include "http_parse.h"

enum lost_reason { LOST_TABLE_FULL, LOST_PIPELINE, LOST_UNMATCHED, LOST_GAP, LOST_STORAGE, LOST_ROUTE_FULL, LOST_CONTENDED };

#define WINDOW 256
#define QUEUE 32
#define MAX_STEPS 4096
#define MAX_SPINS 4096
#define EARLY_MAX (4 << 20)
/* Different method, route and status per service; what comes beyond is counted under the route 0. */
#define MAX_SERVICE_ENTRIES 1024

enum role { ROLE_SERVER, ROLE_CLIENT };

/* Mirrored by `RawKey` in src/http.rs. */
struct http_key {
	u64 unified_cgroup;
	u64 memory_cgroup;
	u64 route; /* 0: other */
	struct address peer; /* of a client: whom it asks; of a server: zero */
	u16 port; /* of the server */
	u16 status; /* 0: no answer */
	u8 role;
	u8 method;
	u16 pad;
};

/* Mirrored by `RawValue` in src/http.rs. */
struct http_value {
	u64 count;
	u64 latency_ns;
	u64 request_bytes;
	u64 response_bytes;
	u32 tgid;
	u32 pad;
	u32 buckets[BUCKETS];
};

SUMS_TABLE(TRANSACTIONS, struct http_key, struct http_value, 16384, BPF_F_NO_PREALLOC)

struct service {
	u64 unified_cgroup;
	u64 memory_cgroup;
	struct address peer;
	u16 port;
	u8 role;
	u8 pad[5];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct service);
	__type(value, u64); /* entries in TRANSACTIONS */
} SERVICES SEC(".maps");

/* The value is mirrored by `RawRoute` in src/http.rs. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, u64);
	__type(value, struct http_route);
} ROUTES SEC(".maps");

struct request {
	u64 began_ns;
	u64 route; /* the lowest four bits are the method */
};

#define METHOD_MASK 15ULL

struct window {
	u8 bytes[WINDOW + 8];
};

/* The first head of a packet that leaves, if it begins with the packet. */
enum head_read { HEAD_NONE, HEAD_BEGUN, HEAD_TOLD };

struct direction {
	struct http_stream stream;
	u64 began_ns;
	u64 now_ns; /* of the packet at hand, CLOCK_MONOTONIC; 0: not known yet */
	u32 next_seq;
	u32 known; /* whether next_seq is */
	/* of the packet at hand */
	u32 payload; /* offset in the packet */
	u32 len;
	u32 at;
	u32 start, end; /* what of the payload is in the window */
	u32 busy;
	struct window window;
	/* What came ahead of its time: where it is in the stream, up to where it goes, and how it begins. */
	u32 early_seq;
	u32 early_len;
	u32 early_have;
	u32 head; /* enum head_read, of the packet at hand */
	struct window early;
};

struct connection {
	/*
	 * What both directions touch, which may be on two CPUs: together in 56 bytes, which with the eight that the kernel has
	 * before them are one cache line. What waits for an answer alone is in `first`, so that without pipelining the line
	 * is all that goes back and forth.
	 */
	u32 head, tail; /* requests seen, answered */
	u64 request_bytes, request_bytes_told; /* one writer each, so that they need not be atomic */
	struct request first;
	u32 first_at; /* which request it is */
	u32 tgid;
	u8 role;
	u8 counted;	/* whether there is a last transaction, which `key` is that of */
	u8 interim;	/* the answer at hand is not the final one */
	u8 preface;	/* HTTP/2, not counted yet: whose it is will be known when it is answered */
	u8 route_told;	/* whether ROUTES has the route at hand */
	u8 answers_lost; /* the answering direction is not followed */
	u8 pad[2];
	/* Of the direction that asks. */
	struct http_route route;
	/* Of the direction that answers. */
	struct http_key key;
	u64 response_bytes, response_bytes_told;
	struct direction directions[2]; /* ingress, egress */
	struct request queue[QUEUE];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connection);
} CONNECTIONS SEC(".maps");

/* What tells a packet from the others that are under way: of one connection no two have the same. */
struct packet_id {
	u32 seq;
	u32 ack;
	u32 ports;
	u32 len; /* of the payload */
};

/*
 * The head of a message that this CPU read last as it left. Between two processes of one machine a packet that is sent is
 * received a moment later, mostly on the same CPU: it need not be read twice.
 */
struct head {
	struct packet_id id;
	u64 sent_ns;
	u32 len;
	u32 response;
	struct http_stream stream;
	struct http_route route;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct head);
} LAST_HEAD SEC(".maps");

/* Whether ROUTES has the text. */
static __always_inline bool tell_route(struct http_route *r)
{
	u64 hash = r->hash & ~METHOD_MASK;

	if (bpf_map_lookup_elem(&ROUTES, &hash) || !bpf_map_update_elem(&ROUTES, &hash, r, BPF_ANY))
		return true;
	lost(LOST_ROUTE_FULL);
	return false;
}

static __always_inline struct http_value *entry_of(struct connection *c, struct http_key *key)
{
	struct http_value *value = bpf_map_lookup_elem(&TRANSACTIONS, key);
	struct service service;
	u64 one = 1, *entries;

	if (value)
		return value;
	/* Its text is told when a route is new and not with every request. */
	if (key->route && key->route == (c->route.hash & ~METHOD_MASK) && !c->route_told && !tell_route(&c->route))
		key->route = 0;
	ZERO(service);
	service.unified_cgroup = key->unified_cgroup;
	service.memory_cgroup = key->memory_cgroup;
	service.peer = key->peer;
	service.port = key->port;
	service.role = key->role;
	entries = bpf_map_lookup_elem(&SERVICES, &service);
	if (!entries)
		bpf_map_update_elem(&SERVICES, &service, &one, BPF_ANY);
	else if (*entries < MAX_SERVICE_ENTRIES)
		__sync_fetch_and_add(entries, 1);
	else
		key->route = 0;
	value = TRANSACTIONS_entry(key);
	if (!value) {
		key->route = 0;
		value = TRANSACTIONS_entry(key);
	}
	if (!value)
		lost(LOST_TABLE_FULL);
	return value;
}

static __always_inline void tell_bytes(u64 *sum, volatile u64 *seen, u64 *told)
{
	u64 now = *seen;

	__sync_fetch_and_add(sum, now - *told);
	*told = now;
}

/* Counts a transaction; the connection remembers under which key. */
static __always_inline void account(struct connection *c, u64 route, u16 status, u64 latency_ns)
{
	struct http_value *value;

	c->key.route = route & ~METHOD_MASK;
	c->key.status = status;
	c->key.method = route & METHOD_MASK;
	c->counted = 1;
	value = entry_of(c, &c->key);
	if (!value)
		return;
	__sync_fetch_and_add(&value->count, 1);
	tell_bytes(&value->request_bytes, &c->request_bytes, &c->request_bytes_told);
	tell_bytes(&value->response_bytes, &c->response_bytes, &c->response_bytes_told);
	c->interim = 0;
	if (c->tgid)
		value->tgid = c->tgid;
	if (!status)
		return;
	__sync_fetch_and_add(&value->latency_ns, latency_ns);
	__sync_fetch_and_add(&value->buckets[bucket_of(latency_ns)], 1);
}

static __always_inline u64 time_of(struct direction *d)
{
	if (!d->now_ns)
		d->now_ns = bpf_ktime_get_ns();
	return d->now_ns;
}

static __always_inline s32 outstanding(struct connection *c)
{
	return c->head - c->tail;
}

static __always_inline void request_begins(struct connection *c, struct direction *d)
{
	struct request *q = &c->queue[c->head & (QUEUE - 1)];

	/* Answers were missed, nobody knows how many: what waits for one would get a wrong one. */
	if (c->answers_lost && outstanding(c) > 0) {
		lost(LOST_GAP);
		c->tail = c->head;
	}
	if (outstanding(c) >= QUEUE) {
		struct direction *answers = &c->directions[c->role == ROLE_SERVER ? 1 : 0];

		if (!answers->early_len) {
			lost(LOST_PIPELINE);
			c->directions[0].stream.state = c->directions[1].stream.state = HTTP_OPAQUE;
			return;
		}
		/* What it waits for will not come any more. */
		lost(LOST_GAP);
		answers->early_len = answers->known = 0;
		answers->stream.state = HTTP_LOST;
		c->tail = c->head;
	}
	if (outstanding(c) <= 0) {
		c->first_at = c->tail = c->head;
		q = &c->first;
	}
	q->began_ns = d->began_ns;
	q->route = (c->route.hash & ~METHOD_MASK) | d->stream.method;
	c->route_told = 0;
	c->head++;
}

/* The request that is answered next; only if there is one. */
static __always_inline struct request *take_request(struct connection *c)
{
	u32 at = c->tail++;

	return at == c->first_at ? &c->first : &c->queue[at & (QUEUE - 1)];
}

static __always_inline void response_begins(struct connection *c, struct direction *d)
{
	struct http_stream *s = &d->stream;
	struct request *q;
	s64 took_ns;
	u8 method;

	s->no_body = s->status < 200 || s->status == 204 || s->status == 304;
	s->opaque = 0;
	if (s->status < 200 && s->status != 101) {
		c->interim = 1;
		return;
	}
	if (outstanding(c) <= 0) {
		lost(LOST_UNMATCHED);
		return;
	}
	q = take_request(c);
	method = q->route & METHOD_MASK;
	s->no_body |= method == HTTP_HEAD;
	s->opaque = s->status == 101 || (method == HTTP_CONNECT && s->status < 300);
	if (s->opaque) {
		c->directions[0].stream.opaque = c->directions[1].stream.opaque = 1;
		c->directions[c->role == ROLE_SERVER ? 0 : 1].stream.state = HTTP_OPAQUE;
	} else if (method == HTTP_CONNECT) {
		c->directions[c->role == ROLE_SERVER ? 0 : 1].stream.state = HTTP_LOST;
	}
	took_ns = time_of(d) - q->began_ns;
	account(c, q->route, s->status, took_ns > 0 ? took_ns : 0);
}
