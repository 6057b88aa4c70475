//! Reading cells of record batches, whatever the physical type.

use arrow::{
    array::{Array, AsArray, RecordBatch, StructArray},
    datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType},
    util::display::{ArrayFormatter, FormatOptions},
};
use serde_json::{Map, Number, Value};

use crate::time::rfc3339;

/// One row of a batch, cells by column name. A missing column reads as NULL.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    batch: &'a RecordBatch,
    row: usize,
}

/// All rows of all batches.
pub fn rows(batches: &[RecordBatch]) -> impl Iterator<Item = Row<'_>> {
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |row| Row { batch, row }))
}

impl Row<'_> {
    fn column(&self, name: &str) -> Option<&dyn Array> {
        let column = self.batch.column_by_name(name)?.as_ref();
        (!column.is_null(self.row)).then_some(column)
    }

    /// A cell as text; numbers and times are formatted.
    pub fn text(&self, name: &str) -> Option<String> {
        match value(self.column(name)?, self.row) {
            Value::Null => None,
            Value::String(s) => Some(s),
            other => Some(other.to_string()),
        }
    }

    /// A cell as an integer.
    pub fn int(&self, name: &str) -> Option<i64> {
        match value(self.column(name)?, self.row) {
            Value::Number(n) => n.as_i64().or_else(|| n.as_f64().map(|f| f as i64)),
            _ => None,
        }
    }

    /// A cell as a number.
    pub fn float(&self, name: &str) -> Option<f64> {
        match value(self.column(name)?, self.row) {
            Value::Number(n) => n.as_f64(),
            _ => None,
        }
    }

    /// A cell as a truth value.
    pub fn bool(&self, name: &str) -> Option<bool> {
        value(self.column(name)?, self.row).as_bool()
    }

    /// A timestamp in µs.
    pub fn time(&self, name: &str) -> Option<i64> {
        time_us(self.column(name)?, self.row)
    }

    /// A list of structs, one map per element.
    pub fn structs(&self, name: &str) -> Vec<Map<String, Value>> {
        let Some(Value::Array(items)) = self.column(name).map(|c| value(c, self.row)) else {
            return Vec::new();
        };
        items
            .into_iter()
            .filter_map(|i| if let Value::Object(m) = i { Some(m) } else { None })
            .collect()
    }
}

fn time_us(column: &dyn Array, row: usize) -> Option<i64> {
    let DataType::Timestamp(unit, _) = column.data_type() else { return None };
    let cast;
    let micros = if *unit == TimeUnit::Microsecond {
        column.as_primitive_opt::<TimestampMicrosecondType>()?
    } else {
        let target = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        cast = arrow::compute::cast(&column.slice(row, 1), &target).ok()?;
        return cast.as_primitive_opt::<TimestampMicrosecondType>().map(|c| c.value(0));
    };
    Some(micros.value(row))
}

/// A cell as JSON: times RFC 3339, structs as objects, maps as objects, NaN and infinities as null.
pub fn value(column: &dyn Array, row: usize) -> Value {
    if column.is_null(row) {
        return Value::Null;
    }
    match column.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => Value::Bool(column.as_boolean().value(row)),
        DataType::Int64 => column.as_primitive::<Int64Type>().value(row).into(),
        DataType::Float64 => Number::from_f64(column.as_primitive::<Float64Type>().value(row))
            .map_or(Value::Null, Value::Number),
        t if t.is_integer() => arrow::compute::cast(&column.slice(row, 1), &DataType::Int64)
            .map_or_else(|_| formatted(column, row), |c| value(&c, 0)),
        t if t.is_floating() => arrow::compute::cast(&column.slice(row, 1), &DataType::Float64)
            .map_or_else(|_| formatted(column, row), |c| value(&c, 0)),
        DataType::Utf8 => column.as_string::<i32>().value(row).into(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(row).into(),
        DataType::Utf8View => column.as_string_view().value(row).into(),
        DataType::Dictionary(_, values) => arrow::compute::cast(&column.slice(row, 1), values)
            .map_or(Value::Null, |c| value(&c, 0)),
        DataType::Timestamp(..) => {
            time_us(column, row).map_or(Value::Null, |us| rfc3339(us).into())
        }
        DataType::List(_) => list(&column.as_list::<i32>().value(row)),
        DataType::LargeList(_) => list(&column.as_list::<i64>().value(row)),
        DataType::Struct(_) => Value::Object(object(column.as_struct(), row)),
        DataType::Map(..) => {
            let entries = column.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let pairs = (0..entries.len()).map(|i| (key_text(keys, i), value(values, i)));
            Value::Object(pairs.collect())
        }
        _ => formatted(column, row),
    }
}

fn key_text(keys: &dyn Array, row: usize) -> String {
    match value(keys, row) {
        Value::String(s) => s,
        other => other.to_string(),
    }
}

fn list(items: &dyn Array) -> Value {
    Value::Array((0..items.len()).map(|i| value(items, i)).collect())
}

fn object(columns: &StructArray, row: usize) -> Map<String, Value> {
    let fields = columns.fields().iter().zip(columns.columns());
    fields.map(|(f, c)| (f.name().clone(), value(c, row))).collect()
}

fn formatted(column: &dyn Array, row: usize) -> Value {
    ArrayFormatter::try_new(column, &FormatOptions::default())
        .map_or(Value::Null, |f| f.value(row).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::{
        array::{
            ArrayRef, BooleanArray, DictionaryArray, Float32Array, Float64Array, Int32Array,
            StringArray, TimestampMicrosecondArray, TimestampMillisecondArray, UInt64Array,
        },
        datatypes::Int32Type,
    };
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn cells_of_any_type_read_the_same() {
        let us = TimestampMicrosecondArray::from(vec![1_795_392_000_123_000]).with_timezone("UTC");
        let ms = TimestampMillisecondArray::from(vec![1_795_392_000_123]).with_timezone("UTC");
        let label: DictionaryArray<Int32Type> = vec!["a"].into_iter().collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("us", Arc::new(us)),
            ("ms", Arc::new(ms)),
            ("label", Arc::new(label)),
            ("text", Arc::new(StringArray::from(vec!["a"]))),
            ("i", Arc::new(Int32Array::from(vec![-3]))),
            ("u", Arc::new(UInt64Array::from(vec![3]))),
            ("f", Arc::new(Float32Array::from(vec![0.5]))),
            ("nan", Arc::new(Float64Array::from(vec![f64::NAN]))),
            ("b", Arc::new(BooleanArray::from(vec![true]))),
            ("none", Arc::new(StringArray::from(vec![None::<&str>]))),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let batches = [batch];
        let row = rows(&batches).next().unwrap();
        assert_eq!(row.time("us"), Some(1_795_392_000_123_000));
        assert_eq!(row.time("ms"), row.time("us"));
        assert_eq!(row.text("ms").as_deref(), Some("2026-11-23T00:00:00.123Z"));
        assert_eq!((row.text("label"), row.text("none")), (Some("a".into()), None));
        assert_eq!((row.int("i"), row.int("u"), row.float("f")), (Some(-3), Some(3), Some(0.5)));
        assert_eq!((row.float("nan"), row.bool("b")), (None, Some(true)));
        assert_eq!(row.text("no such column"), None);
        assert_eq!(value(batches[0].column(0), 0), json!("2026-11-23T00:00:00.123Z"));
    }
}
