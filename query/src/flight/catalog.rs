//! What clients ask about the server and its tables.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, RecordBatch, StringArray, UInt8Array};
use arrow_flight::sql::metadata::{
    SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfoData, XdbcTypeInfoDataBuilder,
};
use arrow_flight::sql::{CommandGetDbSchemas, CommandGetTables, SqlInfo};
use datafusion::catalog::CatalogProvider;
use datafusion::logical_expr::TableType;
use datafusion::prelude::SessionContext;
use tonic::Status;

use super::SERVER_NAME;
use super::wire::{advertised, internal};

/// The kinds of table that `CommandGetTables` may name, as `information_schema` calls them.
pub(super) const TABLE_TYPES: [&str; 3] = ["BASE TABLE", "LOCAL TEMPORARY", "VIEW"];

fn type_name(table_type: TableType) -> &'static str {
    match table_type {
        TableType::Base => "BASE TABLE",
        TableType::Temporary => "LOCAL TEMPORARY",
        TableType::View => "VIEW",
    }
}

/// Who we are and what we can do.
pub(super) fn sql_info() -> Result<SqlInfoData, Status> {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, SERVER_NAME);
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, arrow::ARROW_VERSION);
    info.append(SqlInfo::FlightSqlServerReadOnly, true);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    // 0 = none; clients then stay in autocommit.
    info.append(SqlInfo::FlightSqlServerTransaction, 0i32);
    info.append(SqlInfo::FlightSqlServerCancel, false);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.build().map_err(internal)
}

/// No types are listed: their JDBC names are the driver's business.
pub(super) fn xdbc_types() -> Result<XdbcTypeInfoData, Status> {
    XdbcTypeInfoDataBuilder::new().build().map_err(internal)
}

fn catalogs(
    context: &SessionContext,
    wanted: &mut Option<String>,
) -> Vec<(String, Arc<dyn CatalogProvider>)> {
    // By the protocol an empty name means tables without a catalog. Ours all have one, and drivers send it for "any".
    wanted.take_if(|name| name.is_empty());
    let mut names = context.catalog_names();
    names.sort();
    names
        .into_iter()
        .filter(|name| wanted.as_ref().is_none_or(|wanted| wanted == name))
        .filter_map(|name| context.catalog(&name).map(|catalog| (name, catalog)))
        .collect()
}

/// The rows of `CommandGetDbSchemas`.
pub(super) fn schemas(
    context: &SessionContext,
    mut query: CommandGetDbSchemas,
) -> Result<RecordBatch, Status> {
    let found = catalogs(context, &mut query.catalog);
    let mut rows = query.into_builder();
    for (name, catalog) in found {
        for schema in catalog.schema_names() {
            rows.append(&name, schema);
        }
    }
    rows.build().map_err(internal)
}

/// The rows of `CommandGetTables`. A table that cannot be opened is left out, with a warning in the log: the others
/// must stay in sight.
pub(super) async fn tables(
    context: &SessionContext,
    mut query: CommandGetTables,
) -> Result<RecordBatch, Status> {
    let found = catalogs(context, &mut query.catalog);
    let mut rows = query.into_builder();
    for (catalog_name, catalog) in found {
        for schema_name in catalog.schema_names() {
            let Some(schema) = catalog.schema(&schema_name) else { continue };
            for table_name in schema.table_names() {
                match schema.table(&table_name).await {
                    Ok(Some(table)) => rows
                        .append(
                            &catalog_name,
                            &schema_name,
                            &table_name,
                            type_name(table.table_type()),
                            &advertised(&table.schema()),
                        )
                        .map_err(internal)?,
                    Ok(None) => {}
                    Err(error) => {
                        tracing::warn!(table = table_name, %error, "table left out of the listing");
                    }
                }
            }
        }
    }
    rows.build().map_err(internal)
}

fn no_rows(columns: Vec<(&str, ArrayRef, bool)>) -> Result<RecordBatch, Status> {
    RecordBatch::try_from_iter_with_nullable(columns).map_err(internal)
}

fn text() -> ArrayRef {
    Arc::new(StringArray::new_null(0))
}

/// The answer to `CommandGetPrimaryKeys`: Tapio's tables have none (T1: one row is one observation).
pub(super) fn primary_keys() -> Result<RecordBatch, Status> {
    no_rows(vec![
        ("catalog_name", text(), true),
        ("db_schema_name", text(), true),
        ("table_name", text(), false),
        ("column_name", text(), false),
        ("key_name", text(), true),
        ("key_sequence", Arc::new(Int32Array::new_null(0)), false),
    ])
}

/// The answer to questions about foreign keys: there are none.
pub(super) fn foreign_keys() -> Result<RecordBatch, Status> {
    no_rows(vec![
        ("pk_catalog_name", text(), true),
        ("pk_db_schema_name", text(), true),
        ("pk_table_name", text(), false),
        ("pk_column_name", text(), false),
        ("fk_catalog_name", text(), true),
        ("fk_db_schema_name", text(), true),
        ("fk_table_name", text(), false),
        ("fk_column_name", text(), false),
        ("key_sequence", Arc::new(Int32Array::new_null(0)), false),
        ("fk_key_name", text(), true),
        ("pk_key_name", text(), true),
        ("update_rule", Arc::new(UInt8Array::new_null(0)), false),
        ("delete_rule", Arc::new(UInt8Array::new_null(0)), false),
    ])
}
