//! What a first stage asks of a row of its table, apart from the times it looks at.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch},
    datatypes::{DataType, SchemaRef},
};
use datafusion::{
    common::{
        Result, ScalarValue,
        tree_node::{Transformed, TreeNode},
    },
    execution::TaskContext,
    logical_expr::{AggregateUDF, Operator},
    physical_expr::{
        PhysicalExpr,
        aggregate::AggregateFunctionExpr,
        conjunction_opt,
        expressions::{BinaryExpr, Column, DynamicFilterTracking, Literal},
        split_conjunction,
    },
    physical_expr_common::physical_expr::is_volatile,
    physical_plan::{
        ExecutionPlan,
        aggregates::AggregateExec,
        coalesce_partitions::CoalescePartitionsExec,
        coop::CooperativeExec,
        execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions},
        filter::FilterExec,
        projection::ProjectionExec,
        repartition::RepartitionExec,
        union::UnionExec,
    },
};

use super::{
    groups::Inputs,
    kept::{Kept, State},
};
use crate::{
    fixed::{constant, fold},
    table::{HotScan, LateScan, Piece},
    udf,
};

type Expr = Arc<dyn PhysicalExpr>;

/// A scan of a table with hot rows.
#[derive(Debug, Clone)]
pub(super) enum Leaf {
    Now(HotScan),
    Late(Box<LateScan>),
}

impl Leaf {
    fn of(plan: &Arc<dyn ExecutionPlan>) -> Option<Self> {
        let now = plan.downcast_ref::<HotScan>().cloned().map(Self::Now);
        now.or_else(|| plan.downcast_ref::<LateScan>().cloned().map(|s| Self::Late(Box::new(s))))
    }

    fn is_taken(&self) -> bool {
        match self {
            Self::Now(scan) => scan.is_taken(),
            Self::Late(scan) => scan.hot_is_taken(),
        }
    }

    fn taken(&self) -> Arc<dyn ExecutionPlan> {
        match self {
            Self::Now(scan) => Arc::new(scan.taken()),
            Self::Late(scan) => Arc::new(scan.without_hot()),
        }
    }

    fn table(&self) -> &str {
        match self {
            Self::Now(scan) => scan.table(),
            Self::Late(scan) => scan.table().name(),
        }
    }

    pub(super) fn kept(&self) -> &Arc<Kept> {
        match self {
            Self::Now(scan) => scan.kept(),
            Self::Late(scan) => scan.table().kept(),
        }
    }

    fn schema(&self) -> SchemaRef {
        match self {
            Self::Now(scan) => scan.schema(),
            Self::Late(scan) => scan.schema(),
        }
    }

    /// The hot rows of this run.
    pub(super) async fn pieces(&self, context: &TaskContext) -> Result<Arc<[Piece]>> {
        match self {
            Self::Now(scan) => Ok(scan.pieces().clone()),
            Self::Late(scan) => scan.hot(context).await,
        }
    }

    /// Whether there is no row in a file; false where that is not known.
    pub(super) async fn is_all_hot(&self, context: &TaskContext) -> Result<bool> {
        match self {
            Self::Now(_) => Ok(false),
            Self::Late(scan) => scan.is_all_hot(context).await,
        }
    }

    /// The columns of a hot batch that the plan reads.
    pub(super) fn project(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let projection = match self {
            Self::Now(scan) => scan.projection(),
            Self::Late(scan) => scan.projection(),
        };
        Ok(match projection {
            Some(p) => batch.project(p)?,
            None => batch.clone(),
        })
    }
}

/// An aggregation over one scan: its expressions as they are over the columns of the scan.
#[derive(Debug, Clone)]
pub(super) struct Flat {
    pub(super) leaf: Leaf,
    key: Expr,
    arguments: Vec<Vec<Expr>>,
    filters: Vec<Option<Expr>>,
    conditions: Vec<Expr>,
}

impl Flat {
    /// `taken`: whether to find a scan whose hot rows are taken, or one where they are not. The path from the
    /// aggregation down to the scan comes with it.
    fn find(a: &AggregateExec, taken: bool) -> Option<(Self, Vec<usize>)> {
        let [(key, _)] = a.group_expr().expr() else { return None };
        let mut path = Vec::new();
        let (leaf, through) = descend(a.input(), taken, &mut path)?;
        let flat = |e: Expr| through.iter().try_fold(e, |e, step| step.rewrite(e)).ok();
        let mut conditions = Vec::new();
        for (at, step) in through.iter().enumerate() {
            if let Step::Filter(predicate, _) = step {
                let below = &through[at + 1..];
                let e = below.iter().try_fold(predicate.clone(), |e, s| s.rewrite(e)).ok()?;
                conditions.extend(split_conjunction(&e).into_iter().cloned());
            }
        }
        let of = |es: Vec<Expr>| es.into_iter().map(flat).collect::<Option<Vec<_>>>();
        let arguments = a.aggr_expr().iter().map(|f| of(f.expressions()));
        let filters = a.filter_expr().iter().map(|f| match f {
            Some(f) => flat(f.clone()).map(Some),
            None => Some(None),
        });
        let flat = Self {
            key: flat(key.clone())?,
            arguments: arguments.collect::<Option<_>>()?,
            filters: filters.collect::<Option<_>>()?,
            leaf,
            conditions,
        };
        Some((flat, path))
    }

    /// Whether all rows could come from hot batches that are looked up when the plan runs.
    pub(super) fn may_be_whole(a: &AggregateExec) -> bool {
        Self::find(a, false).is_some_and(|(flat, _)| flat.is_exact(a)) && is_alone(a.input())
    }

    /// That of a plan made by [`Flat::take`].
    pub(super) fn taken(a: &AggregateExec) -> Option<Self> {
        Self::find(a, true).map(|(flat, _)| flat)
    }

    /// The input of the aggregation without the hot rows, if it can do with states that are kept of them.
    pub(super) fn take(a: &AggregateExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        match Self::find(a, false) {
            Some((flat, path)) if flat.is_exact(a) => {
                replace(a.input(), &path, flat.leaf.taken()).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Whether states give the same answer as rows do, in this run and in the next.
    fn is_exact(&self, a: &AggregateExec) -> bool {
        let mut functions = a.aggr_expr().iter().zip(&self.arguments);
        let mut read = self.arguments.iter().flatten().chain(self.filters.iter().flatten());
        // Filters that a join makes while it runs are others in the next run.
        let varies = |e: &Expr| {
            is_volatile(e) || DynamicFilterTracking::classify(e).contains_dynamic_filter()
        };
        functions.all(|(f, arguments)| asked(f, arguments.clone()).is_some())
            && !read.any(varies)
            && !self.conditions.iter().chain([&self.key]).any(varies)
    }

    /// Splits off what depends on the time of the run.
    pub(super) fn question(&self, a: &AggregateExec) -> Result<(Timed, Question)> {
        let schema = self.leaf.schema();
        let mut within = Times::ALL;
        let mut conditions = Vec::new();
        for c in &self.conditions {
            within.split(fold(c.clone())?, &schema, &mut conditions);
        }
        let (mut inputs, mut times, mut asked_for) = (Vec::new(), Vec::new(), Vec::new());
        for ((f, arguments), filter) in a.aggr_expr().iter().zip(&self.arguments).zip(&self.filters)
        {
            let (mut own, mut rest) = (Times::ALL, Vec::new());
            for c in filter.iter().flat_map(split_conjunction) {
                own.split(fold(c.clone())?, &schema, &mut rest);
            }
            let filter = conjunction_opt(rest);
            let folded = arguments.iter().map(|e| fold(e.clone())).collect::<Result<Vec<_>>>()?;
            asked_for.push(Asked {
                function: f.fun().clone(),
                arguments: asked(f, folded.clone()).unwrap_or_default(),
                filter: filter.clone(),
            });
            inputs.push((folded, filter));
            times.push(own);
        }
        // What is asked twice is kept once: a trend with and one without a filter by time.
        let mut distinct: Vec<usize> = Vec::new();
        let mut same_as = Vec::new();
        for (i, asked) in asked_for.iter().enumerate() {
            let before = distinct.iter().position(|d| asked_for[*d] == *asked);
            same_as.push(before.unwrap_or(distinct.len()));
            if before.is_none() {
                distinct.push(i);
            }
        }
        let question = Question {
            table: self.leaf.table().to_owned(),
            of_rows: [&self.key].into_iter().chain(&conditions).cloned().collect(),
            asked: distinct.iter().map(|i| asked_for[*i].clone()).collect(),
        };
        let distinct_fed = distinct.iter().map(|i| inputs[*i].clone()).collect();
        let timed = Timed {
            inputs: Inputs { key: self.key.clone(), fed: inputs },
            condition: conjunction_opt(conditions),
            within,
            times,
            distinct_inputs: Inputs { key: self.key.clone(), fed: distinct_fed },
            distinct,
            same_as,
        };
        Ok((timed, question))
    }
}

/// What one run asks.
pub(super) struct Timed {
    /// With filters that do not depend on times.
    pub(super) inputs: Inputs,
    /// Holds for rows that count, beside their time.
    pub(super) condition: Option<Expr>,
    /// Times of rows that count.
    pub(super) within: Times,
    /// Times of rows that count for each aggregate.
    pub(super) times: Vec<Times>,
    /// Aggregates that differ in more than their times, and for each aggregate which of them it is like.
    pub(super) distinct: Vec<usize>,
    pub(super) distinct_inputs: Inputs,
    pub(super) same_as: Vec<usize>,
}

impl Timed {
    /// The columns of a state for these aggregates.
    pub(super) fn columns<'a>(
        &'a self,
        state: &'a State,
        which: impl Iterator<Item = usize> + 'a,
    ) -> impl Iterator<Item = (usize, &'a [ArrayRef])> + 'a {
        which.map(|i| (i, &state.columns[self.same_as[i]][..]))
    }
}

/// What is asked of every batch of a table, whatever the time.
#[derive(Debug, PartialEq)]
pub(super) struct Question {
    table: String,
    /// The key, and what must hold.
    of_rows: Vec<Expr>,
    asked: Vec<Asked>,
}

#[derive(Debug, Clone, PartialEq)]
struct Asked {
    function: AggregateUDF,
    arguments: Vec<Expr>,
    filter: Option<Expr>,
}

/// The arguments that the states of the aggregate depend on; `None` where merging states could differ from adding rows.
fn asked(f: &AggregateFunctionExpr, mut arguments: Vec<Expr>) -> Option<Vec<Expr>> {
    if f.is_distinct() || f.ignore_nulls() || f.is_reversed() {
        return None;
    }
    match f.fun().name() {
        "count" | udf::TREND | udf::LAST => Some(arguments),
        "min" | "max" => {
            let ty = f.field().data_type().clone();
            (ty.is_integer() || matches!(ty, DataType::Timestamp(..))).then_some(arguments)
        }
        udf::CROSSING => {
            // A time that is the same for all rows is asked for at the end, if the aggregate itself sees that it is.
            if f.expressions().last().is_some_and(|at| constant(at).is_some_and(is_value)) {
                arguments.pop();
            }
            Some(arguments)
        }
        _ => None,
    }
}

fn is_value(e: Expr) -> bool {
    e.downcast_ref::<Literal>().is_some_and(|l| !l.value().is_null())
}

/// First and last time (µs) of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) first: i64,
    pub(super) last: i64,
}

/// How the times of a batch lie to those that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Inside,
    Outside,
    Across,
}

impl Times {
    pub(super) const ALL: Self = Self { first: i64::MIN, last: i64::MAX };

    pub(super) fn and(self, other: Self) -> Self {
        Self { first: self.first.max(other.first), last: self.last.min(other.last) }
    }

    pub(super) fn side(self, batch: Option<(i64, i64)>) -> Side {
        if self == Self::ALL {
            return Side::Inside;
        }
        match batch {
            Some((first, last)) if self.first <= first && last <= self.last => Side::Inside,
            Some((first, last)) if last < self.first || self.last < first => Side::Outside,
            _ => Side::Across,
        }
    }

    /// Takes in a condition on `ts`; anything else goes to `rest`.
    fn split(&mut self, condition: Expr, schema: &SchemaRef, rest: &mut Vec<Expr>) {
        match bound(&condition, schema) {
            Some(times) => *self = self.and(times),
            None => rest.push(condition),
        }
    }
}

/// The times that a comparison of `ts` with a time lets through.
fn bound(e: &Expr, schema: &SchemaRef) -> Option<Times> {
    let e = e.downcast_ref::<BinaryExpr>()?;
    let time = |e: &Expr| match e.downcast_ref::<Literal>()?.value() {
        ScalarValue::TimestampMicrosecond(t, _) => *t,
        _ => None,
    };
    let is_ts = |e: &Expr| {
        let column = e.downcast_ref::<Column>();
        column.is_some_and(|c| c.name() == "ts" && schema.fields()[c.index()].name() == "ts")
    };
    let (op, t) = match (is_ts(e.left()), is_ts(e.right())) {
        (true, false) => (*e.op(), time(e.right())?),
        (false, true) => (e.op().swap()?, time(e.left())?),
        _ => return None,
    };
    let all = Times::ALL;
    Some(match op {
        Operator::Gt => Times { first: t.checked_add(1)?, ..all },
        Operator::GtEq => Times { first: t, ..all },
        Operator::Lt => Times { last: t.checked_sub(1)?, ..all },
        Operator::LtEq => Times { last: t, ..all },
        Operator::Eq => Times { first: t, last: t },
        _ => return None,
    })
}

/// A node between the aggregation and the scan.
enum Step {
    /// The predicate, and which columns of its input are handed on.
    Filter(Expr, Option<Vec<usize>>),
    Projection(Vec<Expr>),
}

impl Step {
    /// An expression over what the node yields as one over what it reads.
    fn rewrite(&self, e: Expr) -> Result<Expr> {
        let rewritten = e.transform_up(|e| {
            let Some(c) = e.downcast_ref::<Column>() else { return Ok(Transformed::no(e)) };
            Ok(match self {
                Self::Filter(_, None) => Transformed::no(e),
                Self::Filter(_, Some(p)) => {
                    Transformed::yes(Arc::new(Column::new(c.name(), p[c.index()])) as _)
                }
                Self::Projection(exprs) => Transformed::yes(exprs[c.index()].clone()),
            })
        });
        Ok(rewritten?.data)
    }
}

/// The one scan below, and the nodes that change rows on the way to it, from the top.
fn descend(
    plan: &Arc<dyn ExecutionPlan>,
    taken: bool,
    path: &mut Vec<usize>,
) -> Option<(Leaf, Vec<Step>)> {
    if let Some(leaf) = Leaf::of(plan) {
        return (leaf.is_taken() == taken).then_some((leaf, Vec::new()));
    }
    if plan.fetch().is_some() {
        return None;
    }
    let step = if let Some(filter) = plan.downcast_ref::<FilterExec>() {
        let projection = filter.projection().as_ref().map(|p| p.to_vec());
        Some(Step::Filter(filter.predicate().clone(), projection))
    } else if let Some(projection) = plan.downcast_ref::<ProjectionExec>() {
        Some(Step::Projection(projection.expr().iter().map(|e| e.expr.clone()).collect()))
    } else if plan.is::<UnionExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<RepartitionExec>()
        || plan.is::<CoalescePartitionsExec>()
    {
        None
    } else {
        return None;
    };
    let mut found = None;
    for (i, child) in plan.children().into_iter().enumerate() {
        let mut below = Vec::new();
        if let Some(leaf) = descend(child, taken, &mut below) {
            if found.is_some() {
                return None;
            }
            found = Some((i, below, leaf));
        }
    }
    let (i, below, (leaf, steps)) = found?;
    path.push(i);
    path.extend(below);
    Some((leaf, step.into_iter().chain(steps).collect()))
}

/// Whether there is nothing below but a scan that is looked up when the plan runs: a union, say, has rows of its own.
pub(super) fn is_alone(mut plan: &Arc<dyn ExecutionPlan>) -> bool {
    while let [below] = plan.children()[..] {
        plan = below;
    }
    plan.is::<LateScan>()
}

/// The plan with another node at the end of the path.
fn replace(
    plan: &Arc<dyn ExecutionPlan>,
    path: &[usize],
    with: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let Some((i, below)) = path.split_first() else { return Ok(with) };
    let mut children: Vec<_> = plan.children().into_iter().cloned().collect();
    children[*i] = replace(&children[*i], below, with)?;
    with_children(plan, children)
}

pub(super) fn with_children(
    plan: &Arc<dyn ExecutionPlan>,
    children: Vec<Arc<dyn ExecutionPlan>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    plan.clone().replace_children(children, options)
}
