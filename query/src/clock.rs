//! The time that a plan looks at, given to it when it runs.
//!
//! Planning a relation costs several times what running it costs, and statements about "now" differ in nothing but
//! their `as_of`. So relations are planned once with `tapio_as_of()` in the places of `$as_of`, and the plan is run
//! again and again, each time with its clock set anew.

use std::{
    any::Any,
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use arrow::datatypes::DataType;
use datafusion::{
    common::{Result, ScalarValue, exec_err},
    logical_expr::{
        ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    },
};
use tokio::sync::OnceCell;

use crate::udf::time_type;

/// What `$as_of` becomes in a plan whose clock is set later.
pub(crate) const AS_OF: &str = "tapio_as_of";

tokio::task_local! {
    /// Set while a task plans. A relation may be planned while the one around it runs already, so that its clock shows a
    /// time; the plan must not keep that.
    static PLANNING: ();
}

/// Plans; clocks show nothing meanwhile.
pub(crate) async fn without_time<T>(planning: impl Future<Output = T>) -> T {
    PLANNING.scope((), planning).await
}

/// Which rows exist for a table (T7).
#[derive(Debug, Clone)]
pub(crate) enum AsOf {
    /// All.
    All,
    /// Those known at a time (µs).
    At(i64),
    /// Those known at the time that the clock shows while the plan runs.
    Late(Arc<Clock>),
}

/// One per plan; a plan runs once at a time.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    run: Mutex<Run>,
    slots: AtomicUsize,
    once_only: AtomicBool,
}

/// One run of the plan: its time, and what its parts computed once for all who read them.
#[derive(Debug, Default)]
struct Run {
    as_of: Option<i64>,
    computed: HashMap<usize, Arc<dyn Any + Send + Sync>>,
}

impl Clock {
    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a run as of a time (µs); nothing of the run before is left.
    pub(crate) fn set(&self, as_of: i64) {
        *self.run() = Run { as_of: Some(as_of), computed: HashMap::new() };
    }

    /// Ends the run and lets go of what it computed.
    pub(crate) fn clear(&self) {
        *self.run() = Run::default();
    }

    /// The time of this run in µs.
    ///
    /// # Errors
    /// While a relation is planned there is none.
    pub(crate) fn as_of(&self) -> Result<i64> {
        let planning = PLANNING.try_with(|()| ()).is_ok();
        match self.run().as_of {
            Some(t) if !planning => Ok(t),
            _ => exec_err!("{AS_OF}() has a value only while a relation runs"),
        }
    }

    /// A place for something that each run computes once.
    pub(crate) fn slot(&self) -> usize {
        self.slots.fetch_add(1, Ordering::Relaxed)
    }

    /// What this run keeps in a place of [`Clock::slot`]; empty at first.
    pub(crate) fn once<T: Send + Sync + 'static>(&self, slot: usize) -> Arc<OnceCell<T>> {
        let mut run = self.run();
        let kept = run.computed.get(&slot).cloned().and_then(|c| c.downcast::<OnceCell<T>>().ok());
        kept.unwrap_or_else(|| {
            let cell = Arc::new(OnceCell::<T>::new());
            run.computed.insert(slot, cell.clone());
            cell
        })
    }

    /// Says that the plan holds something that was read when it was planned, so it can run only once.
    pub(crate) fn mark_once_only(&self) {
        self.once_only.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_once_only(&self) -> bool {
        self.once_only.load(Ordering::Relaxed)
    }
}

/// `tapio_as_of()` of one clock. Stable, so that filters with it reach the scans; it fails while a statement is
/// planned, which keeps it from being folded into a constant.
#[derive(Debug)]
struct ReadClock {
    clock: Arc<Clock>,
    signature: Signature,
}

impl PartialEq for ReadClock {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.clock, &other.clock)
    }
}

impl Eq for ReadClock {}

impl Hash for ReadClock {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.clock).hash(state);
    }
}

impl ScalarUDFImpl for ReadClock {
    fn name(&self) -> &str {
        AS_OF
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(time_type())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let t = self.clock.as_of()?;
        Ok(ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(Some(t), Some("UTC".into()))))
    }
}

/// The function that shows what the clock shows.
pub(crate) fn read_clock(clock: Arc<Clock>) -> ScalarUDF {
    let signature = Signature::nullary(Volatility::Stable);
    ScalarUDF::from(ReadClock { clock, signature })
}
