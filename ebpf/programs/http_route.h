/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Routes: a path with what names single things replaced by placeholders, byte by byte as the path comes in.
 *
 * Integers: u8, u16, u64 are defined by whoever includes this.
 */
#pragma once

#ifndef HTTP_INLINE
#define HTTP_INLINE static inline __attribute__((always_inline))
#endif

#define HTTP_TEXT_LEN 128 /* of a route; a power of two */
#define HTTP_TEXT_MAX 76 /* no segment begins behind it, a star ends the route; the longest segment still fits */
#define HTTP_SEGMENTS 8   /* deeper ones too */
#define HTTP_SEGMENT_MAX 48 /* longer segments are ids */

#define FNV_OFFSET 0xcbf29ce484222325ULL
#define FNV_PRIME 0x100000001b3ULL

struct http_route {
	u64 hash;	   /* of the text up to here */
	u64 segment_hash;  /* of the text up to this segment */
	u16 len;
	u16 segment_start;
	u16 segment_len;   /* of the original */
	u8 segments;
	u8 digits, letters, hexes, dashes, uppers, ats;
	u8 pad;
	char text[HTTP_TEXT_LEN];
};

HTTP_INLINE u8 http_lower(u8 c)
{
	return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}

HTTP_INLINE void http_route_put(struct http_route *r, u8 c)
{
	r->text[r->len & (HTTP_TEXT_LEN - 1)] = c;
	r->len++;
	r->hash = (r->hash ^ c) * FNV_PRIME;
}

HTTP_INLINE void http_route_segment(struct http_route *r)
{
	r->segment_start = r->len;
	r->segment_hash = r->hash;
	r->segment_len = 0;
	r->digits = r->letters = r->hexes = r->dashes = r->uppers = r->ats = 0;
}

HTTP_INLINE void http_route_begin(struct http_route *r)
{
	r->hash = FNV_OFFSET;
	r->len = 0;
	r->segments = 0;
	http_route_segment(r);
}

/*
 * The end of a path segment: what is an id becomes a placeholder. An id is
 *   {uuid}  32 hexadecimal digits and 4 dashes
 *   {hash}  16 hexadecimal digits or more
 *   {id}    up to 20 digits; or three digits among other things; or 7 hexadecimal digits or more, with a digit among them;
 *           or an at sign; or 20 bytes and more in mixed case; or very long
 */
HTTP_INLINE void http_route_segment_end(struct http_route *r)
{
	u16 n = r->segment_len;
	char kind = 0;

	if (!n)
		return;
	if (n == r->digits && n <= 20)
		kind = 'i';
	else if (n == 36 && r->hexes == 32 && r->dashes == 4)
		kind = 'u';
	else if (n == r->hexes && n >= 16)
		kind = 'h';
	else if (r->digits >= 3 || (n == r->hexes && n >= 7 && r->digits) || r->ats)
		kind = 'i';
	else if (n >= HTTP_SEGMENT_MAX)
		kind = 'i';
	else if (n >= 20 && r->uppers >= 3 && r->letters - r->uppers >= 3)
		kind = 'i';
	if (!kind)
		return;
	r->len = r->segment_start;
	r->hash = r->segment_hash;
	http_route_put(r, '{');
	if (kind == 'i') {
		http_route_put(r, 'i');
		http_route_put(r, 'd');
	} else if (kind == 'u') {
		http_route_put(r, 'u');
		http_route_put(r, 'u');
		http_route_put(r, 'i');
		http_route_put(r, 'd');
	} else {
		http_route_put(r, 'h');
		http_route_put(r, 'a');
		http_route_put(r, 's');
		http_route_put(r, 'h');
	}
	http_route_put(r, '}');
}

/* One byte of a path; returns whether more is of interest. */
HTTP_INLINE int http_route_byte(struct http_route *r, u8 c)
{
	if (c == '/') {
		http_route_segment_end(r);
		http_route_put(r, '/');
		if (++r->segments > HTTP_SEGMENTS || r->len >= HTTP_TEXT_MAX) {
			http_route_put(r, '*');
			return 0;
		}
		http_route_segment(r);
		return 1;
	}
	if (r->segment_len >= HTTP_SEGMENT_MAX)
		return 1; /* an id by now, whatever follows */
	r->segment_len++;
	if (c >= '0' && c <= '9') {
		r->digits++;
		r->hexes++;
	} else if (c == '-') {
		r->dashes++;
	} else if (c == '@') {
		r->ats++;
	} else {
		u8 lower = http_lower(c);

		if (lower >= 'a' && lower <= 'z') {
			r->letters++;
			if (lower <= 'f')
				r->hexes++;
			if (lower != c)
				r->uppers++;
		} else if (c < 0x20 || c == 0x7f) {
			c = '?'; /* not text */
		}
	}
	http_route_put(r, c);
	return 1;
}
