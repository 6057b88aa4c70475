/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * HTTP/1.x transactions of every socket below a cgroup, server and client side, aggregated in the kernel.
 *
 * The programs see packets as the socket sends and receives them, so it does not matter by which system call, by sendfile
 * or by io_uring the bytes go. Each connection that carries HTTP has its parser state in storage of its own on the socket.
 * TLS is not looked into; HTTP/2 and tunnels are counted and their bytes summed.
 */
#include "kernel.h"

#include <linux/tcp.h>

#define HTTP_INLINE static __always_inline
#include "http_tables.h"

char LICENSE[] SEC("license") = "GPL";

/* The loop's variables are in the connection and not on the stack: the verifier need not know their values. */
struct loop {
	struct __sk_buff *skb;
	struct connection *connection;
	u32 egress;
	u32 early; /* whether it is the packet that was kept */
	struct packet_id id;
};

/*
 * One step: `place` is where in the window and how many bytes are there, 16 bits each, and above them whether it is the
 * direction that answers. Answers how many bytes are done with, and above 16 bits the event.
 *
 * A function of its own, not static: the verifier looks at it once, whatever calls it.
 */
__attribute__((noinline)) u32 parse(struct http_stream *s, struct http_route *r, struct window *w, u64 place)
{
	u32 have = (u16)(place >> 16), used = 0;
	int event;

	if (!s || !r || !w)
		return 0;
	event = http_step(s, r, place >> 32, w->bytes, WINDOW - 1, (u16)place, have, have, &used);
	return used | event << 16;
}

/* What a first line begins. A function of its own for the verifier, as `parse` is. */
__attribute__((noinline)) u32 begins(struct connection *c, u32 egress, u32 event)
{
	struct direction *d;

	if (!c)
		return 0;
	d = &c->directions[egress & 1];
	if (event == HTTP_REQUEST) {
		request_begins(c, d);
	} else if (event == HTTP_RESPONSE) {
		response_begins(c, d);
	} else if (event == HTTP_PREFACE) {
		c->directions[0].stream.state = c->directions[1].stream.state = HTTP_OPAQUE;
		c->preface = 1;
	}
	return 0;
}

/*
 * The head that begins here, if it is the one that was read last when it left. Everything that its end decides is decided
 * again, by what this end knows.
 */
static __always_inline bool read_before(struct loop *loop, struct direction *d, int response)
{
	struct connection *c = loop->connection;
	struct head *h;
	u32 zero = 0;

	h = bpf_map_lookup_elem(&LAST_HEAD, &zero);
	if (!h || h->id.seq != loop->id.seq || h->id.ack != loop->id.ack || h->id.ports != loop->id.ports ||
	    h->id.len != loop->id.len || h->response != response)
		return false;
	d->stream = h->stream;
	/* When it left, a moment ago: the clock is not asked again. */
	d->now_ns = h->sent_ns;
	if (!response) {
		d->began_ns = h->sent_ns;
		c->route = h->route;
	}
	begins(c, loop->egress, response ? HTTP_RESPONSE : HTTP_REQUEST);
	if (d->stream.state != HTTP_OPAQUE)
		http_head_end(&d->stream, response);
	d->at = h->len;
	return true;
}

/* Whether a message whose first line is told is past its head, and may be kept. */
static __always_inline bool is_head_end(u8 state)
{
	return state == HTTP_START || state == HTTP_BODY || state == HTTP_CHUNK_SIZE;
}

/* Keeps a head for the other end, unless its meaning depends on what was asked. */
static __always_inline void remember_head(struct loop *loop, struct direction *d, int response)
{
	struct http_stream *s = &d->stream;
	struct head *h;
	u32 zero = 0;

	d->head = HEAD_NONE;
	if (s->no_body || s->opaque)
		return;
	h = bpf_map_lookup_elem(&LAST_HEAD, &zero);
	if (!h)
		return;
	h->id = loop->id;
	h->len = d->at;
	h->sent_ns = time_of(d);
	h->response = response;
	h->stream = *s;
	if (!response)
		h->route = loop->connection->route;
}

static long parse_step(u32 index, struct loop *loop)
{
	struct connection *c = loop->connection;
	struct direction *d = &c->directions[loop->egress & 1];
	int response = (c->role == ROLE_SERVER) == (loop->egress & 1);
	u32 at = d->at, len = d->len;
	struct window *window = &d->window;
	u32 in_window, have;
	int event = HTTP_NONE;

	if (at >= len)
		return 1;
	if (d->stream.state == HTTP_BODY || d->stream.state == HTTP_CHUNK_DATA) {
		d->at = at + http_skip(&d->stream, len - at);
		return 0;
	}
	/* The route of a request that still waits is about to be overwritten. */
	if (!response && d->stream.state == HTTP_START && outstanding(c) > 0 && !c->route_told)
		c->route_told = tell_route(&c->route);
	if (!at && d->stream.state == HTTP_START && !loop->early) {
		if (loop->egress)
			d->head = HEAD_BEGUN;
		else if (read_before(loop, d, response))
			return 0;
	}
	if (!response && d->stream.state == HTTP_START)
		d->began_ns = time_of(d);
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
	in_window = at - d->start;
	have = d->end - at;
	/* Until there is an event, the window is used up, or something begins whose time is to be noted. */
	for (int i = 0; i < 8; i++) {
		u32 result;

		if (d->stream.state == HTTP_BODY || d->stream.state == HTTP_CHUNK_DATA)
			return 0;
		result = parse(&d->stream, &c->route, window, in_window | (u64)have << 16 | (u64)response << 32);
		event = result >> 16;
		result &= 0xffff;
		d->at += result;
		in_window += result;
		have -= result;
		if (event || (s32)have <= 0 || d->stream.state == HTTP_START ||
		    (d->head == HEAD_TOLD && is_head_end(d->stream.state)))
			break;
	}
	if (d->head == HEAD_TOLD && is_head_end(d->stream.state))
		remember_head(loop, d, response);
	if (event && d->head == HEAD_BEGUN)
		d->head = HEAD_TOLD;
	if (event)
		begins(c, loop->egress, event);
	return 0;
}

/* Requests that will not be answered any more. */
static long unanswered_step(u32 index, struct loop *loop)
{
	struct connection *c = loop->connection;
	struct request *q;

	if (outstanding(c) <= 0)
		return 1;
	q = take_request(c);
	account(c, q->route, 0, 0);
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

	/* A packet that leaves bears its time; one that arrives does not, or that of another clock. */
	d->now_ns = loop->egress ? loop->skb->tstamp : 0;
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
		d->head = HEAD_NONE;
		if (loop->early)
			d->end = d->early_have;
		bpf_loop(MAX_STEPS, parse_step, loop, 0);
		if (d->at < len) {
			lost(LOST_GAP);
			d->stream.state = HTTP_LOST;
		}
	}
	if (response && c->answers_lost != (d->stream.state == HTTP_LOST))
		c->answers_lost = d->stream.state == HTTP_LOST;
	if (c->preface && c->tgid) {
		c->preface = 0;
		account(c, HTTP_PRI, 0, 0);
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

	if (!d->early_len && (d->stream.state == HTTP_BODY || d->stream.state == HTTP_CHUNK_DATA) &&
	    d->stream.left >= (u64)gap + len) {
		/* Nothing but body either way. */
		d->stream.left -= gap;
		return;
	}
	if (d->stream.state == HTTP_LOST || d->stream.state == HTTP_OPAQUE) {
		d->early_len = 0;
		return;
	}
	/*
	 * Only the beginning of the first one is kept: what comes behind it is body, most likely. If it is not, the parser
	 * finds that it has not seen what it needs.
	 */
	if (d->early_len) {
		s32 behind = seq - d->early_seq;
		u32 end = d->early_seq + d->early_len;

		if ((s32)(seq + len - end) > 0)
			end = seq + len;
		if (behind >= 0 && end - d->early_seq <= EARLY_MAX) {
			d->early_len = end - d->early_seq;
			return;
		}
		len = end - seq;
	}
	if (n > WINDOW)
		n = WINDOW;
	asm volatile("" : "+r"(n));
	if (len <= EARLY_MAX && n > 0 && n <= WINDOW && !bpf_skb_load_bytes(skb, offset, d->early.bytes, n)) {
		d->early_seq = seq;
		d->early_len = len;
		d->early_have = n;
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
	loop.id.seq = tcp->seq;
	loop.id.ack = tcp->ack_seq;
	loop.id.ports = (u32)tcp->source << 16 | tcp->dest;
	finished = tcp->fin;
	reset = tcp->rst;
	seq = bpf_ntohl(tcp->seq) + tcp->syn;
	server_port = bpf_ntohs(tcp->dest);
	offset += tcp->doff * 4;
	len = skb->len > offset ? skb->len - offset : 0;
	loop.id.len = len;
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
