/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Tables of sums by key, to which programs only ever add and which user space reads as differences. */
#pragma once
#include "kernel.h"

/*
 * Defines the table NAME and NAME_entry(key), which answers the sums of a key, zero ones if it is new, or 0 if there is no
 * place. With BPF_F_NO_PREALLOC places take memory when they are taken; programs that run under locks of the kernel
 * have them allocated in advance (0).
 */
#define SUMS_TABLE(name, key_type, value_type, places, flags)                                                          \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_HASH);                                                                       \
		__uint(map_flags, flags);                                                                              \
		__uint(max_entries, places);                                                                           \
		__type(key, key_type);                                                                                 \
		__type(value, value_type);                                                                             \
	} name SEC(".maps");                                                                                           \
                                                                                                                       \
	/* Always zero: what an entry begins with, too large for the stack. */                                         \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_ARRAY);                                                                      \
		__uint(max_entries, 1);                                                                                \
		__type(key, u32);                                                                                      \
		__type(value, value_type);                                                                             \
	} name##_BLANK SEC(".maps");                                                                                   \
                                                                                                                       \
	static __always_inline value_type *name##_entry(key_type *key)                                                 \
	{                                                                                                              \
		value_type *sums = bpf_map_lookup_elem(&name, key), *blank;                                            \
		u32 zero = 0;                                                                                          \
                                                                                                                       \
		if (sums)                                                                                              \
			return sums;                                                                                   \
		blank = bpf_map_lookup_elem(&name##_BLANK, &zero);                                                     \
		if (blank)                                                                                             \
			bpf_map_update_elem(&name, key, blank, BPF_NOEXIST);                                           \
		/* Another CPU may have been faster. */                                                                \
		return bpf_map_lookup_elem(&name, key);                                                                \
	}
