/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Latency histograms with fixed bounds: two buckets an octave. */
#pragma once
#include "kernel.h"

/*
 * Bucket 0 is below 16 us; then [16, 24), [24, 32), [32, 48), [48, 64), ... us; the last is everything from 12.6 s on.
 * Mirrored by `latency_bounds_us` in src/histogram.rs.
 */
#define BUCKETS 42
#define FIRST_OCTAVE 4

static __always_inline u64 log2_floor(u64 v)
{
	u64 r = 0;

	if (v >> 32) {
		v >>= 32;
		r += 32;
	}
	if (v >> 16) {
		v >>= 16;
		r += 16;
	}
	if (v >> 8) {
		v >>= 8;
		r += 8;
	}
	if (v >> 4) {
		v >>= 4;
		r += 4;
	}
	if (v >> 2) {
		v >>= 2;
		r += 2;
	}
	return r + (v >> 1);
}

static __always_inline u64 bucket_of(u64 ns)
{
	u64 us = ns / 1000, octave, bucket;

	if (us < 1 << FIRST_OCTAVE)
		return 0;
	octave = log2_floor(us);
	bucket = 1 + (octave - FIRST_OCTAVE) * 2 + ((us >> (octave - 1)) & 1);
	if (bucket > BUCKETS - 1)
		bucket = BUCKETS - 1;
	asm volatile("" : "+r"(bucket)); /* the verifier must see the bound in the register that is used */
	return bucket > BUCKETS - 1 ? 0 : bucket;
}
