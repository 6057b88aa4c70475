//! The Flight SQL commands, each answered from the request alone.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::metadata::SqlInfoData;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, CommandGetCatalogs, CommandGetCrossReference,
    CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys, CommandGetPrimaryKeys,
    CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandGetXdbcTypeInfo,
    CommandPreparedStatementQuery, CommandPreparedStatementUpdate, CommandStatementIngest,
    CommandStatementQuery, CommandStatementUpdate, DoPutPreparedStatementResult, ProstMessageExt,
    SqlInfo, TicketStatementQuery,
};
use arrow_flight::{Action, FlightDescriptor, FlightEndpoint, FlightInfo, Ticket};
use datafusion::logical_expr::LogicalPlan;
use futures::TryStreamExt;
use prost::Message;
use tonic::{Request, Response, Status};

use super::catalog;
use super::run::{Runner, refused};
use super::statement::{Statement, as_of};
use super::wire::{DataStream, encode, internal, schema_bytes};

/// The Flight SQL service of one server.
pub(super) struct Service {
    runner: Runner,
    info: SqlInfoData,
}

type Answer<T> = Result<Response<T>, Status>;

impl Service {
    pub fn new(runner: Runner) -> Result<Self, Status> {
        Ok(Self { runner, info: catalog::sql_info()? })
    }

    /// A prepared statement as its handle says; the header fills in an `as_of` that the handle lacks.
    fn prepared<T>(
        query: CommandPreparedStatementQuery,
        request: &Request<T>,
    ) -> Result<Statement, Status> {
        let mut statement = Statement::from_bytes(query.prepared_statement_handle)?;
        if statement.as_of_us.is_none() {
            statement.as_of_us = as_of(request.metadata())?;
        }
        Ok(statement)
    }

    async fn run(&self, statement: &Statement) -> Answer<DataStream> {
        let planned = self.runner.plan(statement).await?;
        Ok(Response::new(self.runner.run(planned).await?))
    }
}

/// FlightInfo with one endpoint: this server, by the same command.
fn info(
    command: &impl ProstMessageExt,
    schema: &Schema,
    request: Request<FlightDescriptor>,
) -> Answer<FlightInfo> {
    let endpoint = FlightEndpoint::new().with_ticket(Ticket::new(command.as_any().encode_to_vec()));
    let info = FlightInfo::new().try_with_schema(schema).map_err(internal)?;
    Ok(Response::new(info.with_endpoint(endpoint).with_descriptor(request.into_inner())))
}

fn rows(batch: Result<RecordBatch, impl std::fmt::Display>) -> Answer<DataStream> {
    let batch = batch.map_err(internal)?;
    Ok(Response::new(encode(batch.schema(), futures::stream::iter([Ok(batch)]))))
}

/// One nullable field per parameter, in the order of their numbers; Null where the type follows from no context.
fn parameter_schema(plan: &LogicalPlan) -> Result<Schema, Status> {
    let mut types: Vec<(String, Option<DataType>)> =
        plan.get_parameter_types().map_err(internal)?.into_iter().collect();
    // "$10" after "$2".
    types.sort_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    let fields = types
        .into_iter()
        .map(|(name, data_type)| Field::new(name, data_type.unwrap_or(DataType::Null), true));
    Ok(Schema::new(fields.collect::<Vec<_>>()))
}

#[tonic::async_trait]
impl FlightSqlService for Service {
    type FlightService = Self;

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let as_of_us = as_of(request.metadata())?;
        let statement = Statement { sql: query.query, as_of_us, parameters: None };
        let schema = self.runner.plan(&statement).await?.schema();
        let ticket = TicketStatementQuery { statement_handle: statement.to_bytes() };
        info(&ticket, &schema, request)
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        request: Request<Ticket>,
    ) -> Answer<DataStream> {
        let mut statement = Statement::from_bytes(ticket.statement_handle)?;
        if statement.as_of_us.is_none() {
            statement.as_of_us = as_of(request.metadata())?;
        }
        self.run(&statement).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let as_of_us = as_of(request.metadata())?;
        let statement = Statement { sql: query.query, as_of_us, parameters: None };
        let planned = self.runner.plan(&statement).await?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: statement.to_bytes(),
            dataset_schema: schema_bytes(&planned.schema())?,
            parameter_schema: schema_bytes(&parameter_schema(planned.plan())?)?,
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        _: ActionClosePreparedStatementRequest,
        _: Request<Action>,
    ) -> Result<(), Status> {
        // The client held all there was.
        Ok(())
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let mut statement = Self::prepared(query, &request)?;
        let data = request.into_inner().map_err(|status| FlightError::Tonic(Box::new(status)));
        let batches: Vec<RecordBatch> =
            FlightRecordBatchStream::new_from_flight_data(data).try_collect().await?;
        statement.bind(&batches)?;
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(statement.to_bytes()) })
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let statement = Self::prepared(query, &request)?;
        let schema = self.runner.plan(&statement).await?.schema();
        let ticket =
            CommandPreparedStatementQuery { prepared_statement_handle: statement.to_bytes() };
        info(&ticket, &schema, request)
    }

    async fn do_get_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<Ticket>,
    ) -> Answer<DataStream> {
        self.run(&Self::prepared(query, &request)?).await
    }

    async fn do_put_statement_update(
        &self,
        _: CommandStatementUpdate,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(refused("updates"))
    }

    async fn do_put_statement_ingest(
        &self,
        _: CommandStatementIngest,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(refused("bulk ingestion"))
    }

    async fn do_put_prepared_statement_update(
        &self,
        _: CommandPreparedStatementUpdate,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        Err(refused("updates"))
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        info(&query, &query.into_builder().schema(), request)
    }

    async fn do_get_catalogs(
        &self,
        query: CommandGetCatalogs,
        _: Request<Ticket>,
    ) -> Answer<DataStream> {
        let mut builder = query.into_builder();
        for name in self.runner.context(None).await?.catalog_names() {
            builder.append(name);
        }
        rows(builder.build())
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let schema = query.clone().into_builder().schema();
        info(&query, &schema, request)
    }

    async fn do_get_schemas(
        &self,
        query: CommandGetDbSchemas,
        _: Request<Ticket>,
    ) -> Answer<DataStream> {
        rows(catalog::schemas(&self.runner.context(None).await?, query))
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        let schema = query.clone().into_builder().schema();
        info(&query, &schema, request)
    }

    async fn do_get_tables(
        &self,
        query: CommandGetTables,
        request: Request<Ticket>,
    ) -> Answer<DataStream> {
        let context = self.runner.context(as_of(request.metadata())?).await?;
        rows(catalog::tables(&context, query).await)
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        info(&query, &query.into_builder().schema(), request)
    }

    async fn do_get_table_types(
        &self,
        query: CommandGetTableTypes,
        _: Request<Ticket>,
    ) -> Answer<DataStream> {
        let mut builder = query.into_builder();
        for name in catalog::TABLE_TYPES {
            builder.append(name);
        }
        rows(builder.build())
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        info(&query, &self.info.schema(), request)
    }

    async fn do_get_sql_info(
        &self,
        query: CommandGetSqlInfo,
        _: Request<Ticket>,
    ) -> Answer<DataStream> {
        rows(query.into_builder(&self.info).build())
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        info(&query, &catalog::xdbc_types()?.schema(), request)
    }

    async fn do_get_xdbc_type_info(
        &self,
        query: CommandGetXdbcTypeInfo,
        _: Request<Ticket>,
    ) -> Answer<DataStream> {
        rows(query.into_builder(&catalog::xdbc_types()?).build())
    }

    async fn get_flight_info_primary_keys(
        &self,
        query: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        info(&query, catalog::primary_keys()?.schema_ref(), request)
    }

    async fn do_get_primary_keys(
        &self,
        _: CommandGetPrimaryKeys,
        _: Request<Ticket>,
    ) -> Answer<DataStream> {
        rows(catalog::primary_keys())
    }

    async fn get_flight_info_exported_keys(
        &self,
        query: CommandGetExportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        info(&query, catalog::foreign_keys()?.schema_ref(), request)
    }

    async fn do_get_exported_keys(
        &self,
        _: CommandGetExportedKeys,
        _: Request<Ticket>,
    ) -> Answer<DataStream> {
        rows(catalog::foreign_keys())
    }

    async fn get_flight_info_imported_keys(
        &self,
        query: CommandGetImportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        info(&query, catalog::foreign_keys()?.schema_ref(), request)
    }

    async fn do_get_imported_keys(
        &self,
        _: CommandGetImportedKeys,
        _: Request<Ticket>,
    ) -> Answer<DataStream> {
        rows(catalog::foreign_keys())
    }

    async fn get_flight_info_cross_reference(
        &self,
        query: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> Answer<FlightInfo> {
        info(&query, catalog::foreign_keys()?.schema_ref(), request)
    }

    async fn do_get_cross_reference(
        &self,
        _: CommandGetCrossReference,
        _: Request<Ticket>,
    ) -> Answer<DataStream> {
        rows(catalog::foreign_keys())
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}
