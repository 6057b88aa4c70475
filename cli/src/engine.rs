//! The query engine in this process: over a store, or over what was just observed.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use tapio_query::{Engine, EngineOptions};
use tapio_sql::PatternCatalog;
use tapio_store::{HotSource, NoHotRows, Store};

use crate::{config::Config, error::CliError};

/// An engine without a server around it.
#[derive(Debug, Clone)]
pub struct LocalEngine {
    engine: Arc<Engine>,
}

impl LocalEngine {
    /// Reads a store that another process may write.
    ///
    /// # Errors
    /// Exit code 2 if a pattern is broken.
    pub fn over_store(store: Store, config: &Config) -> Result<Self, CliError> {
        Self::new(store, Arc::new(NoHotRows), config)
    }

    /// Reads a store and the rows that are hot in this process.
    ///
    /// # Errors
    /// As [`LocalEngine::over_store`].
    pub fn new(store: Store, hot: Arc<dyn HotSource>, config: &Config) -> Result<Self, CliError> {
        let patterns = PatternCatalog::builtin().map_err(CliError::tool)?;
        Ok(Self { engine: open(store, hot, patterns, config)? })
    }

    /// Asks; `as_of` in µs, `None` = the newest data.
    ///
    /// # Errors
    /// Exit code 2, with position and hint for a wrong statement.
    pub async fn query(
        &self,
        sql: &str,
        as_of: Option<i64>,
    ) -> Result<(SchemaRef, Vec<RecordBatch>), CliError> {
        self.engine.sql(sql, as_of).await.map_err(CliError::tool)
    }
}

/// An engine with the limits of the configuration.
pub fn open(
    store: Store,
    hot: Arc<dyn HotSource>,
    patterns: PatternCatalog,
    config: &Config,
) -> Result<Arc<Engine>, CliError> {
    let options = EngineOptions {
        hot,
        memory_limit: config.memory_limit.map(|b| usize::try_from(b).unwrap_or(usize::MAX)),
        time_limit: Some(config.query_limit),
        ..EngineOptions::new(store, patterns)
    };
    Engine::new(options).map_err(CliError::tool)
}
