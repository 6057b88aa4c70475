/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Memory per process, and the beginning and end of processes.
 *
 * The kernel counts the memory of each address space and the most it ever was; a pass over all tasks reads both. Nothing
 * runs when memory changes: a program on the tracepoint `rss_stat` that kept one entry of a hash up to date cost a page
 * fault 3 % and knew nothing more.
 */
#include "task.h"

char LICENSE[] SEC("license") = "GPL";

enum lost_reason { LOST_LIFE_EVENT };

/* Mirrored by `RawProcess` in src/memory.rs. */
struct process {
	u64 start_ns;
	s64 pages[MM_COUNTERS];
	s64 peak_pages;
	u64 memory_cgroup;
	u64 unified_cgroup;
	u32 tgid;
	u32 has_memory; /* 0: its address space was gone already */
	char comm[COMM_LEN];
};

enum life { LIFE_FORK, LIFE_EXEC, LIFE_EXIT };

#define FILE_LEN 64
/* Mirrored by `RawLife` in src/memory.rs. */
struct life_event {
	u64 boot_ns;
	u32 kind;
	u32 parent;
	s32 status;
	u32 pad;
	struct process process;
	char file[FILE_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20);
} LIFE SEC(".maps");

/* The most that was resident at once since the address space was made: get_mm_hiwater_rss() of linux/mm.h. */
static __always_inline s64 peak(struct mm_struct *mm, const s64 pages[MM_COUNTERS])
{
	s64 now = pages[0] + pages[1] + pages[3], most = BPF_CORE_READ(mm, hiwater_rss);

	return now > most ? now : most;
}

static __always_inline void describe(struct process *p, struct task_struct *task, struct mm_struct *mm)
{
	p->tgid = BPF_CORE_READ(task, tgid);
	p->start_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	if (mm) {
		p->has_memory = 1;
		mm_read_pages(mm, p->pages);
		p->peak_pages = peak(mm, p->pages);
	}
	p->memory_cgroup = memory_cgroup_id(task);
	p->unified_cgroup = unified_cgroup_id(task);
	read_comm(p->comm, task);
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
	e->parent = BPF_CORE_READ(task, real_parent, tgid);
	return e;
}

SEC("tp_btf/sched_process_fork") int process_fork(u64 *ctx)
{
	struct task_struct *child = (void *)ctx[1];
	struct life_event *e;

	if (child->pid != child->tgid)
		return 0; /* a thread */
	e = new_life_event(LIFE_FORK, child);
	if (!e)
		return 0;
	describe(&e->process, child, child->mm);
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
	struct life_event *e = new_life_event(LIFE_EXEC, task);

	if (!e)
		return 0;
	describe(&e->process, task, task->mm);
	bpf_core_read_str(e->file, sizeof(e->file), binary->filename);
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
	return 0;
}

SEC("tp_btf/sched_process_exit") int process_exit(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct signal_struct *signal = task->signal;
	struct life_event *e;
	s64 most;

	if (BPF_CORE_READ(signal, live.counter))
		return 0; /* other threads go on */
	e = new_life_event(LIFE_EXIT, task);
	if (!e)
		return 0;
	/* As wait(2) has it, kernel/exit.c wait_task_zombie(). */
	e->status = BPF_CORE_READ(signal, flags) & SIGNAL_GROUP_EXIT ? BPF_CORE_READ(signal, group_exit_code)
								     : BPF_CORE_READ(task, group_leader, exit_code);
	/* The address space is let go before this point on kernels before 6.16; its peak was kept for wait4(2). */
	describe(&e->process, task, BPF_CORE_READ(task, mm));
	most = BPF_CORE_READ(signal, maxrss);
	if (most > e->process.peak_pages)
		e->process.peak_pages = most;
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
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

/* Tells user space every living process. */
SEC("iter/task") int process_iter(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct process p;
	struct mm_struct *mm;

	if (!task)
		return 0;
	mm = task->mm;
	/* Each address space once; kernel threads have none. */
	if (!mm || mm->owner != task || task->flags & PF_EXITING)
		return 0;
	ZERO(p);
	describe(&p, task, mm);
	bpf_seq_write(ctx->meta->seq, &p, sizeof(p));
	return 0;
}
