//! A statement as it travels: SQL, `as_of` and parameters inside tickets and handles.

use arrow::array::RecordBatch;
use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;
use datafusion::common::ParamValues;
use datafusion::scalar::ScalarValue;
use prost::Message;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::AS_OF_HEADER;

/// Everything the server needs to answer; clients treat it as opaque.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Statement {
    /// The SQL as given.
    #[prost(string, tag = "1")]
    pub sql: String,
    /// Microseconds since 1970; absent = the engine's default.
    #[prost(sint64, optional, tag = "2")]
    pub as_of_us: Option<i64>,
    /// One row of parameters as an Arrow IPC stream.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub parameters: Option<Bytes>,
}

impl Statement {
    pub fn from_bytes(bytes: Bytes) -> Result<Self, Status> {
        Self::decode(bytes).map_err(|e| {
            Status::invalid_argument(format!(
                "this ticket or statement handle was not made by a Tapio server ({e}): prepare or execute again"
            ))
        })
    }

    pub fn to_bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// Binds the one row in `batches`.
    pub fn bind(&mut self, batches: &[RecordBatch]) -> Result<(), Status> {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let Some(batch) = batches.iter().find(|b| b.num_rows() > 0).filter(|_| rows == 1) else {
            return Err(Status::invalid_argument(format!(
                "a query takes exactly one row of parameters, got {rows}: execute it once per row"
            )));
        };
        let mut bytes = Vec::new();
        let written = StreamWriter::try_new(&mut bytes, &batch.schema()).and_then(|mut writer| {
            writer.write(batch)?;
            writer.finish()
        });
        written.map_err(|e| Status::invalid_argument(format!("parameters: {e}")))?;
        self.parameters = Some(bytes.into());
        Ok(())
    }

    /// The bound values: by position if the columns are unnamed or bare numbers, else by name.
    pub fn values(&self) -> Result<Option<ParamValues>, Status> {
        let Some(bytes) = &self.parameters else { return Ok(None) };
        let wrong = |e: String| Status::invalid_argument(format!("parameters: {e}"));
        let mut reader =
            StreamReader::try_new(bytes.as_ref(), None).map_err(|e| wrong(e.to_string()))?;
        let batch = reader
            .next()
            .ok_or_else(|| wrong("no row".into()))?
            .map_err(|e| wrong(e.to_string()))?;
        let mut named = Vec::with_capacity(batch.num_columns());
        for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let value = ScalarValue::try_from_array(column, 0).map_err(|e| wrong(e.to_string()))?;
            named.push((field.name().trim_start_matches('$').to_owned(), value));
        }
        // Columns called `$2`, `$1` (the parameter schema's own names) or `name` are bound by name.
        let by_name = batch
            .schema_ref()
            .fields()
            .iter()
            .any(|field| !field.name().is_empty() && field.name().parse::<usize>().is_err());
        if by_name {
            return Ok(Some(named.into()));
        }
        // Drivers send columns in the order of the parameters, counted from 0, from 1, or not at all.
        Ok(Some(named.into_iter().map(|(_, value)| value).collect::<Vec<_>>().into()))
    }
}

/// Reads the `tapio-as-of` header: RFC 3339, or microseconds since 1970.
pub(super) fn as_of(headers: &MetadataMap) -> Result<Option<i64>, Status> {
    let Some(value) = headers.get(AS_OF_HEADER) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if let Ok(micros) = text.parse::<i64>() {
        return Ok(Some(micros));
    }
    string_to_timestamp_nanos(text).map(|nanos| Some(nanos.div_euclid(1_000))).map_err(|_| {
        Status::invalid_argument(format!(
            "header {AS_OF_HEADER}: {text:?} is no time: give RFC 3339 (2026-01-31T12:00:00Z) or microseconds since 1970"
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array};

    use super::*;

    #[test]
    fn as_of_in_both_forms() {
        let read = |text: &str| {
            let mut map = MetadataMap::new();
            map.insert(AS_OF_HEADER, text.parse().unwrap());
            as_of(&map)
        };
        assert_eq!(read("1970-01-01T00:00:01.5Z").unwrap(), Some(1_500_000));
        assert_eq!(read("1970-01-01T01:00:00+01:00").unwrap(), Some(0));
        assert_eq!(read("-3").unwrap(), Some(-3));
        assert!(read("yesterday").unwrap_err().message().contains("RFC 3339"));
        assert_eq!(as_of(&MetadataMap::new()).unwrap(), None);
    }

    #[test]
    fn parameters_survive_the_handle() {
        let row = |names: &[&str]| {
            let columns = names
                .iter()
                .enumerate()
                .map(|(i, n)| (*n, Arc::new(Int64Array::from(vec![i as i64])) as ArrayRef));
            RecordBatch::try_from_iter(columns).unwrap()
        };
        let mut statement = Statement { sql: "select $1".into(), ..Default::default() };
        statement.bind(&[row(&["0", "1"])]).unwrap();
        let read = Statement::from_bytes(statement.to_bytes()).unwrap();
        assert!(matches!(read.values().unwrap(), Some(ParamValues::List(l)) if l.len() == 2));
        statement.bind(&[row(&["a", "b"])]).unwrap();
        assert!(matches!(statement.values().unwrap(), Some(ParamValues::Map(m)) if m.len() == 2));
        let two = [row(&["a"]), row(&["a"])];
        assert!(statement.bind(&two).unwrap_err().message().contains("exactly one row"));
        assert!(statement.bind(&[]).is_err());
        assert!(Statement::from_bytes(Bytes::from_static(b"\xff\xff")).is_err());
        statement.parameters = Some(Bytes::from_static(b"nonsense"));
        assert!(statement.values().is_err());
    }
}
