//! A table of counters that the kernel only ever adds to, read as what was added since the last time.
//!
//! Nothing is taken out while it counts, so nothing is lost between reading and taking out.

use std::{collections::HashMap as Map, hash::Hash};

use aya::{
    Pod,
    maps::{HashMap, MapData, MapError},
};

use crate::object::{Loading, Loss, NotLoaded, Object, ReadError, Source};

/// An entry that did not change for so many drains may be removed if places get rare.
const IDLE_DRAINS: u32 = 600;

/// An object whose one table is all that is read of it.
#[derive(Debug)]
pub(crate) struct Table<K: Pod, V: Pod> {
    object: Object,
    counters: Counters<K, V>,
}

impl<K: Pod + Eq + Hash, V: Delta> Table<K, V> {
    /// `what` names the entries in errors. `None` if no program of the object could be loaded; `missing` says why.
    pub(crate) fn load(
        source: &'static Source,
        (map, places): (&'static str, u32),
        what: &'static str,
        loading: &Loading<'_>,
        missing: &mut Vec<NotLoaded>,
    ) -> Result<Option<Self>, String> {
        let Some(mut object) = Object::load(source, loading, &[(map, places)], missing) else {
            return Ok(None);
        };
        let counters = Counters::new(object.map(map)?, places, what);
        Ok(Some(Self { object, counters }))
    }

    /// Tells every entry that changed.
    pub(crate) fn drain(&mut self, told: impl FnMut(&K, V)) -> Result<(), ReadError> {
        self.counters.drain(told)?;
        self.counters.make_room();
        Ok(())
    }

    pub(crate) fn losses(&self) -> Result<Vec<Loss>, ReadError> {
        self.object.losses()
    }
}

/// Counters of one entry.
pub(crate) trait Delta: Pod + PartialEq {
    /// What was added since `before`; what is not a counter is as it is now.
    fn since(&self, before: &Self) -> Self;
}

#[derive(Debug)]
struct Seen<V> {
    value: V,
    idle: u32,
}

/// A table and what of it was told.
#[derive(Debug)]
pub(crate) struct Counters<K: Pod, V: Pod> {
    kernel: HashMap<MapData, K, V>,
    seen: Map<K, Seen<V>>,
    places: usize,
    what: &'static str,
}

impl<K: Pod + Eq + Hash, V: Delta> Counters<K, V> {
    /// `what` names the entries in errors.
    pub(crate) fn new(kernel: HashMap<MapData, K, V>, places: u32, what: &'static str) -> Self {
        Self { kernel, seen: Map::new(), places: places as usize, what }
    }

    /// Tells every entry that changed.
    pub(crate) fn drain(&mut self, mut told: impl FnMut(&K, V)) -> Result<(), ReadError> {
        let error = |e: MapError| ReadError::new(self.what, e);
        self.seen.values_mut().for_each(|s| s.idle += 1);
        // A key that is removed while the table is walked sends the walk back to the start: bounded.
        for key in self.kernel.keys().take(2 * self.places) {
            let key = key.map_err(error)?;
            let now = match self.kernel.get(&key, 0) {
                Ok(now) => now,
                Err(MapError::KeyNotFound) => continue,
                Err(e) => return Err(error(e)),
            };
            match self.seen.get_mut(&key) {
                Some(seen) if seen.value == now => {}
                Some(seen) => {
                    told(&key, now.since(&seen.value));
                    *seen = Seen { value: now, idle: 0 };
                }
                None => {
                    told(&key, now);
                    self.seen.insert(key, Seen { value: now, idle: 0 });
                }
            }
        }
        Ok(())
    }

    /// If three quarters of the places are taken, entries that did not change for ten minutes go. What is counted in the
    /// very moment is lost with its entry. Answers whether it removed any.
    pub(crate) fn make_room(&mut self) -> bool {
        if self.seen.len() <= self.places / 4 * 3 {
            return false;
        }
        let before = self.seen.len();
        let kernel = &mut self.kernel;
        self.seen.retain(|key, seen| {
            let keep =
                seen.idle < IDLE_DRAINS || kernel.get(key, 0).is_ok_and(|now| now != seen.value);
            if !keep {
                // It may be gone by itself.
                let _ = kernel.remove(key);
            }
            keep
        });
        self.seen.len() < before
    }

    /// The entries that were told and not removed.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.seen.keys()
    }
}
