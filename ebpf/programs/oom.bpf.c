/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Victims of the OOM killer, with the memory cgroups they were in: their directories may be gone a moment later.
 *
 * The victim is the argument of the tracepoint; `current` is the task whose allocation failed.
 */
#include "task.h"

char LICENSE[] SEC("license") = "GPL";

enum lost_reason { LOST_VICTIM };

#define LEVELS 12
#define NAME_LEN 112

/* Mirrored by `RawLevel` in src/oom.rs. */
struct level {
	u64 id;
	u64 usage_pages;
	u64 max_pages;
	u8 locked;
	u8 oom_group;
	u8 pad[6];
	char name[NAME_LEN];
};

/* Mirrored by `RawVictim` in src/oom.rs. */
struct victim {
	u64 boot_ns;
	u32 tgid;
	u32 uid;
	u32 trigger_tgid;
	u32 levels_count;
	u64 start_ns;
	s64 pages[MM_COUNTERS];
	u64 total_vm_pages;
	u64 unified_cgroup;
	u8 lock_known;
	u8 pad[7];
	char comm[COMM_LEN];
	struct level levels[LEVELS]; /* from the victim's own cgroup upwards, without the root */
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 19);
} VICTIMS SEC(".maps");

SEC("tp_btf/mark_victim") int mark_victim(u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct cgroup_subsys_state *css;
	struct victim *v = bpf_ringbuf_reserve(&VICTIMS, sizeof(*v), 0);
	struct mm_struct *mm;

	if (!v) {
		lost(LOST_VICTIM);
		return 0;
	}
	/* What is not written here, like levels beyond the count, is not read. */
	v->levels_count = 0;
	v->boot_ns = bpf_ktime_get_boot_ns();
	v->tgid = task->tgid;
	v->uid = ctx[1];
	v->trigger_tgid = bpf_get_current_pid_tgid() >> 32;
	v->start_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	mm = BPF_CORE_READ(task, mm);
	mm_read_pages(mm, v->pages);
	v->total_vm_pages = BPF_CORE_READ(mm, total_vm);
	v->unified_cgroup = unified_cgroup_id(task);
	read_comm(v->comm, task);
	css = memory_css(task);
	/*
	 * mem_cgroup_oom_trylock() locks the cgroup that hit its limit and all below it until the victim is chosen
	 * (mm/memcontrol-v1.c), so the highest locked one is the one that hit it. A kernel without CONFIG_MEMCG_V1 since
	 * 6.11 has no such lock.
	 */
	v->lock_known = bpf_core_field_exists(((struct mem_cgroup *)0)->oom_lock);
	for (int i = 0; i < LEVELS; i++) {
		struct mem_cgroup *memcg = (void *)css - bpf_core_field_offset(struct mem_cgroup, css);
		struct level *l = &v->levels[i];
		struct kernfs_node *kn;
		const char *name;

		if (!css)
			break;
		kn = BPF_CORE_READ(css, cgroup, kn);
		if (!kernfs_parent(kn))
			break; /* the root */
		l->id = BPF_CORE_READ(kn, id);
		l->usage_pages = BPF_CORE_READ(memcg, memory.usage.counter);
		l->max_pages = BPF_CORE_READ(memcg, memory.max);
		l->locked = v->lock_known ? BPF_CORE_READ(memcg, oom_lock) : 0;
		l->oom_group = BPF_CORE_READ(memcg, oom_group);
		name = BPF_CORE_READ(kn, name);
		bpf_core_read_str(l->name, sizeof(l->name), name);
		v->levels_count = i + 1;
		css = BPF_CORE_READ(css, parent);
	}
	bpf_ringbuf_submit(v, BPF_RB_NO_WAKEUP);
	return 0;
}
