//! What a prediction is about: where its level and its limit are stored, and how a sentence calls them.

use crate::model::Resources;

/// One kind of finite resource, by the `type` of its predictions (DESIGN §7). `cert_expiry` is none: it has a date, and
/// neither level nor limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// The type: `oom`, `disk_full`, `inodes`, `pids`, `fds` or `heap`.
    pub kind: &'static str,
    /// The table that its rows are in.
    table: &'static str,
    /// What is in use, as SQL over that table.
    level: &'static str,
    /// What there is, as SQL over that table.
    limit: &'static str,
    /// What runs out, without article.
    pub noun: &'static str,
    /// What the subject does: "Pod will …".
    pub verb: &'static str,
    /// Heads the column of its level.
    pub title: &'static str,
    /// Heads the column of its ETA.
    pub eta_title: &'static str,
    /// What has happened when level meets limit; the subject follows.
    pub happened: &'static str,
}

const MEASURES: [Measure; 6] = [
    Measure {
        kind: "oom",
        table: "resources",
        // The subject's own limit is reached when headroom is gone, here or in a cgroup above.
        level: "memory_limit_bytes - memory_headroom_bytes",
        limit: "memory_limit_bytes",
        noun: "OOM",
        verb: "OOM",
        title: "MEMORY / LIMIT",
        eta_title: "OOM IN",
        happened: "the kernel killed a process for lack of memory in",
    },
    Measure {
        kind: "disk_full",
        table: "disks",
        level: "used_bytes",
        // Less than 64 KiB are none, as in `tapio_exhaustion`.
        limit: "used_bytes + available_bytes - 65536",
        noun: "full disk",
        verb: "be full",
        title: "USED / SIZE",
        eta_title: "FULL IN",
        happened: "nothing can be written any more to",
    },
    Measure {
        kind: "inodes",
        table: "disks",
        level: "inodes_used",
        limit: "inodes_limit",
        noun: "shortage of inodes",
        verb: "run out of inodes",
        title: "INODES / LIMIT",
        eta_title: "NONE LEFT IN",
        happened: "no file can be made any more in",
    },
    Measure {
        kind: "pids",
        table: "resources",
        level: "pids",
        limit: "pids_limit",
        noun: "shortage of pids",
        verb: "run out of pids",
        title: "PIDS / LIMIT",
        eta_title: "NONE LEFT IN",
        happened: "no process can be started any more in",
    },
    Measure {
        kind: "fds",
        table: "resources",
        level: "fds",
        limit: "fds_limit",
        noun: "shortage of file descriptors",
        verb: "run out of file descriptors",
        title: "FDS / LIMIT",
        eta_title: "NONE LEFT IN",
        happened: "no file can be opened any more by",
    },
    Measure {
        kind: "heap",
        table: "resources",
        // How full the heap itself is only the runtime knows.
        level: "memory_rss_bytes",
        limit: "heap_limit_bytes",
        noun: "full heap",
        verb: "fill its heap",
        title: "MEMORY / HEAP LIMIT",
        eta_title: "FULL IN",
        happened: "memory has reached the heap limit of",
    },
];

impl Measure {
    /// That of memory.
    pub const OOM: Self = MEASURES[0];

    /// The one that predictions of this type are about.
    pub fn of(kind: &str) -> Option<Self> {
        MEASURES.into_iter().find(|m| m.kind == kind)
    }

    /// Level and limit of a series as `ts`, `level`, `most`, in order of time, from `since` (RFC 3339) on.
    pub fn sql(&self, series_id: i64, since: Option<&str>) -> String {
        let Self { table, level, limit, .. } = self;
        let since = since.map(|t| format!(" AND ts >= TIMESTAMP '{t}'")).unwrap_or_default();
        format!(
            "SELECT ts, {level} AS level, {limit} AS most FROM {table} WHERE series_id = {series_id} \
             AND {level} IS NOT NULL AND {limit} IS NOT NULL{since} ORDER BY ts"
        )
    }

    /// Level and limit now.
    pub fn now(&self, r: &Resources) -> Option<(i64, i64)> {
        match self.kind {
            "oom" => r.memory_limit_bytes.zip(r.memory_headroom_bytes).map(|(l, h)| (l - h, l)),
            "disk_full" => r
                .disk_used_bytes
                .zip(r.disk_available_bytes)
                .map(|(used, free)| (used, used + free)),
            "inodes" => r.inodes_used.zip(r.inodes_limit),
            "pids" => r.pids.zip(r.pids_limit),
            "heap" => r.memory_rss_bytes.zip(r.heap_limit_bytes),
            _ => r.fds.zip(r.fds_limit),
        }
    }
}
