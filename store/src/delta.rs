//! The actions of the Delta protocol that Tapio writes and reads
//! (<https://github.com/delta-io/delta/blob/master/PROTOCOL.md>: protocol, metaData, add, remove, txn, commitInfo).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tapio_sql::{ColumnType, DATE_COLUMN, TableDef};

/// One line of a log entry. Lines that Tapio does not know are skipped.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Action {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<MetaData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add: Option<Add>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove: Option<Remove>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub txn: Option<Txn>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit_info: Option<Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Protocol {
    pub min_reader_version: u32,
    pub min_writer_version: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MetaData {
    pub id: String,
    pub format: Value,
    pub schema_string: String,
    pub partition_columns: Vec<String>,
    #[serde(default)]
    pub configuration: BTreeMap<String, String>,
    pub created_time: Option<i64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Add {
    pub path: String,
    pub partition_values: BTreeMap<String, Option<String>>,
    pub size: i64,
    pub modification_time: i64,
    pub data_change: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Remove {
    pub path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<i64>,
    pub data_change: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Txn {
    pub app_id: String,
    pub version: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<i64>,
}

/// Statistics of a file as Delta writes them: JSON within JSON. Timestamps are cut to milliseconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Stats {
    pub num_records: i64,
    pub min_values: BTreeMap<String, Value>,
    pub max_values: BTreeMap<String, Value>,
    pub null_count: BTreeMap<String, Value>,
}

pub(crate) const SCHEMA_VERSION_KEY: &str = "tapio.schemaVersion";

pub(crate) fn protocol() -> Action {
    Action {
        protocol: Some(Protocol { min_reader_version: 1, min_writer_version: 2 }),
        ..Action::default()
    }
}

pub(crate) fn meta_data(def: &TableDef, id: String, now_ms: i64) -> Action {
    let mut fields: Vec<Value> = def
        .columns
        .iter()
        .map(|c| {
            let ty = match c.ty {
                ColumnType::Timestamp => json!("timestamp"),
                ColumnType::Int64 => json!("long"),
                ColumnType::Float64 => json!("double"),
                ColumnType::Bool => json!("boolean"),
                ColumnType::Text | ColumnType::Label => json!("string"),
                ColumnType::Map => json!({
                    "type": "map", "keyType": "string", "valueType": "string", "valueContainsNull": true
                }),
                ColumnType::Int64List => json!({
                    "type": "array", "elementType": "long", "containsNull": false
                }),
            };
            let metadata = match &c.unit {
                Some(u) => json!({"comment": c.description, "unit": u}),
                None => json!({"comment": c.description}),
            };
            json!({"name": c.name, "type": ty, "nullable": c.nullable, "metadata": metadata})
        })
        .collect();
    fields.push(json!({"name": DATE_COLUMN, "type": "date", "nullable": true, "metadata": {}}));
    Action {
        meta_data: Some(MetaData {
            id,
            format: json!({"provider": "parquet", "options": {}}),
            schema_string: json!({"type": "struct", "fields": fields}).to_string(),
            partition_columns: vec![DATE_COLUMN.into()],
            configuration: [(SCHEMA_VERSION_KEY.into(), def.schema_version.to_string())].into(),
            created_time: Some(now_ms),
        }),
        ..Action::default()
    }
}
