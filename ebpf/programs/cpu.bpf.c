/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * How long tasks wait for a CPU, by cgroup.
 *
 * The kernel keeps each task's time in run queues (struct sched_info); when a task leaves its CPU, what was added since it
 * left the last time is how long it had waited. So one hook is enough, and no clock is read.
 */
#include "task.h"
#include "histogram.h"
#include "sums.h"

char LICENSE[] SEC("license") = "GPL";

enum lost_reason { LOST_TABLE_FULL, LOST_STORAGE };

struct sched_info {
	unsigned long long run_delay;
} CORE;

struct task_struct___sched {
	struct sched_info sched_info;
} CORE;

/* Mirrored by `RawKey` in src/cpu.rs. */
struct cpu_key {
	u64 unified_cgroup;
	u64 memory_cgroup;
};

/* Mirrored by `RawSums` in src/cpu.rs. */
struct cpu_sums {
	u64 runs;
	u64 delay_ns;
	u32 buckets[BUCKETS];
};

/* The hook runs under the lock of a run queue. */
SUMS_TABLE(WAITS, struct cpu_key, struct cpu_sums, 4096, 0)

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, u64); /* run_delay when the task left its CPU, plus one */
} SEEN SEC(".maps");

SEC("tp_btf/sched_switch") int cpu_switch(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[1];
	struct task_struct___sched *sched = (void *)task;
	struct cpu_sums *sums;
	struct cpu_key key;
	u64 now, *seen, waited;

	if (!task->pid)
		return 0; /* idle */
	now = BPF_CORE_READ(sched, sched_info.run_delay);
	seen = bpf_task_storage_get(&SEEN, task, 0, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!seen) {
		lost(LOST_STORAGE);
		return 0;
	}
	waited = now - (*seen - 1);
	if (!*seen) {
		*seen = now + 1;
		return 0; /* the first time; what it waited before is not known */
	}
	*seen = now + 1;
	key.unified_cgroup = task->cgroups->dfl_cgrp->kn->id;
	key.memory_cgroup = memory_cgroup_id(task);
	sums = WAITS_entry(&key);
	if (!sums) {
		lost(LOST_TABLE_FULL);
		return 0;
	}
	__sync_fetch_and_add(&sums->runs, 1);
	__sync_fetch_and_add(&sums->delay_ns, waited);
	__sync_fetch_and_add(&sums->buckets[bucket_of(waited)], 1);
	return 0;
}
