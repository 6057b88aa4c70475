//! The engine as the Flight SQL service wants it.

use std::sync::Arc;

use datafusion::{error::DataFusionError, prelude::SessionContext};
use tapio_query::{Engine, QueryError, flight::SqlBackend};
use tonic::{Code, Status};

/// Answers the service from an engine.
pub struct Backend(pub Arc<Engine>);

#[async_trait::async_trait]
impl SqlBackend for Backend {
    async fn context(&self, as_of_us: Option<i64>) -> Result<SessionContext, DataFusionError> {
        self.0.context(as_of_us).await.map_err(|e| DataFusionError::External(Box::new(e)))
    }

    fn status(&self, error: &DataFusionError) -> Option<Status> {
        let DataFusionError::External(inner) = error.find_root() else { return None };
        let error = inner.downcast_ref::<QueryError>()?;
        let code = match error {
            QueryError::Sql { .. } => Code::InvalidArgument,
            QueryError::Resources { .. } => Code::ResourceExhausted,
            QueryError::Storage(_) | QueryError::Pattern { .. } => Code::FailedPrecondition,
            QueryError::Internal(_) => Code::Internal,
        };
        Some(Status::new(code, error.to_string()))
    }
}
