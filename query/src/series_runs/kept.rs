//! States that are kept between the runs of a plan.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use arrow::array::{Array, ArrayRef};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};

use super::{keys::Orders, question::Question, suffixes::Suffixes};

/// Questions that are remembered; the one that was not asked for the longest time goes first.
const QUESTIONS: usize = 64;
/// Orders of keys may take this share of all.
const ORDERS_SHARE: usize = 16;
/// A question that was not asked while so many others were gives its memory to one that is asked; suffixes that were of no
/// use for so long are dropped.
const STALE: u64 = 64;

/// What a first stage makes of the rows of hot batches.
#[derive(Debug)]
pub(super) struct State {
    /// Distinct.
    pub(super) keys: ArrayRef,
    /// For each aggregate of the question the columns of its state, as long as `keys`.
    pub(super) columns: Vec<Vec<ArrayRef>>,
}

impl State {
    pub(super) fn bytes(&self) -> usize {
        let columns = self.columns.iter().flatten().chain([&self.keys]);
        columns.map(|c| c.get_array_memory_size()).sum()
    }
}

/// Names a question that is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Name(u64);

/// States by question and hot batch, in bounded memory. What was made of a batch goes when the batch goes.
#[derive(Debug)]
pub(crate) struct Kept {
    inner: Mutex<Inner>,
    most_bytes: usize,
    orders: Arc<Orders>,
}

#[derive(Debug)]
struct Inner {
    /// The last one was asked last.
    questions: VecDeque<Remembered>,
    asked: u64,
    states: HashMap<(Name, usize), Entry<State>>,
    /// Of batches that lie across a border of the times.
    /// With the question at which they were of use last.
    suffixes: HashMap<(Name, usize), (u64, Entry<Suffixes>)>,
    /// States of several batches, merged: the first that counted in an earlier run.
    merged: HashMap<Name, Entry<State>>,
    /// Of all states.
    memory: MemoryReservation,
}

#[derive(Debug)]
struct Remembered {
    question: Question,
    name: Name,
    asked_at: u64,
}

#[derive(Debug)]
struct Entry<T> {
    /// While they are here, no other batch has their addresses.
    tokens: Vec<Weak<()>>,
    state: Arc<T>,
    bytes: usize,
}

impl Inner {
    /// `gone`: by question and batches.
    fn drop_states(&mut self, gone: impl Fn(&Name, &[Weak<()>]) -> bool) {
        let memory = &self.memory;
        let stays = |name: &Name, tokens: &[Weak<()>], bytes: usize| {
            let gone = gone(name, tokens);
            if gone {
                memory.shrink(bytes);
            }
            !gone
        };
        self.states.retain(|(name, _), e| stays(name, &e.tokens, e.bytes));
        self.suffixes.retain(|(name, _), (used_at, e)| {
            let unused = *used_at + STALE < self.asked;
            if unused {
                memory.shrink(e.bytes);
            }
            !unused && stays(name, &e.tokens, e.bytes)
        });
        self.merged.retain(|name, e| stays(name, &e.tokens, e.bytes));
    }

    /// Takes so many bytes, if need be from questions that nobody asks any more; `None` if they cannot be had.
    fn make_room(&mut self, bytes: usize, most_bytes: usize) -> Option<usize> {
        while self.memory.size() + bytes > most_bytes {
            let oldest = self.questions.front()?;
            if oldest.asked_at + STALE >= self.asked {
                return None;
            }
            let name = oldest.name;
            self.questions.pop_front();
            self.drop_states(|n, _| *n == name);
        }
        self.memory.try_grow(bytes).is_ok().then_some(bytes)
    }
}

impl Kept {
    /// Nothing yet, never more than `most_bytes`, and that only as far as the pool grants it.
    pub(crate) fn new(most_bytes: usize, pool: &Arc<dyn MemoryPool>) -> Self {
        let inner = Inner {
            questions: VecDeque::new(),
            asked: 0,
            states: HashMap::new(),
            suffixes: HashMap::new(),
            merged: HashMap::new(),
            memory: MemoryConsumer::new("states of hot batches").register(pool),
        };
        let orders = MemoryConsumer::new("orders of series").register(pool);
        let for_orders = most_bytes / ORDERS_SHARE;
        let orders = Arc::new(Orders::new(orders, for_orders));
        let most_bytes = most_bytes - for_orders;
        Self { inner: Mutex::new(inner), most_bytes, orders }
    }

    /// Orders of keys that came before.
    pub(super) fn orders(&self) -> Arc<Orders> {
        self.orders.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of the question if it was asked before: what is asked once is not worth keeping.
    pub(super) fn ask(&self, question: Question) -> Option<Name> {
        let mut inner = self.inner();
        inner.drop_states(|_, tokens| tokens.iter().any(|t| t.strong_count() == 0));
        inner.asked += 1;
        let asked_at = inner.asked;
        if let Some(at) = inner.questions.iter().rposition(|r| r.question == question)
            && let Some(known) = inner.questions.remove(at)
        {
            let name = known.name;
            inner.questions.push_back(Remembered { asked_at, ..known });
            return Some(name);
        }
        if inner.questions.len() >= QUESTIONS
            && let Some(oldest) = inner.questions.pop_front()
        {
            inner.drop_states(|name, _| *name == oldest.name);
        }
        inner.questions.push_back(Remembered { question, name: Name(asked_at), asked_at });
        None
    }

    pub(super) fn get(&self, name: Name, token: &Weak<()>) -> Option<Arc<State>> {
        let inner = self.inner();
        inner.states.get(&(name, token.as_ptr().addr())).map(|e| e.state.clone())
    }

    /// Bytes that suffixes may take: states are of more use, so none are made while these fill half of all.
    pub(super) fn room_for_suffixes(&self) -> usize {
        (self.most_bytes / 2).saturating_sub(self.inner().memory.size())
    }

    /// Keeps the state of a batch; false if there is no room for it.
    pub(super) fn put(&self, name: Name, token: &Weak<()>, state: &Arc<State>) -> bool {
        let mut inner = self.inner();
        let place = (name, token.as_ptr().addr());
        if inner.states.contains_key(&place) {
            return true;
        }
        let Some(bytes) = inner.make_room(state.bytes(), self.most_bytes) else { return false };
        let entry = Entry { tokens: vec![token.clone()], state: state.clone(), bytes };
        inner.states.insert(place, entry);
        true
    }

    pub(super) fn suffixes(&self, name: Name, token: &Weak<()>) -> Option<Arc<Suffixes>> {
        let mut inner = self.inner();
        let asked = inner.asked;
        let (used_at, entry) = inner.suffixes.get_mut(&(name, token.as_ptr().addr()))?;
        *used_at = asked;
        Some(entry.state.clone())
    }

    /// Keeps the suffixes of a batch; where there is no room for them, that there are none.
    pub(super) fn put_suffixes(&self, name: Name, token: &Weak<()>, state: &Arc<Suffixes>) {
        let mut inner = self.inner();
        let place = (name, token.as_ptr().addr());
        if inner.suffixes.contains_key(&place) {
            return;
        }
        let (state, bytes) = match inner.make_room(state.bytes(), self.most_bytes) {
            Some(bytes) => (state.clone(), bytes),
            None => (Arc::default(), 0),
        };
        let used_at = inner.asked;
        let entry = Entry { tokens: vec![token.clone()], state, bytes };
        inner.suffixes.insert(place, (used_at, entry));
    }

    /// The merged state of the first of these batches, and of how many.
    pub(super) fn merged(&self, name: Name, tokens: &[&Weak<()>]) -> Option<(usize, Arc<State>)> {
        let inner = self.inner();
        let entry = inner.merged.get(&name)?;
        let first = tokens.get(..entry.tokens.len())?;
        let same = first.iter().zip(&entry.tokens).all(|(a, b)| a.ptr_eq(b));
        same.then(|| (first.len(), entry.state.clone()))
    }

    /// Keeps the merged state of all these batches in the place of an earlier one, if there is room for it.
    pub(super) fn put_merged(&self, name: Name, tokens: &[&Weak<()>], state: &Arc<State>) {
        let mut inner = self.inner();
        if let Some(old) = inner.merged.remove(&name) {
            inner.memory.shrink(old.bytes);
        }
        if let Some(bytes) = inner.make_room(state.bytes(), self.most_bytes) {
            let tokens = tokens.iter().map(|t| (*t).clone()).collect();
            inner.merged.insert(name, Entry { tokens, state: state.clone(), bytes });
        }
    }

    /// States of single batches, and the bytes of all.
    #[cfg(test)]
    pub(crate) fn size(&self) -> (usize, usize) {
        let inner = self.inner();
        (inner.states.len(), inner.memory.size())
    }
}
