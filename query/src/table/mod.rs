//! One table as SQL sees it: files of the log plus hot rows, as of a time.

mod filter;
mod guard;
mod hot;
mod late;
mod reader;

use std::sync::Arc;

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    compute::{filter_record_batch, kernels::cmp::lt_eq},
    datatypes::{SchemaRef, TimestampMicrosecondType},
};
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{DataFusionError, Result, ScalarValue, stats::Precision},
    common::{Statistics, not_impl_err},
    config::TableParquetOptions,
    datasource::{
        listing::PartitionedFile,
        physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource},
        source::DataSourceExec,
    },
    execution::object_store::ObjectStoreUrl,
    logical_expr::{Expr, Operator, TableProviderFilterPushDown, TableType, dml::InsertOp},
    physical_expr::{
        PhysicalExpr, conjunction_opt,
        expressions::{binary, col, lit},
    },
    physical_plan::{ExecutionPlan, empty::EmptyExec, union::UnionExec},
    prelude::SessionConfig,
};
use tapio_store::{DataFile, HotSource, TableLog};

use crate::{clock::AsOf, degraded::Degraded, fixed::is_fixed, series_runs::Kept};
use filter::{Bounds, bounds, literal, may_match};
use guard::GuardedSource;
pub(crate) use hot::{HotScan, Piece};
pub(crate) use late::LateScan;
use reader::CheckedReaders;
pub(crate) use reader::Footers;

/// What all tables of an engine share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) hot: Arc<dyn HotSource>,
    pub(crate) footers: Arc<Footers>,
    pub(crate) degraded: Arc<Degraded>,
    /// What first stages of aggregations keep of hot batches.
    pub(crate) kept: Arc<Kept>,
    pub(crate) store_url: ObjectStoreUrl,
}

/// A table: the files that the log names and the hot rows that are not in them yet.
#[derive(Debug, Clone)]
pub(crate) struct TapioTable {
    log: TableLog,
    shared: Shared,
    /// Which rows exist (T7): those with `ts` and `observed_at` at or before a time.
    as_of: AsOf,
}

/// What a table has for a scan.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    files: Option<Arc<dyn ExecutionPlan>>,
    hot: Arc<[Piece]>,
}

impl TapioTable {
    pub(crate) fn new(log: TableLog, shared: Shared, as_of: AsOf) -> Self {
        Self { log, shared, as_of }
    }

    /// The rows known at `as_of` (µs; all, if `None`) as the store and this process have them now. Files outside of the
    /// bounds are left out; rows of files that fail a predicate may be.
    async fn scan_now(
        &self,
        session: &SessionConfig,
        projection: Option<&Vec<usize>>,
        as_of: Option<i64>,
        mut bounds: Bounds,
        predicates: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Found> {
        // The hot rows before the snapshot: what is flushed in between is then in both and dropped here (T3).
        let hot = self.shared.hot.hot(&self.log.def().name);
        let snapshot =
            self.log.snapshot().await.map_err(|e| DataFusionError::External(Box::new(e)))?;
        let stored = snapshot.txn.get(&hot.writer).copied();
        let mut pieces = Vec::new();
        for h in hot.batches {
            if stored.is_some_and(|s| h.last_seq <= s) {
                continue;
            }
            let ts_range = h.ts_range();
            let (batch, token) = match as_of {
                Some(t) if h.latest_us() > t => (known_by(&h.batch, t)?, None),
                _ => (h.batch.clone(), Some(Arc::downgrade(h.token()))),
            };
            if batch.num_rows() > 0 {
                pieces.push(Piece { batch, ts_range, token });
            }
        }
        if let Some(t) = as_of {
            for column in ["ts", "observed_at"] {
                let b = bounds.entry(column.into()).or_insert((i64::MIN, i64::MAX));
                b.1 = b.1.min(t);
            }
        }
        let files: Vec<&DataFile> =
            snapshot.files.values().filter(|f| may_match(f, &bounds)).collect();
        tracing::debug!(
            table = self.log.def().name,
            files = files.len(),
            of = snapshot.files.len(),
            hot = pieces.len(),
            "scan"
        );
        let files = match files.is_empty() {
            true => None,
            false => Some(self.scan_files(session, projection, as_of, &files, predicates)?),
        };
        Ok(Found { files, hot: pieces.into() })
    }

    /// Files and hot rows together; the hot ones spread over `partitions`, or left out if something else takes them.
    fn plan(
        &self,
        found: Found,
        projection: Option<&Vec<usize>>,
        partitions: usize,
        without_hot: bool,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.projected(projection)?;
        let mut inputs: Vec<_> = found.files.into_iter().collect();
        if !found.hot.is_empty() && !without_hot {
            let name = &self.log.def().name;
            let kept = self.shared.kept.clone();
            let scan = HotScan::new(name, kept, found.hot, schema.clone(), projection, partitions);
            inputs.push(Arc::new(scan));
        }
        match inputs.len() {
            0 => Ok(Arc::new(EmptyExec::new(schema))),
            1 => Ok(inputs.swap_remove(0)),
            _ => UnionExec::try_new(inputs),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.log.def().name
    }

    pub(crate) fn kept(&self) -> &Arc<Kept> {
        &self.shared.kept
    }

    fn scan_files(
        &self,
        session: &SessionConfig,
        projection: Option<&Vec<usize>>,
        as_of: Option<i64>,
        files: &[&DataFile],
        mut predicates: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.schema();
        let options = TableParquetOptions {
            global: session.options().execution.parquet.clone(),
            ..TableParquetOptions::default()
        };
        let readers = CheckedReaders::new(
            self.log.store().objects().clone(),
            self.log.def().clone(),
            self.shared.footers.clone(),
        );
        let mut source = ParquetSource::new(schema.clone())
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(readers))
            .with_pushdown_filters(true);
        if let Some(t) = as_of
            && files.iter().any(|f| after(f, t))
        {
            for column in ["ts", "observed_at"] {
                let t = lit(ScalarValue::TimestampMicrosecond(Some(t), Some("UTC".into())));
                predicates.push(binary(col(column, &schema)?, Operator::LtEq, t, &schema)?);
            }
        }
        if let Some(predicate) = conjunction_opt(predicates) {
            source = source.with_predicate(predicate);
        }
        let source = GuardedSource::new(Arc::new(source), self.shared.degraded.clone());
        let rows = files.iter().map(|f| f.rows).sum::<Option<u64>>();
        let mut statistics = Statistics::new_unknown(&schema);
        if let Some(rows) = rows {
            // Never exact: rows may be later than as_of, a file may be damaged.
            statistics.num_rows = Precision::Inexact(rows as usize);
        }
        let groups = FileGroup::new(
            files
                .iter()
                .map(|f| {
                    let mut file = PartitionedFile::new("", f.size);
                    file.object_meta.location = self.log.object_path(&f.path);
                    file
                })
                .collect(),
        )
        .split_files(session.target_partitions());
        let config = FileScanConfigBuilder::new(self.shared.store_url.clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }

    fn projected(&self, projection: Option<&Vec<usize>>) -> Result<SchemaRef> {
        Ok(match projection {
            Some(p) => Arc::new(self.schema().project(p)?),
            None => self.schema(),
        })
    }
}

/// Whether the file may hold rows later than `t`.
fn after(file: &DataFile, t: i64) -> bool {
    let beyond = |column| file.ranges.get(column).is_none_or(|r| r.max > t);
    beyond("ts") || beyond("observed_at")
}

/// The rows of a hot batch that had happened and arrived by `t`.
fn known_by(batch: &RecordBatch, t: i64) -> Result<RecordBatch> {
    let mut keep: Option<BooleanArray> = None;
    for column in ["ts", "observed_at"] {
        let Some(times) = batch.column_by_name(column) else { continue };
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let limit = ScalarValue::TimestampMicrosecond(Some(t), Some("UTC".into())).to_scalar()?;
        let ok = lt_eq(times, &limit)?;
        keep = Some(match keep {
            Some(k) => arrow::compute::and(&k, &ok)?,
            None => ok,
        });
    }
    Ok(match keep {
        Some(k) => filter_record_batch(batch, &k)?,
        None => batch.clone(),
    })
}

#[async_trait]
impl TableProvider for TapioTable {
    fn schema(&self) -> SchemaRef {
        self.log.def().schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        // Inexact: files are left out by them here; rows are filtered by what the physical plan pushes down.
        let late = matches!(self.as_of, AsOf::Late(_));
        let known = |e: &Expr| literal(e).or_else(|| (late && is_fixed(e)).then_some(0));
        Ok(filters
            .iter()
            .map(|f| match bounds(&[(*f).clone()], known).is_empty() {
                true => TableProviderFilterPushDown::Unsupported,
                false => TableProviderFilterPushDown::Inexact,
            })
            .collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let as_of = match &self.as_of {
            AsOf::Late(clock) => {
                let table = Self { as_of: AsOf::All, ..self.clone() };
                let partitions = state.config().target_partitions();
                let scan = LateScan::new(table, clock.clone(), projection, filters, partitions)?;
                return Ok(Arc::new(scan));
            }
            AsOf::At(t) => Some(*t),
            AsOf::All => None,
        };
        let config = state.config();
        let bounds = bounds(filters, literal);
        let found = self.scan_now(config, projection, as_of, bounds, Vec::new()).await?;
        self.plan(found, projection, config.target_partitions(), false)
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        _input: Arc<dyn ExecutionPlan>,
        _op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        not_impl_err!("SQL in Tapio is read-only")
    }
}
