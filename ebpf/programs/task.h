/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* Reading a task: its memory counters and its cgroups. */
#pragma once
#include "kernel.h"

/* mm_types_task.h: MM_FILEPAGES, MM_ANONPAGES, MM_SWAPENTS, MM_SHMEMPAGES */
#define MM_COUNTERS 4
#define MM_SWAPENTS 2

/*
 * One counter of an address space, pages. This is the shared part of a per-CPU counter: each CPU holds back less than
 * max(32, 2 * CPUs) pages (lib/percpu_counter.c), and a value may be negative for a moment.
 *
 * A relocated array index must be a constant, hence the switch.
 */
static __always_inline s64 mm_pages(struct mm_struct *mm, u32 counter)
{
	switch (counter) {
	case 0:
		return BPF_CORE_READ(mm, rss_stat[0].count);
	case 1:
		return BPF_CORE_READ(mm, rss_stat[1].count);
	case 2:
		return BPF_CORE_READ(mm, rss_stat[2].count);
	default:
		return BPF_CORE_READ(mm, rss_stat[3].count);
	}
}

static __always_inline void mm_read_pages(struct mm_struct *mm, s64 pages[MM_COUNTERS])
{
	pages[0] = mm_pages(mm, 0);
	pages[1] = mm_pages(mm, 1);
	pages[2] = mm_pages(mm, 2);
	pages[3] = mm_pages(mm, 3);
}

/* The name of the process, not of one of its threads. */
static __always_inline void read_comm(char comm[COMM_LEN], struct task_struct *task)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);

	bpf_core_read(comm, COMM_LEN, &leader->comm);
}

/* The state of the memory controller that a task is charged to (v1 and v2). */
static __always_inline struct cgroup_subsys_state *memory_css(struct task_struct *task)
{
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	struct cgroup_subsys_state *css = 0;
	u32 controller;

	if (!bpf_core_enum_value_exists(enum cgroup_subsys_id, memory_cgrp_id))
		return 0;
	controller = bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);
	bpf_core_read(&css, sizeof(css), &set->subsys[controller & 15]);
	return css;
}

static __always_inline u64 memory_cgroup_id(struct task_struct *task)
{
	return BPF_CORE_READ(memory_css(task), cgroup, kn, id);
}

static __always_inline u64 unified_cgroup_id(struct task_struct *task)
{
	return BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
}

static __always_inline struct kernfs_node *kernfs_parent(struct kernfs_node *kn)
{
	if (bpf_core_field_exists(kn->__parent))
		return BPF_CORE_READ(kn, __parent);
	return BPF_CORE_READ((struct kernfs_node___before_6_15 *)kn, parent);
}
