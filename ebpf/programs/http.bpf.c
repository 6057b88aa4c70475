/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * HTTP/1.x transactions of every socket below a cgroup, server and client side, aggregated in the kernel.
 *
 * The programs see packets as the socket sends and receives them, so it does not matter by which system call, by sendfile
 * or by io_uring the bytes go. Each connection that carries HTTP has its parser state in storage of its own on the socket.
 * TLS is not looked into; HTTP/2 and tunnels are counted and their bytes summed.
 */
#include "packet.h"
#include "task.h"
#include "histogram.h"

#include <linux/tcp.h>

#define HTTP_INLINE static __always_inline
#include "http_parse.h"

char LICENSE[] SEC("license") = "GPL";

enum lost_reason { LOST_TABLE_FULL, LOST_PIPELINE, LOST_UNMATCHED, LOST_GAP, LOST_STORAGE, LOST_ROUTE_FULL, LOST_CONTENDED };

#define WINDOW 256
#define QUEUE 32
#define MAX_STEPS 4096
#define MAX_SPINS 4096
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

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16384);
	__type(key, struct http_key);
	__type(value, struct http_value);
} TRANSACTIONS SEC(".maps");

/* Always zero: what an entry begins with. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct http_value);
} BLANK SEC(".maps");

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
	u64 route;
	u8 method;
	u8 pad[7];
};

struct window {
	u8 bytes[WINDOW + 8];
};

struct direction {
	struct http_stream stream;
	u64 began_ns;
	u32 next_seq;
	u32 known; /* whether next_seq is */
	/* of the packet at hand */
	u32 payload; /* offset in the packet */
	u32 len;
	u32 at;
	u32 start, end; /* what of the payload is in the window */
	u32 busy;
	struct window window;
	/* A packet that came ahead of its time: where it is in the stream, its length, and how it begins. */
	u32 early_seq;
	u32 early_len;
	struct window early;
};

struct connection {
	struct direction directions[2]; /* ingress, egress */
	struct http_route route;
	struct request queue[QUEUE];
	u32 head, tail;
	/* Each has one writer, so that they need not be atomic: what came by, and what of it was given to a transaction. */
	u64 request_bytes, request_bytes_told;
	u64 response_bytes, response_bytes_told;
	struct http_key key; /* of the last one */
	u8 role;
	u8 counted; /* whether there is a last one */
	u8 interim;
	u8 route_told; /* whether ROUTES has the route at hand */
	u8 pad[7];
	u8 preface; /* HTTP/2, not counted yet: whose it is will be known when it is answered */
	u32 tgid;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct connection);
} CONNECTIONS SEC(".maps");

static __always_inline struct http_value *new_entry(struct http_key *key)
{
	u32 zero = 0;
	struct http_value *blank = bpf_map_lookup_elem(&BLANK, &zero);

	if (blank)
		bpf_map_update_elem(&TRANSACTIONS, key, blank, BPF_NOEXIST);
	/* Another CPU may have been faster. */
	return bpf_map_lookup_elem(&TRANSACTIONS, key);
}

/* Whether ROUTES has the text. */
static __always_inline bool tell_route(struct http_route *r)
{
	u64 hash = r->hash;

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
	if (key->route && key->route == c->route.hash && !c->route_told && !tell_route(&c->route))
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
	value = new_entry(key);
	if (!value) {
		key->route = 0;
		value = new_entry(key);
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
static __always_inline void account(struct connection *c, u8 method, u64 route, u16 status, u64 latency_ns)
{
	struct http_value *value;

	c->key.route = route;
	c->key.status = status;
	c->key.method = method;
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

static __always_inline void request_begins(struct connection *c, struct direction *d)
{
	struct request *q;

	/* Answers were missed, nobody knows how many: what waits for one would get a wrong one. */
	if (c->directions[c->role == ROLE_SERVER ? 1 : 0].stream.state == HTTP_LOST && c->head != c->tail) {
		lost(LOST_GAP);
		c->tail = c->head;
	}
	if (c->head - c->tail >= QUEUE) {
		lost(LOST_PIPELINE);
		c->directions[0].stream.state = c->directions[1].stream.state = HTTP_OPAQUE;
		return;
	}
	q = &c->queue[c->head & (QUEUE - 1)];
	q->began_ns = d->began_ns;
	q->method = d->stream.method;
	q->route = c->route.hash;
	c->route_told = 0;
	c->head++;
}

static __always_inline void response_begins(struct connection *c, struct direction *d)
{
	struct http_stream *s = &d->stream;
	struct request *q;

	s->no_body = s->status < 200 || s->status == 204 || s->status == 304;
	s->opaque = 0;
	if (s->status < 200 && s->status != 101) {
		c->interim = 1;
		return;
	}
	if (c->head == c->tail) {
		lost(LOST_UNMATCHED);
		return;
	}
	q = &c->queue[c->tail & (QUEUE - 1)];
	c->tail++;
	s->no_body |= q->method == HTTP_HEAD;
	s->opaque = s->status == 101 || (q->method == HTTP_CONNECT && s->status < 300);
	if (s->opaque) {
		c->directions[0].stream.opaque = c->directions[1].stream.opaque = 1;
		c->directions[c->role == ROLE_SERVER ? 0 : 1].stream.state = HTTP_OPAQUE;
	} else if (q->method == HTTP_CONNECT) {
		c->directions[c->role == ROLE_SERVER ? 0 : 1].stream.state = HTTP_LOST;
	}
	account(c, q->method, q->route, s->status, bpf_ktime_get_ns() - q->began_ns);
}

/* The loop's variables are in the connection and not on the stack: the verifier need not know their values. */
struct loop {
	struct __sk_buff *skb;
	struct connection *connection;
	u32 egress;
	u32 early; /* whether it is the packet that was kept */
};

struct step {
	u32 at, have, rest, response, more;
};

/* A function of its own, not static: the verifier looks at it once, whatever calls it. */
__attribute__((noinline)) int parse(struct http_stream *s, struct http_route *r, struct window *w, struct step *step)
{
	u32 used = 0;
	int event;

	if (!s || !r || !w || !step)
		return HTTP_NONE;
	event = http_step(s, r, step->response, w->bytes, WINDOW - 1, step->at, step->have, step->rest, &used);
	step->at += used;
	step->have -= used;
	step->rest -= used;
	/* Whether to go on: not if the window is used up, and what begins a request is for the caller to note. */
	step->more = event == HTTP_NONE && (s32)step->have > 0 && s->state != HTTP_START;
	return event;
}

static long parse_step(u32 index, struct loop *loop)
{
	struct connection *c = loop->connection;
	struct direction *d = &c->directions[loop->egress & 1];
	int response = (c->role == ROLE_SERVER) == (loop->egress & 1);
	u32 at = d->at, len = d->len;
	struct window *window = &d->window;
	struct step step;
	int event = HTTP_NONE;

	if (at >= len)
		return 1;
	if (loop->early) {
		if (at >= d->end)
			return 1; /* more of it than was kept */
		window = &d->early;
	} else if (at >= d->end) {
		u64 n = (u32)(len - at);

		if (n > WINDOW)
			n = WINDOW;
		asm volatile("" : "+r"(n)); /* the bound below must be that of the register that is used */
		if (n == 0 || n > WINDOW)
			return 1;
		if (bpf_skb_load_bytes(loop->skb, d->payload + at, d->window.bytes, n))
			return 1;
		d->start = at;
		d->end = at + n;
	}
	if (!response && d->stream.state == HTTP_START) {
		d->began_ns = bpf_ktime_get_ns();
		/* The route of a request that still waits is about to be overwritten. */
		if (c->head != c->tail && !c->route_told)
			c->route_told = tell_route(&c->route);
	}
	step.at = at - d->start;
	step.have = d->end - at;
	step.rest = len - at;
	step.response = response;
	for (int i = 0; i < 8; i++) {
		event = parse(&d->stream, &c->route, window, &step);
		if (!step.more)
			break;
	}
	if (event == HTTP_REQUEST) {
		request_begins(c, d);
	} else if (event == HTTP_RESPONSE) {
		response_begins(c, d);
	} else if (event == HTTP_PREFACE) {
		c->directions[0].stream.state = c->directions[1].stream.state = HTTP_OPAQUE;
		c->preface = 1;
	}
	d->at = len - step.rest;
	return 0;
}

/* Requests that will not be answered any more. */
static long unanswered_step(u32 index, struct loop *loop)
{
	struct connection *c = loop->connection;
	struct request *q;

	if (c->head == c->tail)
		return 1;
	q = &c->queue[c->tail & (QUEUE - 1)];
	c->tail++;
	account(c, q->method, q->route, 0, 0);
	return 0;
}

static __always_inline u32 first_bytes(struct __sk_buff *skb, u32 offset, u32 len)
{
	u32 first = 0;

	if (len < 4 || bpf_skb_load_bytes(skb, offset, &first, 4))
		return 0;
	return bpf_ntohl(first);
}

/* A packet that no connection is known for: whether it begins one of HTTP. Only a request does. */
static __always_inline bool is_request(struct __sk_buff *skb, u32 offset, u32 len)
{
	u8 first = 0;

	if (len >= 4)
		return http_begins(first_bytes(skb, offset, len), 0);
	return len && !bpf_skb_load_bytes(skb, offset, &first, 1) && first >= 'A' && first <= 'Z';
}

/*
 * Who sends: true of the first packet of a connection, which goes out in the context of the process that writes. Where the
 * memory controller is in a hierarchy of its own this is the only way from a socket to a container.
 */
static __always_inline void remember_owner(struct connection *c)
{
	struct task_struct *task = bpf_get_current_task_btf();

	if (!task->mm)
		return;
	c->tgid = task->tgid;
	c->key.memory_cgroup = memory_cgroup_id(task);
	/* That of the socket is that of whoever made the listening one. */
	c->key.unified_cgroup = unified_cgroup_id(task);
}

struct spin {
	u32 *busy;
	u32 held;
};

static long spin_step(u32 index, struct spin *spin)
{
	spin->held = !__sync_lock_test_and_set(spin->busy, 1);
	return spin->held;
}

/*
 * The next bytes of a direction, in order: `len` of them, those from `skip` on are new. They are in the packet at `offset`,
 * or kept.
 */
static __always_inline void consume(struct loop *loop, struct direction *d, int response, u32 offset, u32 skip, u32 len)
{
	struct connection *c = loop->connection;
	u32 fresh = len - skip;
	struct http_value *value;
	bool opaque;

	/* Of a tunnel there is no further transaction that could tell them. */
	opaque = d->stream.state == HTTP_OPAQUE && c->counted;
	if (response)
		c->response_bytes += fresh;
	else
		c->request_bytes += fresh;
	if (d->stream.state != HTTP_LOST && d->stream.state != HTTP_OPAQUE) {
		d->payload = offset;
		d->at = skip;
		d->len = len;
		d->start = d->end = 0;
		if (loop->early)
			d->end = len < WINDOW ? len : WINDOW;
		bpf_loop(MAX_STEPS, parse_step, loop, 0);
		if (d->at < len) {
			lost(LOST_GAP);
			d->stream.state = HTTP_LOST;
		}
	}
	if (c->preface && c->tgid) {
		c->preface = 0;
		account(c, HTTP_PRI, 0, 0, 0);
	}
	/* What no transaction took belongs to the one before, unless it is an interim answer. */
	if (!c->counted || (response ? c->interim || c->response_bytes == c->response_bytes_told : !opaque))
		return;
	value = bpf_map_lookup_elem(&TRANSACTIONS, &c->key);
	if (!value)
		return;
	if (response)
		tell_bytes(&value->response_bytes, &c->response_bytes, &c->response_bytes_told);
	else
		tell_bytes(&value->request_bytes, &c->request_bytes, &c->request_bytes_told);
}

/* A packet that came ahead of its time. */
static __always_inline void ahead_of_time(struct __sk_buff *skb, struct direction *d, u32 offset, u32 seq, u32 len)
{
	u32 gap = seq - d->next_seq;
	u64 n = len;

	if ((d->stream.state == HTTP_BODY || d->stream.state == HTTP_CHUNK_DATA) && d->stream.left >= (u64)gap + len) {
		/* Nothing but body either way. */
		d->stream.left -= gap;
		return;
	}
	if (d->stream.state == HTTP_LOST || d->stream.state == HTTP_OPAQUE)
		return;
	if (n > WINDOW)
		n = WINDOW;
	asm volatile("" : "+r"(n));
	if (!d->early_len && n > 0 && n <= WINDOW && !bpf_skb_load_bytes(skb, offset, d->early.bytes, n)) {
		d->early_seq = seq;
		d->early_len = len;
		return;
	}
	lost(LOST_GAP);
	d->early_len = 0;
	d->stream.state = HTTP_LOST;
}

static __always_inline void payload(struct __sk_buff *skb, struct loop *loop, int response, u32 offset, u32 seq, u32 len)
{
	struct connection *c = loop->connection;
	struct direction *d = &c->directions[loop->egress & 1];
	u32 skip = 0, gap = 0;
	s32 ahead;

	ahead = d->known ? seq - d->next_seq : 0;
	if (ahead < 0) {
		/* Sent again: what was seen already is not looked at again. */
		if (-ahead >= (s32)len)
			return;
		skip = -ahead;
	} else if (ahead > 0) {
		ahead_of_time(skb, d, offset, seq, len);
		if (d->early_len)
			return;
		gap = ahead;
	}
	d->next_seq = seq + len;
	d->known = 1;
	if (d->stream.state == HTTP_LOST && http_begins(first_bytes(skb, offset, len), response))
		d->stream.state = HTTP_START;
	if (response)
		c->response_bytes += gap;
	else
		c->request_bytes += gap;
	consume(loop, d, response, offset, skip, len);
	if (d->early_len) {
		ahead = d->early_seq - d->next_seq;
		len = d->early_len;
		if (ahead > 0)
			return;
		d->early_len = 0;
		if (-ahead >= (s32)len)
			return;
		d->next_seq = d->early_seq + len;
		loop->early = 1;
		consume(loop, d, response, 0, -ahead, len);
	}
}

static __always_inline int packet(struct __sk_buff *skb, u32 egress)
{
	u32 offset = transport_offset(skb, IPPROTO_TCP, 0, egress), len, seq;
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct loop loop = { .skb = skb, .egress = egress };
	struct connection *c;
	struct direction *d;
	struct bpf_sock *sk;
	struct tcphdr *tcp;
	struct spin spin = {};
	bool finished, reset;
	u16 server_port;
	int response;

	if (!offset || offset > 60)
		return 1;
	tcp = data + offset;
	if ((void *)(tcp + 1) > end)
		return 1;
	finished = tcp->fin;
	reset = tcp->rst;
	seq = bpf_ntohl(tcp->seq) + tcp->syn;
	server_port = bpf_ntohs(tcp->dest);
	offset += tcp->doff * 4;
	len = skb->len > offset ? skb->len - offset : 0;
	if (!len && !finished && !reset)
		return 1;
	sk = skb->sk;
	if (!sk)
		return 1;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 1;
	c = bpf_sk_storage_get(&CONNECTIONS, sk, 0, 0);
	if (!c) {
		if (!is_request(skb, offset, len))
			return 1;
		c = bpf_sk_storage_get(&CONNECTIONS, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
		if (!c) {
			lost(LOST_STORAGE);
			return 1;
		}
		c->role = egress ? ROLE_CLIENT : ROLE_SERVER;
		c->key.role = c->role;
		c->key.port = server_port;
		c->key.unified_cgroup = bpf_skb_cgroup_id(skb);
		if (egress)
			transport_offset(skb, IPPROTO_TCP, &c->key.peer, egress);
	}
	if (egress && len && !c->tgid)
		remember_owner(c);
	d = &c->directions[egress];
	response = (c->role == ROLE_SERVER) == egress;
	loop.connection = c;
	/*
	 * Packets go out one after the other under the lock of the socket, but may come in on two CPUs at once, when the
	 * sender on the loopback changed from one to the other.
	 */
	if (!egress) {
		if (__sync_lock_test_and_set(&d->busy, 1)) {
			spin.busy = &d->busy;
			bpf_loop(MAX_SPINS, spin_step, &spin, 0);
			if (!spin.held) {
				lost(LOST_CONTENDED);
				return 1;
			}
		}
	}
	if (len)
		payload(skb, &loop, response, offset, seq, len);
	if (reset || (finished && response))
		bpf_loop(QUEUE, unanswered_step, &loop, 0);
	if (!egress)
		__sync_lock_test_and_set(&d->busy, 0);
	return 1;
}

SEC("cgroup_skb/ingress") int http_ingress(struct __sk_buff *skb)
{
	return packet(skb, 0);
}

SEC("cgroup_skb/egress") int http_egress(struct __sk_buff *skb)
{
	return packet(skb, 1);
}
