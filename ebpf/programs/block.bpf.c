/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/*
 * Block requests by device, operation and cgroup: how long they took from being made to being completed, and their bytes.
 *
 * The kernel stamps each request itself (struct request), so one hook is enough.
 */
#include "kernel.h"
#include "histogram.h"
#include "sums.h"

char LICENSE[] SEC("license") = "GPL";

enum lost_reason { LOST_TABLE_FULL, LOST_UNSTAMPED };

#define DISK_NAME_LEN 32

struct gendisk {
	int major;
	int first_minor;
	char disk_name[DISK_NAME_LEN];
} CORE;

struct request_queue {
	struct gendisk *disk;
} CORE;

struct blkcg {
	struct cgroup_subsys_state css;
} CORE;

struct blkcg_gq {
	struct blkcg *blkcg;
} CORE;

struct bio {
	struct blkcg_gq *bi_blkg;
} CORE;

struct request {
	struct request_queue *q;
	u32 cmd_flags;
	unsigned int __data_len;
	struct bio *bio;
	u64 start_time_ns;
} CORE;

/* linux/blk_types.h: REQ_OP_MASK */
#define OPERATION_MASK 0xff

/* Mirrored by `RawKey` in src/block.rs. */
struct block_key {
	u64 cgroup;
	u32 major;
	u32 minor;
	u32 operation;
	u32 pad;
};

/* Mirrored by `RawSums` in src/block.rs. */
struct block_sums {
	u64 requests;
	u64 errors;
	u64 bytes;
	u64 latency_ns;
	u32 buckets[BUCKETS];
	char disk[DISK_NAME_LEN];
};

SUMS_TABLE(REQUESTS, struct block_key, struct block_sums, 8192, 0)

SEC("tp_btf/block_rq_complete") int block_complete(u64 *ctx)
{
	struct request *rq = (void *)ctx[0];
	u32 error = ctx[1], bytes = ctx[2];
	struct block_sums *sums;
	struct gendisk *disk = BPF_CORE_READ(rq, q, disk);
	struct bio *bio = rq->bio;
	struct block_key key;
	u64 took_ns;

	if (!disk)
		return 0; /* a command of a driver */
	ZERO(key);
	key.major = BPF_CORE_READ(disk, major);
	key.minor = BPF_CORE_READ(disk, first_minor);
	key.operation = rq->cmd_flags & OPERATION_MASK;
	if (bio)
		key.cgroup = BPF_CORE_READ(bio, bi_blkg, blkcg, css.cgroup, kn, id);
	sums = REQUESTS_entry(&key);
	if (!sums) {
		lost(LOST_TABLE_FULL);
		return 0;
	}
	if (!sums->disk[0])
		bpf_core_read_str(sums->disk, sizeof(sums->disk), &disk->disk_name);
	__sync_fetch_and_add(&sums->bytes, bytes);
	if (bytes < rq->__data_len)
		return 0; /* a part of it */
	__sync_fetch_and_add(&sums->requests, 1);
	if (error)
		__sync_fetch_and_add(&sums->errors, 1);
	if (!rq->start_time_ns) {
		lost(LOST_UNSTAMPED);
		return 0;
	}
	took_ns = bpf_ktime_get_ns() - rq->start_time_ns;
	__sync_fetch_and_add(&sums->latency_ns, took_ns);
	__sync_fetch_and_add(&sums->buckets[bucket_of(took_ns)], 1);
	return 0;
}
