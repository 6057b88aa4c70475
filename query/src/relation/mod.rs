//! Relations and patterns as table functions.
//!
//! `tapio_check('web')` is the statement of `sql/relations/tapio_check.sql` over tables bound to its `as_of`. Its plan is
//! kept for the next call with the same target and run again with another `as_of`. Every pattern is a table function of
//! its own name, and `tapio_findings()` is the union of all patterns of the catalogue.

mod bind;
mod contract;
mod home;
mod planned;
mod pool;

use std::sync::{Arc, Weak};

use arrow::{
    array::{ArrayRef, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
};
use datafusion::{
    catalog::{TableFunctionArgs, TableFunctionImpl, TableProvider},
    common::{DataFusionError, Result, plan_err},
    datasource::MemTable,
    execution::SessionState,
    logical_expr::{LogicalPlan, LogicalPlanBuilder, cast},
    prelude::Expr,
};
use futures::FutureExt;
use tapio_sql::{Parameter, Pattern};
use tokio::runtime::Handle;

use crate::{QueryError, clock::Clock};
pub(crate) use home::{CATALOG, Home, SCHEMA};
use planned::{Planned, Relation};
use pool::{Key, Lease};

/// Stack of a thread that plans one relation.
const PLANNING_STACK: usize = 4 << 20;

/// What a table function of Tapio computes.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// A file of `sql/relations/`.
    Relation {
        /// Its statement.
        sql: String,
    },
    /// A pattern.
    Pattern {
        /// Its statement.
        sql: String,
    },
    /// All patterns together.
    Findings,
    /// Names, titles and remedies of the patterns.
    Patterns,
    /// What could not be read.
    Degraded,
}

/// A table function.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) kind: Kind,
    pub(crate) home: Weak<Home>,
    pub(crate) place: Place,
}

/// Where a table function is called.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// In a statement of a user.
    Statement {
        /// `as_of` (µs) where the call does not say.
        as_of: i64,
    },
    /// In another relation, whose clock it follows.
    Within(Arc<Clock>),
}

impl TableFunctionImpl for Function {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let (values, as_of) = bind::arguments(&self.name, &self.parameters, args.exprs())?;
        let Some(home) = self.home.upgrade() else {
            return plan_err!("{}: the engine is shut down", self.name);
        };
        if let Place::Within(clock) = &self.place
            && (as_of.is_some() || matches!(self.kind, Kind::Degraded))
        {
            clock.mark_once_only();
        }
        match &self.kind {
            Kind::Patterns => return patterns_table(&home),
            Kind::Degraded => return degraded_table(&home),
            _ => {}
        }
        let relation = match (&self.place, as_of) {
            (Place::Within(clock), None) => {
                Relation::Within(Arc::new(self.plan(&home, &values, clock)?))
            }
            (Place::Statement { as_of }, None) => self.borrow(&home, values, *as_of)?,
            (_, Some(as_of)) => self.borrow(&home, values, as_of)?,
        };
        Ok(Arc::new(relation))
    }
}

impl Function {
    /// A plan of its own for a statement, kept from an earlier one if there is one.
    fn borrow(&self, home: &Home, values: bind::Values, as_of: i64) -> Result<Relation> {
        let key: Key = (self.name.clone(), values);
        let planned = match home.pool.take(&key) {
            Some(planned) => planned,
            None => Arc::new(self.plan(home, &key.1, &Arc::default())?),
        };
        Ok(Relation::Borrowed(Arc::new(Lease::new(planned, as_of, key, &home.pool))))
    }

    /// Plans the relation; its time is what the clock will show.
    ///
    /// On a thread of its own: planning recurses deeply, and a relation within relations within a statement would go
    /// beyond the two megabytes that a thread usually has.
    fn plan(&self, home: &Home, values: &bind::Values, clock: &Arc<Clock>) -> Result<Planned> {
        let runtime = Handle::try_current().ok();
        let plan = || {
            let _inside = runtime.as_ref().map(Handle::enter);
            self.plan_here(home, values, clock)
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(PLANNING_STACK);
            let planning = thread.spawn_scoped(scope, plan).map_err(DataFusionError::IoError)?;
            planning.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn plan_here(&self, home: &Home, values: &bind::Values, clock: &Arc<Clock>) -> Result<Planned> {
        let (sql, is_pattern) = match &self.kind {
            Kind::Pattern { sql } => (sql.clone(), true),
            Kind::Relation { sql } => (sql.clone(), false),
            _ => (contract::findings_sql(&home.patterns), false),
        };
        let state = home.late(clock);
        let plan = plan(&state, &sql, values).and_then(|p| match is_pattern {
            true => contract::fit(&self.name, p),
            false => plain_text(p),
        });
        match plan {
            Ok(plan) => Ok(Planned::new(&self.name, plan, state, clock.clone())),
            Err(e) if is_pattern => Err(self.in_pattern(e, &sql, home)),
            Err(e) => Err(e.context(self.name.clone())),
        }
    }

    /// The error, naming the pattern's file.
    fn in_pattern(&self, e: DataFusionError, sql: &str, home: &Home) -> DataFusionError {
        let message = match QueryError::of(&e, sql, &home.names()) {
            QueryError::Pattern { message, .. } => message,
            other => other.to_string(),
        };
        let file = format!("{}.sql", self.name);
        DataFusionError::External(Box::new(QueryError::Pattern { file, message }))
    }
}

/// Plans a statement with values for its parameters. Planning reads nothing, so the future is ready at once.
fn plan(state: &SessionState, sql: &str, values: &bind::Values) -> Result<LogicalPlan> {
    let statement = bind::statement(sql, values)?;
    state.statement_to_plan(statement).now_or_never().unwrap_or_else(|| {
        Err(DataFusionError::Internal("planning a relation waited for something".into()))
    })
}

/// Text columns as plain text, whatever the functions in between made of them.
fn plain_text(plan: LogicalPlan) -> Result<LogicalPlan> {
    let columns: Vec<Expr> = plan
        .schema()
        .iter()
        .map(|(q, f)| {
            let column = Expr::from((q, f));
            match f.data_type() {
                DataType::Dictionary(..) | DataType::Utf8View | DataType::LargeUtf8 => {
                    cast(column, DataType::Utf8).alias(f.name())
                }
                _ => column.alias(f.name()),
            }
        })
        .collect();
    LogicalPlanBuilder::from(plan).project(columns)?.build()
}

fn table(columns: Vec<(&str, ArrayRef)>) -> Result<Arc<dyn TableProvider>> {
    let fields: Vec<Field> =
        columns.iter().map(|(n, c)| Field::new(*n, c.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let columns = columns.into_iter().map(|(_, c)| c).collect();
    let batch = RecordBatch::try_new(schema.clone(), columns)?;
    Ok(Arc::new(MemTable::try_new(schema, vec![vec![batch]])?))
}

fn text(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn patterns_table(home: &Home) -> Result<Arc<dyn TableProvider>> {
    let rows: Vec<(&Pattern, usize, &String)> = home
        .patterns
        .iter()
        .flat_map(|p| p.remedies.iter().enumerate().map(move |(i, r)| (p, i, r)))
        .collect();
    table(vec![
        ("pattern", text(rows.iter().map(|r| r.0.name.clone()))),
        ("title", text(rows.iter().map(|r| r.0.title.clone()))),
        ("rank", Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1 as i64 + 1)))),
        ("remedy", text(rows.iter().map(|r| r.2.clone()))),
    ])
}

fn degraded_table(home: &Home) -> Result<Arc<dyn TableProvider>> {
    let rows = home.shared.degraded.rows();
    table(vec![
        ("component", text(rows.iter().map(|r| r.component.clone()))),
        ("subject", text(rows.iter().map(|r| r.subject.clone()))),
        ("detail", text(rows.iter().map(|r| r.detail.clone()))),
        ("count", Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.count)))),
    ])
}
