/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * What all kernel programs of Tapio share: the few kernel types they read, relocated at load time (CO-RE), and the
 * counters of what was lost.
 *
 * The structs name only the fields that are read; names must be those of the kernel's BTF, offsets are the loader's
 * business. There is no vmlinux.h: what is not listed here is not read.
 */
#pragma once
#include <linux/types.h>

#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;

#define CORE __attribute__((preserve_access_index))
#define COMM_LEN 16
/* linux/sched.h */
#define PF_EXITING 0x00000004
/* linux/sched/signal.h */
#define SIGNAL_GROUP_EXIT 0x00000004

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	long counter;
} atomic_long_t;

struct kernfs_node {
	u64 id;
	const char *name;
	struct kernfs_node *__parent;
} CORE;

/* Up to 6.14 the field had no underscores. */
struct kernfs_node___before_6_15 {
	struct kernfs_node *parent;
} CORE;

struct cgroup {
	struct kernfs_node *kn;
	int level;
} CORE;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
} CORE;

struct page_counter {
	atomic_long_t usage;
	unsigned long max;
} CORE;

struct mem_cgroup {
	struct cgroup_subsys_state css;
	struct page_counter memory;
	bool oom_group;
	bool oom_lock;
} CORE;

struct css_set {
	struct cgroup_subsys_state *subsys[16];
	struct cgroup *dfl_cgrp;
} CORE;

struct percpu_counter {
	s64 count;
} CORE;

struct task_struct;

struct mm_struct {
	unsigned long total_vm;
	unsigned long hiwater_rss; /* pages */
	struct task_struct *owner;
	struct percpu_counter rss_stat[4];
} CORE;

struct signal_struct {
	atomic_t live;
	int group_exit_code;
	unsigned int flags;
	unsigned long maxrss; /* pages */
} CORE;

struct task_struct {
	unsigned int flags;
	int pid;
	int tgid;
	int exit_code;
	u64 start_boottime;
	char comm[COMM_LEN];
	struct mm_struct *mm;
	struct css_set *cgroups;
	struct signal_struct *signal;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
} CORE;

/* The value is that of the running kernel: bpf_core_enum_value relocates it. */
enum cgroup_subsys_id { memory_cgrp_id = 0x7fffffff };

/*
 * What could not be told to user space, by reason; user space sums over CPUs and reports it. Every object has its own
 * reasons, numbered from 0.
 */
#define LOSS_REASONS 8
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, LOSS_REASONS);
	__type(key, u32);
	__type(value, u64);
} LOST SEC(".maps");

static __always_inline void lost(u32 reason)
{
	u64 *count = bpf_map_lookup_elem(&LOST, &reason);

	if (count)
		(*count)++;
}

/* A zeroed key or value on the BPF stack: padding must not differ. */
#define ZERO(x) __builtin_memset(&(x), 0, sizeof(x))
