//! Plans of relations that wait for their next run.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use arrow::array::RecordBatch;
use tokio::sync::OnceCell;

use super::{bind::Values, planned::Planned};

/// Plans that are kept; the one that waited longest goes first.
const KEPT: usize = 32;

/// A relation and the values of its parameters, `as_of` not among them.
pub(super) type Key = (String, Values);

/// Plans by what they were planned for.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: Mutex<VecDeque<(Key, Arc<Planned>)>>,
}

impl Pool {
    fn idle(&self) -> MutexGuard<'_, VecDeque<(Key, Arc<Planned>)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A plan that waits for a run, if there is one.
    pub(super) fn take(&self, key: &Key) -> Option<Arc<Planned>> {
        let mut idle = self.idle();
        let newest = idle.iter().rposition(|(k, _)| k == key)?;
        idle.remove(newest).map(|(_, planned)| planned)
    }

    fn put(&self, key: Key, planned: Arc<Planned>) {
        let mut idle = self.idle();
        if idle.len() >= KEPT {
            idle.pop_front();
        }
        idle.push_back((key, planned));
    }
}

/// A plan that belongs to one statement until the statement ends.
#[derive(Debug)]
pub(super) struct Lease {
    planned: Arc<Planned>,
    as_of: i64,
    rows: OnceCell<Vec<RecordBatch>>,
    key: Key,
    pool: Weak<Pool>,
}

impl Lease {
    pub(super) fn new(planned: Arc<Planned>, as_of: i64, key: Key, pool: &Arc<Pool>) -> Self {
        Self { planned, as_of, rows: OnceCell::new(), key, pool: Arc::downgrade(pool) }
    }

    pub(super) fn planned(&self) -> &Planned {
        &self.planned
    }

    /// The time that the statement asks about (µs).
    pub(super) fn as_of(&self) -> i64 {
        self.as_of
    }

    /// The rows as of that time, once they are computed.
    pub(super) fn rows(&self) -> &OnceCell<Vec<RecordBatch>> {
        &self.rows
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.planned.clock().clear();
        if !self.planned.clock().is_once_only()
            && let Some(pool) = self.pool.upgrade()
        {
            pool.put(self.key.clone(), self.planned.clone());
        }
    }
}
