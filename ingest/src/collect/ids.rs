//! Who is who: series ids, collisions, which labels are stored already.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use tapio_sql::SeriesIdentity;

use super::{Attribution, sample::Series};
use crate::{Health, Severity};

/// The series that are alive, and what is true of all of them.
#[derive(Debug)]
pub(crate) struct Ids {
    pub node: String,
    pub cluster: String,
    pub boot_id: String,
    pub health: Arc<Health>,
    live: HashMap<i64, Series>,
    announced: HashSet<i64>,
}

impl Ids {
    pub(crate) fn new(node: String, cluster: String, boot_id: String, health: Arc<Health>) -> Self {
        Self { node, cluster, boot_id, health, live: HashMap::new(), announced: HashSet::new() }
    }

    /// An identity on this node.
    pub(crate) fn identity(&self, kind: &str) -> SeriesIdentity {
        SeriesIdentity {
            kind: kind.to_owned(),
            cluster: self.cluster.clone(),
            node: self.node.clone(),
            boot_id: self.boot_id.clone(),
            ..SeriesIdentity::default()
        }
    }

    /// The identity of a cgroup of the memory controller.
    pub(crate) fn of_cgroup(&self, a: &Attribution, path: &str, inode: u64) -> SeriesIdentity {
        SeriesIdentity {
            pod_uid: a.pod_uid.clone(),
            container_id: a.container_id.clone(),
            unit: a.unit.clone(),
            cgroup: path.to_owned(),
            incarnation: inode.to_string(),
            ..self.identity(a.kind)
        }
    }

    /// The id of a new series; `None` if another living one has the same: its rows are dropped rather than mixed.
    pub(crate) fn register(&mut self, series: Series) -> Option<i64> {
        let id = series.identity.series_id();
        if let Some(other) = self.live.get(&id)
            && other.identity != series.identity
        {
            let detail = format!(
                "{} {} and {} {} hash to the series id {id}; rows of the latter are dropped",
                other.identity.kind,
                other.identity.cgroup,
                series.identity.kind,
                series.identity.cgroup
            );
            tracing::error!("{detail}");
            self.health.count("collector", "series_collisions", 1, Severity::Error, detail);
            return None;
        }
        self.live.insert(id, series);
        Some(id)
    }

    /// The series ended; were it to come back, it would be told again.
    pub(crate) fn retire(&mut self, id: i64) {
        self.live.remove(&id);
        self.announced.remove(&id);
    }

    /// Labels that have not been told yet, by id.
    pub(crate) fn fresh(&mut self) -> Vec<Series> {
        let mut ids: Vec<i64> =
            self.live.keys().filter(|id| !self.announced.contains(id)).copied().collect();
        ids.sort_unstable();
        self.announced.extend(&ids);
        ids.iter().filter_map(|id| self.live.get(id).cloned()).collect()
    }

    /// The labels of all living series are told again.
    pub(crate) fn forget_announced(&mut self) {
        self.announced.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collision_is_dropped_and_counted() {
        let health = Arc::new(Health::default());
        let mut ids = Ids::new("n".into(), String::new(), "b".into(), health.clone());
        let a = Series { identity: ids.identity("cgroup"), ..Series::default() };
        let id = ids.register(a.clone()).unwrap();
        assert_eq!(ids.register(a.clone()), Some(id));
        // Another identity under the same id, as a collision would have it.
        let mut other = a.clone();
        other.identity.cgroup = "/other".into();
        ids.live.insert(id, other);
        assert_eq!(ids.register(a), None);
        assert_eq!(health.value("collector", "series_collisions"), 1);
        assert_eq!(ids.fresh().len(), 1);
        assert!(ids.fresh().is_empty());
        ids.forget_announced();
        assert_eq!(ids.fresh().len(), 1);
    }
}
