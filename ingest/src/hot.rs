//! Rows that are acknowledged but not yet in a file.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tapio_sql::{TableBatch, TableDef, catalog};
use tapio_store::{HotBatch, sort_rows};

use crate::rows::bytes_of;

/// So many chunks of one tier become one of the next, so that a query meets few batches and a row is copied seldom.
const MERGE: usize = 16;
/// Tiers: single appends, 16 of them, 256 of them. Chunks of the last stay.
const TIERS: u8 = 3;

#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub hot: HotBatch,
    pub bytes: usize,
    tier: u8,
}

#[derive(Debug)]
struct TableHot {
    def: Arc<TableDef>,
    /// What a flush has taken; never merged with later rows, so that no batch straddles a commit.
    sealed: Vec<Chunk>,
    open: Vec<Chunk>,
}

#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<String, TableHot>,
    last_seq: i64,
    through_us: Option<i64>,
    rows: usize,
    bytes: usize,
    generation: u64,
}

/// The hot buffer; rows enter in the order of their sequence.
#[derive(Debug, Default)]
pub(crate) struct Hot {
    state: Mutex<State>,
}

/// What a flush works on.
#[derive(Debug, Default)]
pub(crate) struct Sealed {
    /// All rows up to this sequence are sealed or in files.
    pub last_seq: i64,
    pub tables: Vec<(Arc<TableDef>, Vec<Chunk>)>,
}

impl Hot {
    fn with<T: Default>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        // A poisoned lock means that a merge panicked, which happens on copies: the state is whole.
        f(&mut self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub(crate) fn insert(&self, seq: i64, batches: Vec<TableBatch>, through_us: Option<i64>) {
        self.with(|s| {
            for b in batches {
                if b.num_rows() == 0 {
                    continue;
                }
                let bytes = bytes_of(b.batch());
                s.rows += b.num_rows();
                s.bytes += bytes;
                let name = b.def().name.clone();
                let table = s.tables.entry(name).or_insert_with(|| TableHot {
                    def: b.def().clone(),
                    sealed: Vec::new(),
                    open: Vec::new(),
                });
                let hot = HotBatch::new(seq, seq, b.into_batch());
                table.open.push(Chunk { hot, bytes, tier: 0 });
            }
            s.last_seq = s.last_seq.max(seq);
            s.through_us = s.through_us.max(through_us);
        });
    }

    pub(crate) fn batches(&self, table: &str) -> Vec<HotBatch> {
        self.with(|s| {
            let Some(t) = s.tables.get(table) else { return Vec::new() };
            t.sealed.iter().chain(&t.open).map(|c| c.hot.clone()).collect()
        })
    }

    pub(crate) fn through_us(&self) -> Option<i64> {
        self.with(|s| s.through_us)
    }

    /// Rows and bytes held.
    pub(crate) fn size(&self) -> (usize, usize) {
        self.with(|s| (s.rows, s.bytes))
    }

    /// Takes everything for a flush; it stays visible until [`Hot::drop_through`].
    pub(crate) fn seal(&self) -> Sealed {
        self.with(|s| {
            s.generation += 1;
            let mut tables = Vec::new();
            for t in s.tables.values_mut() {
                t.sealed.append(&mut t.open);
                if !t.sealed.is_empty() {
                    tables.push((t.def.clone(), t.sealed.clone()));
                }
            }
            Sealed { last_seq: s.last_seq, tables }
        })
    }

    /// The rows of `table` up to `seq` are in files.
    pub(crate) fn drop_through(&self, table: &str, seq: i64) {
        self.with(|s| {
            let Some(t) = s.tables.get_mut(table) else { return };
            let (rows, bytes) = (&mut s.rows, &mut s.bytes);
            t.sealed.retain(|c| {
                let gone = c.hot.last_seq <= seq;
                if gone {
                    *rows -= c.hot.batch.num_rows();
                    *bytes -= c.bytes;
                }
                !gone
            });
        });
    }

    /// Everything up to this sequence has left the buffer.
    pub(crate) fn released_through(&self) -> i64 {
        self.with(|s| {
            let first = s.tables.values().flat_map(|t| t.sealed.iter().chain(&t.open));
            first.map(|c| c.hot.first_seq - 1).min().unwrap_or(s.last_seq)
        })
    }

    /// Merges small chunks. Done on copies, so that queries and appends do not wait.
    pub(crate) fn coalesce(&self) {
        for tier in 0..TIERS - 1 {
            while self.coalesce_one(tier) {}
        }
    }

    fn coalesce_one(&self, tier: u8) -> bool {
        let found = self.with(|s| {
            let generation = s.generation;
            s.tables.values().find_map(|t| {
                let at = t.open.iter().position(|c| c.tier == tier)?;
                let run: Vec<Chunk> = t.open.get(at..at + MERGE)?.to_vec();
                run.iter().all(|c| c.tier == tier).then(|| (generation, t.def.clone(), at, run))
            })
        });
        let Some((generation, def, at, run)) = found else { return false };
        let batches: Vec<_> = run.iter().map(|c| c.hot.batch.clone()).collect();
        let merged = match sort_rows(&def, &batches) {
            Ok(batch) => batch,
            Err(e) => {
                // They stay as they are: more batches for a query, the same rows.
                tracing::warn!("cannot merge hot rows: {e}");
                return false;
            }
        };
        let chunk = Chunk {
            bytes: bytes_of(&merged),
            tier: tier + 1,
            hot: HotBatch::new(run[0].hot.first_seq, run[run.len() - 1].hot.last_seq, merged),
        };
        self.with(|s| {
            let Some(t) = s.tables.get_mut(&def.name) else { return false };
            if s.generation != generation {
                return false;
            }
            let old: usize = run.iter().map(|c| c.bytes).sum();
            s.bytes = s.bytes + chunk.bytes - old;
            t.open.splice(at..at + MERGE, [chunk]);
            true
        })
    }

    /// Sets what recovery knows when no row came back.
    pub(crate) fn start_at(&self, seq: i64) {
        self.with(|s| s.last_seq = s.last_seq.max(seq));
    }
}

/// The table of that name, for rows that come back from the log.
pub(crate) fn table_def(name: &str) -> Option<Arc<TableDef>> {
    catalog().get(name).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Health, Severity};

    fn row(i: i64) -> TableBatch {
        let h = Health::default();
        h.count("test", "n", i + 1, Severity::Info, format!("row {i}"));
        h.drain("n", i * 1_000).unwrap()
    }

    #[test]
    fn small_batches_become_few_and_never_straddle_a_seal() {
        let hot = Hot::default();
        for i in 0..300 {
            hot.insert(i + 1, vec![row(i)], Some(i));
            hot.coalesce();
            if i == 99 {
                assert_eq!(hot.seal().last_seq, 100);
            }
        }
        let batches = hot.batches("health");
        assert!(batches.len() < 40, "{}", batches.len());
        assert_eq!(batches.iter().map(|b| b.batch.num_rows()).sum::<usize>(), 300);
        assert!(batches.iter().all(|b| b.last_seq <= 100 || b.first_seq > 100));
        let mut at = 0;
        for b in &batches {
            assert_eq!(b.first_seq, at + 1);
            at = b.last_seq;
        }
        hot.drop_through("health", 100);
        assert_eq!(hot.size().0, 200);
        assert_eq!(hot.released_through(), 100);
        hot.seal();
        hot.drop_through("health", 300);
        assert_eq!(hot.size(), (0, 0));
        assert_eq!(hot.through_us(), Some(299));
    }
}
