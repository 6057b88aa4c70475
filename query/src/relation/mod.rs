//! Relations and patterns as table functions.
//!
//! `tapio_check('web')` is the statement of `sql/relations/tapio_check.sql`, planned where it is called, against tables
//! bound to its `as_of`. Every pattern is a table function of its own name, and `tapio_findings()` is the union of all
//! patterns of the catalogue.

mod bind;
mod contract;
mod home;
mod shared;

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

use crate::QueryError;
pub(crate) use home::{CATALOG, Home, SCHEMA};
use shared::SharedRelation;

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
    /// `as_of` (µs) where the call does not say.
    pub(crate) as_of: i64,
}

impl TableFunctionImpl for Function {
    fn call_with_args(&self, args: TableFunctionArgs) -> Result<Arc<dyn TableProvider>> {
        let (values, as_of) =
            bind::arguments(&self.name, &self.parameters, args.exprs(), self.as_of)?;
        let Some(home) = self.home.upgrade() else {
            return plan_err!("{}: the engine is shut down", self.name);
        };
        let (sql, is_pattern) = match &self.kind {
            Kind::Relation { sql } => (sql.clone(), false),
            Kind::Pattern { sql } => (sql.clone(), true),
            Kind::Findings => (contract::findings_sql(&home.patterns), false),
            Kind::Patterns => return patterns_table(&home),
            Kind::Degraded => return degraded_table(&home),
        };
        let mut values = values;
        let at =
            datafusion::common::ScalarValue::TimestampMicrosecond(Some(as_of), Some("UTC".into()));
        values.push(("as_of".into(), at));
        let state = home.state(Some(as_of), as_of);
        let plan = plan(&state, &sql, &values).and_then(|p| match is_pattern {
            true => contract::fit(&self.name, p),
            false => plain_text(p),
        });
        let plan = match plan {
            Ok(plan) => plan,
            Err(e) if is_pattern => return Err(self.in_pattern(e, &sql, &home)),
            Err(e) => return Err(e.context(self.name.clone())),
        };
        Ok(Arc::new(SharedRelation::new(&self.name, plan, state)))
    }
}

impl Function {
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
