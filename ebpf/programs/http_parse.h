/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * HTTP/1.x message framing (RFC 9112), one direction of a connection, in bytes that come in any pieces.
 *
 * The kernel program runs it, and a small program for user space too, so that it can be tested and fuzzed: nothing here
 * knows of the kernel. `http_step` looks at a window of the bytes, does a little and says how far it came. It keeps the
 * method, the normalised route and the status; of headers it reads Content-Length and Transfer-Encoding only. Queries,
 * other headers and bodies are passed over and never stored.
 *
 * Integers: u8, u16, u32, u64 are defined by whoever includes this.
 */
#pragma once

#include "http_route.h"

enum http_state {
	HTTP_START,	 /* before a message; empty lines are skipped */
	HTTP_METHOD,
	HTTP_PATH,
	HTTP_TARGET,	 /* rest of the target: query, what is beyond the longest route */
	HTTP_ORIGIN,	 /* scheme and host of an absolute target */
	HTTP_VERSION,
	HTTP_STATUS_VERSION,
	HTTP_STATUS,
	HTTP_SKIP_LINE,
	HTTP_LINE,	 /* first byte of a header line */
	HTTP_NAME,
	HTTP_LENGTH,
	HTTP_ENCODING,
	HTTP_HEAD_LF,	 /* last line feed of the head */
	HTTP_BODY,
	HTTP_CHUNK_SIZE,
	HTTP_CHUNK_EXTENSION,
	HTTP_CHUNK_DATA,
	HTTP_CHUNK_END,
	HTTP_TRAILER,
	HTTP_TRAILER_SKIP,
	HTTP_TRAILER_LF,
	HTTP_LOST,	 /* until a packet begins with a head: the body ends with the connection, or it is not HTTP */
	HTTP_OPAQUE,	 /* for good: a tunnel, or HTTP/2 */
};

enum http_event {
	HTTP_NONE,
	HTTP_REQUEST,	/* a request line is complete: method and route are valid */
	HTTP_RESPONSE,	/* a status is known; set no_body and opaque now */
	HTTP_PREFACE,	/* the client speaks HTTP/2 */
};

/* Mirrored by `Method` in src/http.rs. */
enum http_method {
	HTTP_UNKNOWN,
	HTTP_GET,
	HTTP_HEAD,
	HTTP_POST,
	HTTP_PUT,
	HTTP_PATCH,
	HTTP_DELETE,
	HTTP_OPTIONS,
	HTTP_CONNECT,
	HTTP_TRACE,
	HTTP_PRI,
};

/* One direction of a connection. */
struct http_stream {
	u8 state;
	u8 method;	/* of the request */
	u8 chunked;
	u8 has_length;
	u8 no_body;	/* response: to HEAD, 1xx, 204, 304 */
	u8 opaque;	/* response: what follows the head is no HTTP */
	u16 status;
	u16 count;	/* bytes in `word`, digits of a number */
	u16 pad[3];
	u64 word;	/* the last bytes, or a hash of them */
	u64 left;	/* of a body or chunk */
};

/* Whether a packet may begin a message, by its first four bytes in memory order, most significant first. */
HTTP_INLINE int http_begins(u32 first, int response)
{
	if (response)
		return first == 0x48545450; /* HTTP */
	switch (first) {
	case 0x47455420: /* GET  */
	case 0x48454144: /* HEAD */
	case 0x504f5354: /* POST */
	case 0x50555420: /* PUT  */
	case 0x50415443: /* PATC */
	case 0x44454c45: /* DELE */
	case 0x4f505449: /* OPTI */
	case 0x434f4e4e: /* CONN */
	case 0x54524143: /* TRAC */
	case 0x50524920: /* PRI  */
		return 1;
	}
	return 0;
}

HTTP_INLINE u8 http_method_of(u64 word)
{
	switch (word) {
	case 0x474554ULL:
		return HTTP_GET;
	case 0x48454144ULL:
		return HTTP_HEAD;
	case 0x504f5354ULL:
		return HTTP_POST;
	case 0x505554ULL:
		return HTTP_PUT;
	case 0x5041544348ULL:
		return HTTP_PATCH;
	case 0x44454c455445ULL:
		return HTTP_DELETE;
	case 0x4f5054494f4e53ULL:
		return HTTP_OPTIONS;
	case 0x434f4e4e454354ULL:
		return HTTP_CONNECT;
	case 0x5452414345ULL:
		return HTTP_TRACE;
	case 0x505249ULL:
		return HTTP_PRI;
	}
	return HTTP_UNKNOWN;
}

#define HTTP_EACH(byte) ((byte) * 0x0101010101010101ULL)

/* Eight bytes, the first one lowest. */
HTTP_INLINE u64 http_word(const u8 *window, u32 at)
{
	u64 word;

	__builtin_memcpy(&word, &window[at], 8);
	return word;
}

/* The lowest bit set in `result` marks the first byte that is zero, bits above may be wrong. */
HTTP_INLINE u64 http_zero_bytes(u64 x)
{
	return (x - HTTP_EACH(0x01)) & ~x & HTTP_EACH(0x80);
}

/* Which byte the lowest bit belongs to, 8 if there is none; without branches, which data would mispredict. */
HTTP_INLINE u32 http_first(u64 marks)
{
	if (!marks)
		return 8;
	/* One bit is left, at 8 * n: the product has n, the n-th byte of the constant from above, in its highest byte. */
	return (((marks & -marks) >> 7) * 0x0001020304050607ULL) >> 56;
}

/*
 * How many of `have` bytes come before the first that is `stop` or `other`, at most 32. Whole words only, so it may stop
 * short of it.
 */
HTTP_INLINE u32 http_before(const u8 *window, u32 mask, u32 at, u32 have, u8 stop, u8 other)
{
	u32 n = 0;

	for (int i = 0; i < 4; i++) {
		u64 word;
		u32 first;

		if (n + 8 > have)
			break;
		word = http_word(window, (at + n) & mask);
		first = http_first(http_zero_bytes(word ^ HTTP_EACH(stop)) | http_zero_bytes(word ^ HTTP_EACH(other)));
		n += first;
		if (first < 8)
			break;
	}
	return n;
}

HTTP_INLINE void http_head_end(struct http_stream *s, int response)
{
	s->state = HTTP_START;
	if (response ? s->opaque : s->method == HTTP_CONNECT)
		s->state = HTTP_OPAQUE; /* what follows a CONNECT is the tunnel's, unless the answer refuses it */
	else if (response && s->no_body)
		;
	else if (s->chunked)
		s->state = HTTP_CHUNK_SIZE;
	else if (s->has_length)
		s->state = s->left ? HTTP_BODY : HTTP_START;
	else if (response)
		s->state = HTTP_LOST; /* the body ends with the connection */
	if (s->state != HTTP_BODY)
		s->left = 0;
	s->count = 0;
}

HTTP_INLINE void http_message_begin(struct http_stream *s)
{
	s->chunked = s->has_length = s->no_body = s->opaque = 0;
	s->status = 0;
	s->left = 0;
	s->word = 0;
	s->count = 0;
}

/* Passes over what is there of a body or chunk; answers how much, at least one byte. */
HTTP_INLINE u32 http_skip(struct http_stream *s, u32 rest)
{
	u32 used = s->left < rest ? s->left : rest;

	if (!used)
		used = 1; /* cannot be: an empty body is none */
	s->left -= used;
	if (!s->left)
		s->state = s->state == HTTP_BODY ? HTTP_START : HTTP_CHUNK_END;
	return used;
}

HTTP_INLINE void http_chunk_begin(struct http_stream *s)
{
	if (!s->count)
		s->state = HTTP_LOST;
	else
		s->state = s->left ? HTTP_CHUNK_DATA : HTTP_TRAILER;
	s->count = 0;
}

/* The end of a name or of an item in a list of codings: whether the last one is "chunked". */
HTTP_INLINE void http_coding_end(struct http_stream *s)
{
	if (s->count)
		s->chunked = (s->word & 0xffffffffffffffULL) == 0x6368756e6b6564ULL && s->count == 7;
	s->word = 0;
	s->count = 0;
}

/* fnv1a of the names in lower case, the last one without its last letter */
#define HTTP_CONTENT_LENGTH 0x2d69a1e6ee916e7dULL
#define HTTP_TRANSFER_ENCODING 0x8640bd735e9d802cULL
#define HTTP_TRANSFER_ENCODIN_HASH 0xfb46116b5f8e3143ULL
/* Words as http_word() reads them: "content-", "length:" shifted, "transfer", "-encodin", "HTTP/1.", "GET ", "POST " */
#define HTTP_CONTENT_ 0x2d746e65746e6f63ULL
#define HTTP__LENGTH_ 0x3a6874676e656c00ULL
#define HTTP_TRANSFER 0x726566736e617274ULL
#define HTTP__ENCODIN 0x6e69646f636e652dULL
#define HTTP_1_ 0x2e312f50545448ULL
#define HTTP_FIRST_SEVEN 0x00ffffffffffffffULL
#define HTTP_GET_ 0x20544547ULL
#define HTTP_POST_ 0x2054534f50ULL
/* Longer than any body; a number beyond is refused before it overflows. */
#define HTTP_LENGTH_MAX (1ULL << 56)

HTTP_INLINE void http_length_begin(struct http_stream *s)
{
	s->state = HTTP_LENGTH;
	s->left = 0;
	s->count = 0;
}

HTTP_INLINE enum http_event http_method_end(struct http_stream *s, struct http_route *r, u8 method, u32 len, u32 *used)
{
	s->method = method;
	s->state = method ? HTTP_PATH : HTTP_LOST;
	http_route_begin(r);
	*used = len;
	return HTTP_NONE;
}

/* The status in " 200", which is in the low half of the word; 0 if it is none. */
HTTP_INLINE u32 http_status(u64 word)
{
	u32 hundreds = (u8)(word >> 8) - '0', tens = (u8)(word >> 16) - '0', ones = (u8)(word >> 24) - '0';

	if ((word & 0xff) != ' ' || hundreds - 1 > 8 || tens > 9 || ones > 9)
		return 0;
	return hundreds * 100 + tens * 10 + ones;
}

/*
 * Looks at window[at], of which `have` > 0 bytes are there and `rest` >= `have` are in the packet. `window` has eight
 * bytes more than `mask` + 1, which is a power of two. Sets how many bytes it is done with, 1 to `rest`, and answers what
 * they completed.
 */
HTTP_INLINE enum http_event http_step(struct http_stream *s, struct http_route *r, int response,
				      const u8 *window, u32 mask, u32 at, u32 have, u32 rest, u32 *used)
{
	u8 c = window[at & mask];
	u64 word, next;
	u32 n;

	*used = 1;
	switch (s->state) {
	case HTTP_LINE:
		if (have >= 8) {
			word = http_word(window, at & mask);
			if ((word & 0xffff) == 0x0a0d) {
				*used = 2;
				http_head_end(s, response);
				return HTTP_NONE;
			}
			/* As lower case: colons, dashes and digits have the bit already. */
			word |= HTTP_EACH(0x20);
			if (word != HTTP_CONTENT_ && word != HTTP_TRANSFER) {
				s->state = HTTP_SKIP_LINE;
			} else if (have >= 18) {
				next = http_word(window, (at + 8) & mask) | HTTP_EACH(0x20);
				s->state = HTTP_SKIP_LINE;
				if (word == HTTP_CONTENT_ && next << 8 == HTTP__LENGTH_) {
					*used = 15;
					http_length_begin(s);
					return HTTP_NONE;
				}
				if (word == HTTP_TRANSFER && next == HTTP__ENCODIN) {
					/* The last letter and the colon go the slow way. */
					*used = 16;
					s->state = HTTP_NAME;
					s->word = HTTP_TRANSFER_ENCODIN_HASH;
					s->count = 2;
					return HTTP_NONE;
				}
			}
			if (s->state == HTTP_SKIP_LINE)
				goto skip;
		}
		if (c == '\r') {
			s->state = HTTP_HEAD_LF;
		} else if (c == '\n') {
			http_head_end(s, response);
		} else {
			c = http_lower(c);
			s->state = c == 'c' || c == 't' ? HTTP_NAME : HTTP_SKIP_LINE;
			s->word = (FNV_OFFSET ^ c) * FNV_PRIME;
			s->count = 1;
		}
		return HTTP_NONE;

	case HTTP_SKIP_LINE:
	case HTTP_CHUNK_EXTENSION:
	case HTTP_TRAILER_SKIP:
skip:
		n = http_before(window, mask, at, have, '\n', '\n');
		if (n >= have || window[(at + n) & mask] != '\n') {
			*used = n ? n : 1;
			return HTTP_NONE;
		}
		*used = n + 1;
		if (s->state == HTTP_SKIP_LINE)
			s->state = HTTP_LINE;
		else if (s->state == HTTP_TRAILER_SKIP)
			s->state = HTTP_TRAILER;
		else
			http_chunk_begin(s);
		return HTTP_NONE;

	case HTTP_PATH:
		for (n = 0; n < 8; n++) {
			if (n >= have)
				break;
			c = window[(at + n) & mask];
			*used = n + 1;
			if (c == ' ' || c == '?' || c == '#') {
				http_route_segment_end(r);
				s->state = c == ' ' ? HTTP_VERSION : HTTP_TARGET;
				s->word = 0;
				s->count = 0;
				break;
			}
			if (c == '\r' || c == '\n') {
				s->state = HTTP_LOST;
				break;
			}
			if (s->method == HTTP_CONNECT) {
				/* host:port is not a route */
				http_route_put(r, '*');
				s->state = HTTP_TARGET;
				break;
			}
			if (!r->len && c != '/' && c != '*') {
				/* scheme://host/path: only the path is of interest, three slashes further on */
				s->state = HTTP_ORIGIN;
				s->count = 0;
				break;
			}
			if (!http_route_byte(r, c)) {
				s->state = HTTP_TARGET;
				break;
			}
		}
		return HTTP_NONE;

	case HTTP_ORIGIN:
		if (c == '/' && ++s->count == 3) {
			http_route_byte(r, c);
			s->state = HTTP_PATH;
		} else if (c == ' ') {
			http_route_put(r, '/');
			s->state = HTTP_VERSION;
			s->word = 0;
			s->count = 0;
		} else if (c == '\n') {
			s->state = HTTP_LOST;
		}
		return HTTP_NONE;

	case HTTP_TARGET:
		n = http_before(window, mask, at, have, ' ', '\n');
		*used = n ? n : 1;
		c = n < have ? window[(at + n) & mask] : 0;
		if (c == ' ' || c == '\n') {
			*used = n + 1;
			s->state = c == ' ' ? HTTP_VERSION : HTTP_LOST;
			s->word = 0;
			s->count = 0;
		}
		return HTTP_NONE;

	case HTTP_NAME:
		if (c == ':') {
			s->state = HTTP_SKIP_LINE;
			if (s->word == HTTP_CONTENT_LENGTH) {
				http_length_begin(s);
			} else if (s->word == HTTP_TRANSFER_ENCODING) {
				s->state = HTTP_ENCODING;
				s->word = 0;
				s->count = 0;
			}
		} else if (c == '\n') {
			s->state = HTTP_LINE;
		} else {
			c = http_lower(c);
			/* "co" and "tr" are worth the whole name */
			if (s->count == 1 && c != 'o' && c != 'r') {
				s->state = HTTP_SKIP_LINE;
				return HTTP_NONE;
			}
			s->count = 2;
			s->word = (s->word ^ c) * FNV_PRIME;
		}
		return HTTP_NONE;

	case HTTP_METHOD:
		if (c == ' ') {
			return http_method_end(s, r, http_method_of(s->word), 1, used);
		} else if (c < 'A' || c > 'Z' || ++s->count > 7) {
			s->state = HTTP_LOST;
		} else {
			s->word = s->word << 8 | c;
		}
		return HTTP_NONE;

	case HTTP_VERSION:
		if (have >= 10 && !s->count && (http_word(window, at & mask) & HTTP_FIRST_SEVEN) == HTTP_1_ &&
		    window[(at + 8) & mask] == '\r' && window[(at + 9) & mask] == '\n' && s->method != HTTP_PRI) {
			*used = 10;
			s->state = HTTP_LINE;
			return HTTP_REQUEST;
		}
		if (c == '\r')
			return HTTP_NONE;
		if (c != '\n') {
			if (++s->count > 8)
				s->state = HTTP_LOST;
			s->word = s->word << 8 | c;
			return HTTP_NONE;
		}
		if (s->method == HTTP_PRI) {
			s->state = HTTP_LOST;
			if (s->word != 0x485454502f322e30ULL)
				return HTTP_NONE;
			s->state = HTTP_OPAQUE;
			return HTTP_PREFACE;
		}
		s->state = HTTP_LOST;
		if (s->word >> 8 != 0x485454502f312eULL)
			return HTTP_NONE;
		s->state = HTTP_LINE;
		return HTTP_REQUEST;

	case HTTP_STATUS_VERSION:
		if (c == ' ') {
			s->state = s->word >> 8 == 0x485454502f312eULL ? HTTP_STATUS : HTTP_LOST;
			s->count = 0;
		} else if (++s->count > 8) {
			s->state = HTTP_LOST;
		} else {
			s->word = s->word << 8 | c;
		}
		return HTTP_NONE;

	case HTTP_STATUS:
		if (c < '0' || c > '9') {
			s->state = HTTP_LOST;
			return HTTP_NONE;
		}
		s->status = s->status * 10 + (c - '0');
		if (++s->count < 3)
			return HTTP_NONE;
		s->state = s->status >= 100 ? HTTP_SKIP_LINE : HTTP_LOST;
		return s->status >= 100 ? HTTP_RESPONSE : HTTP_NONE;

	case HTTP_LENGTH:
		for (n = 0; n < 8; n++) {
			if (n >= have)
				break;
			c = window[(at + n) & mask];
			*used = n + 1;
			if (c >= '0' && c <= '9') {
				s->left = s->left * 10 + (c - '0');
				s->has_length = 1;
				if (s->left > HTTP_LENGTH_MAX) {
					s->state = HTTP_LOST;
					break;
				}
			} else if (c == '\n') {
				s->state = HTTP_LINE;
				break;
			} else if (c != ' ' && c != '\t' && c != '\r') {
				s->state = HTTP_SKIP_LINE;
				break;
			}
		}
		return HTTP_NONE;

	case HTTP_ENCODING:
		if (c == '\n') {
			http_coding_end(s);
			s->state = HTTP_LINE;
		} else if (c == ',' || c == ' ' || c == '\t' || c == '\r' || c == ';') {
			http_coding_end(s);
		} else {
			s->word = s->word << 8 | http_lower(c);
			if (s->count < 255)
				s->count++;
		}
		return HTTP_NONE;

	case HTTP_HEAD_LF:
		s->state = HTTP_LOST;
		if (c == '\n')
			http_head_end(s, response);
		return HTTP_NONE;

	case HTTP_BODY:
	case HTTP_CHUNK_DATA:
		*used = http_skip(s, rest);
		return HTTP_NONE;

	case HTTP_CHUNK_SIZE:
		n = c >= '0' && c <= '9' ? c - '0' : (u32)http_lower(c) - 'a' + 10;
		if (n < 16) {
			s->left = s->left << 4 | n;
			s->count = 1;
			if (s->left > HTTP_LENGTH_MAX)
				s->state = HTTP_LOST;
		} else if (c == '\n') {
			http_chunk_begin(s);
		} else if (c == ';' || c == ' ') {
			s->state = HTTP_CHUNK_EXTENSION;
		} else if (c != '\r') {
			s->state = HTTP_LOST;
		}
		return HTTP_NONE;

	case HTTP_CHUNK_END:
		if (c == '\n')
			s->state = HTTP_CHUNK_SIZE;
		else if (c != '\r')
			s->state = HTTP_LOST;
		s->left = 0;
		s->count = 0;
		return HTTP_NONE;

	case HTTP_TRAILER:
		if (c == '\r')
			s->state = HTTP_TRAILER_LF;
		else
			s->state = c == '\n' ? HTTP_START : HTTP_TRAILER_SKIP;
		return HTTP_NONE;

	case HTTP_TRAILER_LF:
		s->state = c == '\n' ? HTTP_START : HTTP_LOST;
		return HTTP_NONE;

	case HTTP_START:
		if (c == '\r' || c == '\n')
			return HTTP_NONE;
		http_message_begin(s);
		if (have >= 12) {
			word = http_word(window, at & mask);
			if (response && (word & HTTP_FIRST_SEVEN) == HTTP_1_) {
				/* Digits or not is seen the slow way if this is not " 1xx" to " 9xx". */
				word = http_word(window, (at + 8) & mask);
				n = http_status(word);
				if (n) {
					*used = 12;
					s->status = n;
					s->state = HTTP_SKIP_LINE;
					return HTTP_RESPONSE;
				}
			} else if (!response && (word & 0xffffffff) == HTTP_GET_) {
				return http_method_end(s, r, HTTP_GET, 4, used);
			} else if (!response && (word & 0xffffffffff) == HTTP_POST_) {
				return http_method_end(s, r, HTTP_POST, 5, used);
			}
		}
		if (c < 'A' || c > 'Z') {
			s->state = HTTP_LOST;
			return HTTP_NONE;
		}
		s->state = response ? HTTP_STATUS_VERSION : HTTP_METHOD;
		s->word = c;
		s->count = 1;
		return HTTP_NONE;

	default: /* HTTP_LOST, HTTP_OPAQUE */
		*used = rest;
		return HTTP_NONE;
	}
}
