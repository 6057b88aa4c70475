//! SQL with expected results: every `tests/slt/*.slt`, over the rows of the pack `oom-linear`, or over a look at certificates.

use std::{path::Path, sync::Arc};

use serde_json::Value;
use sqllogictest::{DB, DBOutput, DefaultColumnType, Runner};
use tapio_cli::{
    cell::value,
    pack::{Manifest, PackSource},
};
use tapio_query::{Engine, EngineOptions, QueryError};
use tapio_sql::PatternCatalog;
use tapio_store::{HotSource, Store};
use tapio_tests::{pack, workspace};

use crate::certificates::{self, Looked};

struct Database {
    engine: Arc<Engine>,
    runtime: tokio::runtime::Runtime,
    /// What the engine reads from, where it is not in memory.
    _looked: Option<Looked>,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn engine(hot: Arc<dyn HotSource>) -> Arc<Engine> {
    let patterns = PatternCatalog::builtin().unwrap();
    let options = EngineOptions { hot, ..EngineOptions::new(Store::memory(), patterns) };
    Engine::new(options).unwrap()
}

impl Database {
    fn of_pack(pack: &Path) -> Self {
        let manifest = Manifest::read(pack).unwrap();
        let source = PackSource::open(pack, &manifest).unwrap();
        Self { engine: engine(source), runtime: runtime(), _looked: None }
    }

    fn of_certificates() -> Self {
        let runtime = runtime();
        let looked = runtime.block_on(certificates::look());
        Self { engine: engine(Arc::new(looked.ingest.clone())), runtime, _looked: Some(looked) }
    }
}

impl DB for Database {
    type Error = QueryError;
    type ColumnType = DefaultColumnType;

    fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, QueryError> {
        let (schema, batches) = self.runtime.block_on(self.engine.sql(sql, None))?;
        let mut rows = Vec::new();
        for batch in &batches {
            for row in 0..batch.num_rows() {
                let cells = batch.columns().iter().map(|c| match value(c, row) {
                    Value::Null => "NULL".to_owned(),
                    Value::String(s) => s,
                    other => other.to_string(),
                });
                rows.push(cells.collect());
            }
        }
        let types = vec![DefaultColumnType::Any; schema.fields().len()];
        Ok(DBOutput::Rows { types, rows })
    }
}

#[test]
fn statements_answer_as_expected() {
    let mut files: Vec<_> = std::fs::read_dir(workspace().join("tests/slt"))
        .unwrap()
        .map(|f| f.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "slt"))
        .collect();
    files.sort();
    assert!(files.len() >= 2);
    for file in files {
        let of_certificates = file.ends_with("certificates.slt");
        let mut runner = Runner::new(|| async move {
            Ok(match of_certificates {
                true => Database::of_certificates(),
                false => Database::of_pack(&pack("oom-linear")),
            })
        });
        runner.run_file(&file).unwrap_or_else(|e| panic!("{}", e.display(false)));
    }
}
