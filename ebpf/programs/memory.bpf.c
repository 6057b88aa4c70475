/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Memory per process, and the beginning and end of processes.
 *
 * Every change of a process's memory updates one entry of a hash that user space reads once a second: an event per
 * change would cost a page fault three times its price.
 */
#include "task.h"

char LICENSE[] SEC("license") = "GPL";

enum lost_reason { LOST_PROCESS_TABLE_FULL, LOST_LIFE_EVENT };

/* Mirrored by `RawProcess` in src/memory.rs. */
struct process {
	u64 mm; /* which address space; only compared */
	u64 start_ns;
	s64 pages[MM_COUNTERS];
	s64 peak_pages;
	u64 memory_cgroup;
	u64 unified_cgroup;
	u64 updates;
	char comm[COMM_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32768);
	__type(key, u32); /* thread group id */
	__type(value, struct process);
} PROCESSES SEC(".maps");

enum life { LIFE_FORK, LIFE_EXEC, LIFE_EXIT };

#define FILE_LEN 64
/* Mirrored by `RawLife` in src/memory.rs. */
struct life_event {
	u64 boot_ns;
	u32 kind;
	u32 tgid;
	u32 parent;
	s32 status;
	struct process process;
	char file[FILE_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} LIFE SEC(".maps");

static __always_inline s64 resident(const s64 pages[MM_COUNTERS])
{
	return pages[0] + pages[1] + pages[3];
}

static __always_inline void describe(struct process *p, struct task_struct *task, struct mm_struct *mm)
{
	p->mm = (u64)mm;
	p->start_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	mm_read_pages(mm, p->pages);
	p->peak_pages = resident(p->pages);
	p->memory_cgroup = memory_cgroup_id(task);
	p->unified_cgroup = unified_cgroup_id(task);
	read_comm(p->comm, task);
}

static __always_inline void enter(struct task_struct *task, struct mm_struct *mm)
{
	u32 tgid = BPF_CORE_READ(task, tgid);
	struct process p = {};

	describe(&p, task, mm);
	if (bpf_map_update_elem(&PROCESSES, &tgid, &p, BPF_ANY))
		lost(LOST_PROCESS_TABLE_FULL);
}

SEC("tp_btf/rss_stat") int rss_stat(u64 *ctx)
{
	struct mm_struct *mm = (void *)ctx[0];
	u32 counter = ctx[1] & 3;
	struct task_struct *owner = mm->owner, *current = bpf_get_current_task_btf();
	struct process *p;
	s64 sum;
	u32 tgid;

	if (!owner)
		return 0;
	/*
	 * While a process is being forked its task still bears the ids of its parent, and while one executes, the new
	 * address space is filled beside the old one. Both are entered when they are complete.
	 */
	if (owner == current ? current->mm != mm : owner->pid == current->pid)
		return 0;
	tgid = owner->tgid;
	p = bpf_map_lookup_elem(&PROCESSES, &tgid);
	if (!p || p->mm != (u64)mm) {
		if (!(owner->flags & PF_EXITING))
			enter(owner, mm);
		return 0;
	}
	p->updates++;
	switch (counter) {
	case 0:
		p->pages[0] = mm->rss_stat[0].count;
		break;
	case 1:
		p->pages[1] = mm->rss_stat[1].count;
		break;
	case 2:
		p->pages[2] = mm->rss_stat[2].count;
		return 0;
	default:
		p->pages[3] = mm->rss_stat[3].count;
	}
	sum = resident(p->pages);
	if (sum > p->peak_pages)
		p->peak_pages = sum;
	return 0;
}

static __always_inline struct life_event *new_life_event(u32 kind, struct task_struct *task)
{
	struct life_event *e = bpf_ringbuf_reserve(&LIFE, sizeof(*e), 0);

	if (!e) {
		lost(LOST_LIFE_EVENT);
		return 0;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->boot_ns = bpf_ktime_get_boot_ns();
	e->kind = kind;
	e->tgid = BPF_CORE_READ(task, tgid);
	e->parent = BPF_CORE_READ(task, real_parent, tgid);
	return e;
}

SEC("tp_btf/sched_process_fork") int process_fork(u64 *ctx)
{
	struct task_struct *child = (void *)ctx[1];
	struct mm_struct *mm = child->mm;
	struct life_event *e;

	if (child->pid != child->tgid)
		return 0; /* a thread */
	/* A child that shares its parent's memory (vfork) has none of its own until it executes. */
	if (mm && mm->owner == child)
		enter(child, mm);
	e = new_life_event(LIFE_FORK, child);
	if (!e)
		return 0;
	describe(&e->process, child, mm);
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

struct linux_binprm {
	const char *filename;
} CORE;

SEC("tp_btf/sched_process_exec") int process_exec(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct linux_binprm *binary = (void *)ctx[2];
	struct mm_struct *mm = task->mm;
	struct life_event *e;

	if (mm)
		enter(task, mm);
	e = new_life_event(LIFE_EXEC, task);
	if (!e)
		return 0;
	describe(&e->process, task, mm);
	bpf_core_read_str(e->file, sizeof(e->file), binary->filename);
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

SEC("tp_btf/sched_process_exit") int process_exit(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct signal_struct *signal = task->signal;
	struct process *p;
	struct life_event *e;
	u32 tgid = task->tgid;

	if (BPF_CORE_READ(signal, live.counter))
		return 0; /* other threads go on */
	p = bpf_map_lookup_elem(&PROCESSES, &tgid);
	e = new_life_event(LIFE_EXIT, task);
	if (e) {
		/* As wait(2) has it, kernel/exit.c wait_task_zombie(). */
		e->status = BPF_CORE_READ(signal, flags) & SIGNAL_GROUP_EXIT
				    ? BPF_CORE_READ(signal, group_exit_code)
				    : BPF_CORE_READ(task, group_leader, exit_code);
		describe(&e->process, task, BPF_CORE_READ(task, mm));
		if (p) {
			if (!e->process.mm)
				__builtin_memcpy(e->process.pages, p->pages, sizeof(p->pages));
			e->process.updates = p->updates;
			e->process.peak_pages = p->peak_pages;
		}
		bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	}
	if (p)
		bpf_map_delete_elem(&PROCESSES, &tgid);
	return 0;
}

SEC("tp_btf/cgroup_attach_task") int cgroup_attach(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[2];
	u32 tgid = task->tgid;
	struct process *p = bpf_map_lookup_elem(&PROCESSES, &tgid);

	if (p) {
		p->memory_cgroup = memory_cgroup_id(task);
		p->unified_cgroup = unified_cgroup_id(task);
	}
	return 0;
}

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
} CORE;

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} CORE;

/* Mirrored by `RawAlive` in src/memory.rs. */
struct alive {
	u64 start_ns;
	u32 tgid;
	u32 pad;
};

/* Enters every process that is alive and tells user space which ones they are, so that it can remove the others. */
SEC("iter/task") int process_iter(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct process fresh = {}, *known;
	struct alive alive = {};
	struct mm_struct *mm;
	u32 tgid;

	if (!task)
		return 0;
	mm = task->mm;
	/* Each address space once; kernel threads have none. */
	if (!mm || mm->owner != task || task->flags & PF_EXITING)
		return 0;
	tgid = task->tgid;
	describe(&fresh, task, mm);
	known = bpf_map_lookup_elem(&PROCESSES, &tgid);
	if (known && known->mm == fresh.mm) {
		__builtin_memcpy(known->pages, fresh.pages, sizeof(fresh.pages));
		if (fresh.peak_pages > known->peak_pages)
			known->peak_pages = fresh.peak_pages;
		known->memory_cgroup = fresh.memory_cgroup;
		known->unified_cgroup = fresh.unified_cgroup;
		__builtin_memcpy(known->comm, fresh.comm, sizeof(fresh.comm));
	} else if (bpf_map_update_elem(&PROCESSES, &tgid, &fresh, BPF_ANY)) {
		lost(LOST_PROCESS_TABLE_FULL);
	}
	alive.start_ns = fresh.start_ns;
	alive.tgid = tgid;
	bpf_seq_write(ctx->meta->seq, &alive, sizeof(alive));
	return 0;
}
