//! Which group a key belongs to.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arrow::array::{Array, ArrayRef};
use datafusion::{
    common::{Result, internal_err},
    execution::memory_pool::MemoryReservation,
    logical_expr::EmitTo,
    physical_plan::aggregates::group_values::GroupValues,
};

/// Orders that are known again: those of the collectors, of sorted batches, and of states, of a few tables.
const ORDERS: usize = 12;

/// Keys that came again and again in the same order, and what became of them: series are many, their orders few, and to
/// compare an order costs a hundredth of looking up its keys.
#[derive(Debug)]
pub(super) struct Orders {
    /// The last one was of use last.
    known: Mutex<VecDeque<Order>>,
    /// `None`: nothing is kept.
    memory: Option<MemoryReservation>,
    most_bytes: usize,
}

#[derive(Debug)]
struct Order {
    /// Distinct.
    base: ArrayRef,
    keys: ArrayRef,
    /// The place of each of `keys` in `base`.
    places: Arc<[usize]>,
    bytes: usize,
}

fn same(a: &ArrayRef, b: &ArrayRef) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

impl Orders {
    /// Never more than `most_bytes`, and that only as far as the pool behind `memory` grants it.
    pub(super) fn new(memory: MemoryReservation, most_bytes: usize) -> Self {
        Self { known: Mutex::default(), memory: Some(memory), most_bytes }
    }

    /// For keys that will not come again.
    pub(super) fn none() -> Arc<Self> {
        Arc::new(Self { known: Mutex::default(), memory: None, most_bytes: 0 })
    }

    fn known(&self) -> MutexGuard<'_, VecDeque<Order>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same keys, if they are known to be distinct.
    fn distinct(&self, keys: &ArrayRef) -> Option<ArrayRef> {
        let known = self.known();
        known.iter().rev().map(|o| &o.base).find(|base| same(base, keys)).cloned()
    }

    fn places(&self, base: &ArrayRef, keys: &ArrayRef) -> Option<Arc<[usize]>> {
        let mut known = self.known();
        let at = known.iter().rposition(|o| same(&o.base, base) && same(&o.keys, keys))?;
        let order = known.remove(at)?;
        let places = order.places.clone();
        known.push_back(order);
        Some(places)
    }

    fn put(&self, base: &ArrayRef, keys: &ArrayRef, places: &Arc<[usize]>) {
        let Some(memory) = &self.memory else { return };
        let bytes = base.get_array_memory_size()
            + keys.get_array_memory_size()
            + size_of_val::<[usize]>(places);
        if bytes > self.most_bytes {
            return;
        }
        let mut known = self.known();
        while (known.len() >= ORDERS || memory.size() + bytes > self.most_bytes)
            && let Some(oldest) = known.pop_front()
        {
            memory.shrink(oldest.bytes);
        }
        if memory.try_grow(bytes).is_ok() {
            let (base, keys, places) = (base.clone(), keys.clone(), places.clone());
            known.push_back(Order { base, keys, places, bytes });
        }
    }
}

/// Numbers the keys of one aggregation.
pub(super) struct Keys {
    /// Distinct keys that are the groups, in this order, until another one comes.
    base: Option<ArrayRef>,
    /// All groups, or none while the base is enough.
    table: Box<dyn GroupValues>,
    orders: Arc<Orders>,
}

impl Keys {
    pub(super) fn new(table: Box<dyn GroupValues>, orders: Arc<Orders>) -> Self {
        Self { base: None, table, orders }
    }

    pub(super) fn len(&self) -> usize {
        self.base.as_ref().map_or(self.table.len(), |base| base.len())
    }

    pub(super) fn bytes(&self) -> usize {
        self.base.as_ref().map_or(0, |base| base.get_array_memory_size()) + self.table.size()
    }

    /// The group of every key; new ones get the next numbers.
    pub(super) fn groups_of(
        &mut self,
        keys: &ArrayRef,
        are_distinct: bool,
    ) -> Result<Arc<[usize]>> {
        let was_empty = self.len() == 0;
        if was_empty {
            self.base = match are_distinct {
                true => Some(keys.clone()),
                false => self.orders.distinct(keys),
            };
        }
        let Some(base) = self.base.clone() else {
            let groups = self.look_up(keys)?;
            if was_empty && groups.len() == self.table.len() {
                // Each was new.
                self.base = Some(keys.clone());
                self.orders.put(keys, keys, &groups);
            }
            return Ok(groups);
        };
        if same(&base, keys) {
            return Ok((0..keys.len()).collect());
        }
        if let Some(groups) = self.orders.places(&base, keys) {
            return Ok(groups);
        }
        if self.table.is_empty() {
            self.look_up(&base)?;
        }
        let groups = self.look_up(keys)?;
        match self.table.len() == base.len() {
            true => self.orders.put(&base, keys, &groups),
            false => self.base = None,
        }
        Ok(groups)
    }

    fn look_up(&mut self, keys: &ArrayRef) -> Result<Arc<[usize]>> {
        let mut groups = Vec::new();
        self.table.intern(std::slice::from_ref(keys), &mut groups)?;
        Ok(groups.into())
    }

    /// The keys of all groups; none are left.
    pub(super) fn take(&mut self) -> Result<ArrayRef> {
        // Also where the base is the answer: nothing else makes the table forget a NULL.
        let all = match (&self.base, self.table.is_empty()) {
            (Some(_), true) => Vec::new(),
            _ => self.table.emit(EmitTo::All)?,
        };
        self.table.clear_shrink(0);
        match (self.base.take(), &all[..]) {
            (Some(base), _) => Ok(base),
            (None, [keys]) => Ok(keys.clone()),
            _ => internal_err!("groups by one column"),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::{
        array::Int64Array,
        datatypes::{DataType, Field, Schema},
    };
    use datafusion::{
        execution::memory_pool::{MemoryConsumer, MemoryPool, UnboundedMemoryPool},
        physical_plan::aggregates::{group_values::new_group_values, order::GroupOrdering},
    };
    use proptest::prelude::*;

    use super::*;

    fn keys(orders: &Arc<Orders>) -> Keys {
        let schema = Schema::new(vec![Field::new("key", DataType::Int64, true)]);
        let table = new_group_values(Arc::new(schema), &GroupOrdering::None).unwrap();
        Keys::new(table, orders.clone())
    }

    fn batch() -> impl Strategy<Value = Vec<Option<i64>>> {
        prop_oneof![
            Just((0..6).map(Some).collect()),
            Just((0..6).rev().map(Some).collect()),
            Just((2..8).map(Some).collect()),
            proptest::collection::vec(proptest::option::of(0..8_i64), 1..8),
        ]
    }

    proptest! {
        #[test]
        fn known_orders_change_no_group(runs in proptest::collection::vec(
            proptest::collection::vec(batch(), 0..5), 1..8),
            most in prop_oneof![Just(0_usize), Just(2_000), Just(usize::MAX)],
        ) {
            let pool: Arc<dyn MemoryPool> = Arc::new(UnboundedMemoryPool::default());
            let orders = Arc::new(Orders::new(MemoryConsumer::new("orders").register(&pool), most));
            // Of several states, one after the other, as suffixes are made.
            let (mut with, mut without) = (keys(&orders), keys(&Orders::none()));
            for run in runs {
                let mut seen: Vec<Option<i64>> = Vec::new();
                for batch in run {
                    let array: ArrayRef = Arc::new(Int64Array::from(batch.clone()));
                    let mut once = batch.clone();
                    once.sort_unstable();
                    once.dedup();
                    let are_distinct = once.len() == batch.len();
                    let expected: Vec<usize> = batch
                        .iter()
                        .map(|key| {
                            let at = seen.iter().position(|s| s == key);
                            at.unwrap_or_else(|| {
                                seen.push(*key);
                                seen.len() - 1
                            })
                        })
                        .collect();
                    prop_assert_eq!(&with.groups_of(&array, are_distinct).unwrap()[..], &expected[..]);
                    prop_assert_eq!(&without.groups_of(&array, false).unwrap()[..], &expected[..]);
                    prop_assert_eq!(with.len(), seen.len());
                }
                let all: ArrayRef = Arc::new(Int64Array::from(seen));
                prop_assert_eq!(&with.take().unwrap(), &all);
                prop_assert_eq!((&without.take().unwrap(), with.len()), (&all, 0));
            }
            let bytes: usize = orders.known().iter().map(|o| o.bytes).sum();
            prop_assert!(orders.known().len() <= ORDERS && bytes <= most);
            prop_assert_eq!(pool.reserved(), bytes);
        }
    }
}
