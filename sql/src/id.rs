//! Identities: series ids and the ids of derived rows. Both are pure functions of what they name (T6).

use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};
use xxhash_rust::xxh3::xxh3_64;

/// What makes a series itself: its labels including the incarnation.
///
/// Empty strings stand for "not known". Two lives of one workload differ in `incarnation`
/// (and `boot_id`, `pod_uid`, `container_id`) and share [`SeriesIdentity::workload_id`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct SeriesIdentity {
    pub kind: String,
    pub cluster: String,
    pub node: String,
    pub boot_id: String,
    pub namespace: String,
    pub workload: String,
    pub pod: String,
    pub pod_uid: String,
    pub container: String,
    pub container_id: String,
    pub unit: String,
    pub cgroup: String,
    pub comm: String,
    pub mount_point: String,
    pub path: String,
    pub incarnation: String,
}

impl SeriesIdentity {
    /// The id of this life.
    pub fn series_id(&self) -> i64 {
        self.hashed(&[
            &self.kind,
            &self.cluster,
            &self.node,
            &self.boot_id,
            &self.namespace,
            &self.workload,
            &self.pod,
            &self.pod_uid,
            &self.container,
            &self.container_id,
            &self.unit,
            &self.cgroup,
            &self.comm,
            &self.incarnation,
        ])
    }

    /// The id that all lives share: without boot, pod uid, container id and incarnation,
    /// and without the cgroup path where a pod or a unit names the workload.
    pub fn workload_id(&self) -> i64 {
        let named = !self.workload.is_empty() || !self.pod.is_empty() || !self.unit.is_empty();
        self.hashed(&[
            &self.kind,
            &self.cluster,
            &self.node,
            &self.namespace,
            &self.workload,
            if self.workload.is_empty() { &self.pod } else { "" },
            &self.container,
            &self.unit,
            if named { "" } else { &self.cgroup },
            &self.comm,
        ])
    }

    /// Mount point and path count where there is one, so that ids of everything else are what they were before them. No
    /// kind has both.
    fn hashed(&self, parts: &[&str]) -> i64 {
        let places = [&self.mount_point, &self.path].into_iter().filter(|p| !p.is_empty());
        let parts: Vec<&str> = parts.iter().copied().chain(places.map(String::as_str)).collect();
        series_id(&parts)
    }
}

/// Signed 64-bit XXH3 of the parts, each preceded by its length so that no two lists collide by concatenation.
pub fn series_id(parts: &[&str]) -> i64 {
    xxh3_64(&framed(parts)).cast_signed()
}

/// UUIDv8 (RFC 9562 §5.8) over SHA-256 of the parts: the id of an event by its source's identity,
/// or of a prediction or insight by pattern, subject and window.
pub fn derived_id(parts: &[&str]) -> String {
    let digest = Sha256::digest(framed(parts));
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    let id: Uuid = Builder::from_custom_bytes(bytes).into_uuid();
    id.to_string()
}

fn framed(parts: &[&str]) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(parts.iter().map(|p| p.len() + 4).sum());
    for p in parts {
        buffer.extend_from_slice(&(p.len() as u32).to_le_bytes());
        buffer.extend_from_slice(p.as_bytes());
    }
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_do_not_collide_by_concatenation_and_stay_what_they_were() {
        assert_ne!(series_id(&["ab", "c"]), series_id(&["a", "bc"]));
        assert_eq!(derived_id(&["a"]), derived_id(&["a"]));
        // Pinned: stored rows carry these ids, so a change of the hash would orphan them.
        assert_eq!(derived_id(&["memory_leak_oom", "7", "1000"]).as_bytes()[14], b'8');
        assert_eq!(series_id(&["node", "n1"]), PINNED);
    }
    const PINNED: i64 = 8_183_217_527_686_615_931;

    #[test]
    fn lives_of_one_workload_share_the_workload_id() {
        let a = SeriesIdentity {
            kind: "cgroup".into(),
            node: "n".into(),
            boot_id: "b1".into(),
            cgroup: "/jobs/etl".into(),
            incarnation: "17".into(),
            ..Default::default()
        };
        let b = SeriesIdentity { boot_id: "b2".into(), incarnation: "18".into(), ..a.clone() };
        assert_ne!(a.series_id(), b.series_id());
        assert_eq!(a.workload_id(), b.workload_id());
        // Two files are two things.
        let c = SeriesIdentity { path: "/etc/a.crt".into(), ..a.clone() };
        let d = SeriesIdentity { path: "/etc/b.crt".into(), ..a.clone() };
        assert_ne!(c.workload_id(), a.workload_id());
        assert_ne!(c.workload_id(), d.workload_id());
    }
}
