/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * http_parse.h for user space: reads one direction of a connection as packets from standard input and writes what the
 * parser makes of them. The tests of this crate build it with sanitizers and feed it anything.
 *
 * With -DFUZZ it is a target for libFuzzer instead (tests/fuzz.sh): the first byte chooses the direction, the second the
 * length of packets.
 *
 * Input, repeated: u8 kind (0 = requests, 1 = responses), then packets of u32 length (little endian) and bytes, length 0
 * ends the stream. Output, one line each: "request METHOD ROUTE", "response STATUS", "preface", and "end STATE".
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#include "../../programs/http_parse.h"

#define WINDOW 256

#ifdef FUZZ
#define REPORT(...) do {} while (0)
#else
#define REPORT(...) printf(__VA_ARGS__)
#endif

static int response_has_no_body(int status)
{
	return status < 200 || status == 204 || status == 304;
}

static void packet(struct http_stream *s, struct http_route *r, int response, const u8 *data, u32 len)
{
	u8 window[WINDOW + 8];
	u32 at = 0, start = 0, end = 0;

	if (s->state == HTTP_LOST && len >= 4 &&
	    http_begins((u32)data[0] << 24 | data[1] << 16 | data[2] << 8 | data[3], response))
		s->state = HTTP_START;
	while (at < len) {
		u32 used = 0;

		if (at >= end) {
			start = at;
			end = len - at < WINDOW ? len : at + WINDOW;
			memset(window, 0xee, sizeof(window));
			memcpy(window, data + start, end - start);
		}
		switch (http_step(s, r, response, window, WINDOW - 1, at - start, end - at, len - at, &used)) {
		case HTTP_REQUEST:
			REPORT("request %d %.*s %016llx\n", s->method, (int)r->len, r->text,
			       (unsigned long long)r->hash);
			break;
		case HTTP_RESPONSE:
			s->no_body = response_has_no_body(s->status);
			REPORT("response %d\n", s->status);
			break;
		case HTTP_PREFACE:
			REPORT("preface\n");
			break;
		case HTTP_NONE:
			break;
		}
		if (!used || used > len - at)
			abort();
		at += used;
	}
}

#ifdef FUZZ
int LLVMFuzzerTestOneInput(const u8 *data, size_t len)
{
	struct http_stream s = {0};
	struct http_route r = {0};
	size_t at = 2, size;

	if (len < 2)
		return 0;
	size = data[1] ? data[1] : len;
	for (; at < len; at += size) {
		size_t n = len - at < size ? len - at : size;
		u8 *copy = malloc(n); /* reading beyond it is seen */

		if (!copy)
			abort();
		memcpy(copy, data + at, n);
		packet(&s, &r, data[0] & 1, copy, n);
		free(copy);
	}
	return 0;
}
#else
int main(void)
{
	int kind;

	while ((kind = getchar()) != EOF) {
		struct http_stream s = {0};
		struct http_route r = {0};
		u32 len;

		while (fread(&len, sizeof(len), 1, stdin) == 1 && len) {
			u8 *data = malloc(len);

			if (!data || fread(data, 1, len, stdin) != len)
				abort();
			packet(&s, &r, kind, data, len);
			free(data);
		}
		printf("end %d\n", s.state);
		fflush(stdout);
	}
	return 0;
}
#endif
