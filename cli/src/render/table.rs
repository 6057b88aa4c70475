//! Rows of any relation as a table for humans, as JSON or as CSV.

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use serde_json::{Map, Value};

use crate::cell::value;

/// Cells wider than this are cut in the human table; the other forms have them whole.
const MAX_CELL: usize = 60;

/// An aligned table with a count below it.
pub fn human(schema: &SchemaRef, batches: &[RecordBatch]) -> String {
    let header: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
    let numeric: Vec<bool> = schema.fields().iter().map(|f| f.data_type().is_numeric()).collect();
    let rows: Vec<Vec<String>> =
        cells(batches).map(|row| row.iter().map(|v| cut(&plain(v))).collect()).collect();
    let width = |c: usize| {
        rows.iter()
            .map(|r| r[c].chars().count())
            .chain([header[c].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut out = String::new();
    let mut push = |cells: &[String], align: bool| {
        let padded: Vec<String> = cells
            .iter()
            .enumerate()
            .map(|(c, text)| {
                let fill = " ".repeat(widths[c].saturating_sub(text.chars().count()));
                if align && numeric[c] { format!("{fill}{text}") } else { format!("{text}{fill}") }
            })
            .collect();
        out.push_str(padded.join("  ").trim_end());
        out.push('\n');
    };
    push(&header, false);
    push(&widths.iter().map(|w| "-".repeat(*w)).collect::<Vec<_>>(), false);
    for row in &rows {
        push(row, true);
    }
    out.push_str(&format!("({} row{})\n", rows.len(), if rows.len() == 1 { "" } else { "s" }));
    out
}

/// An array of objects, one per row.
pub fn json(schema: &SchemaRef, batches: &[RecordBatch]) -> Value {
    let objects = cells(batches).map(|row| {
        let pairs = schema.fields().iter().zip(row).map(|(f, v)| (f.name().clone(), v));
        Value::Object(pairs.collect::<Map<_, _>>())
    });
    Value::Array(objects.collect())
}

/// RFC 4180 with a header; lists and structs as JSON, NULL as nothing.
pub fn csv(schema: &SchemaRef, batches: &[RecordBatch]) -> String {
    let mut out = String::new();
    let mut push = |cells: Vec<String>| {
        out.push_str(&cells.iter().map(|c| quoted(c)).collect::<Vec<_>>().join(","));
        out.push_str("\r\n");
    };
    push(schema.fields().iter().map(|f| f.name().clone()).collect());
    for row in cells(batches) {
        push(row.iter().map(plain).collect());
    }
    out
}

fn cells(batches: &[RecordBatch]) -> impl Iterator<Item = Vec<Value>> {
    batches.iter().flat_map(|b| {
        (0..b.num_rows()).map(move |row| b.columns().iter().map(|c| value(c, row)).collect())
    })
}

fn plain(v: &Value) -> String {
    match v {
        Value::Null => String::new(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

fn cut(text: &str) -> String {
    let one_line = text.replace(['\n', '\r', '\t'], " ");
    if one_line.chars().count() <= MAX_CELL {
        return one_line;
    }
    one_line.chars().take(MAX_CELL - 1).chain(['…']).collect()
}

fn quoted(cell: &str) -> String {
    if cell.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
    use serde_json::json;
    use std::sync::Arc;

    fn batch() -> RecordBatch {
        RecordBatch::try_from_iter(vec![
            ("name", Arc::new(StringArray::from(vec![Some("a,\"b\""), None])) as ArrayRef),
            ("n", Arc::new(Int64Array::from(vec![Some(12), Some(3)]))),
            ("share", Arc::new(Float64Array::from(vec![0.5, f64::NAN]))),
        ])
        .unwrap()
    }

    #[test]
    fn one_set_of_rows_in_three_forms() {
        let b = batch();
        let schema = b.schema();
        let batches = [b];
        assert_eq!(
            human(&schema, &batches),
            "name   n   share\n-----  --  -----\na,\"b\"  12    0.5\n        3\n(2 rows)\n"
        );
        assert_eq!(csv(&schema, &batches), "name,n,share\r\n\"a,\"\"b\"\"\",12,0.5\r\n,3,\r\n");
        assert_eq!(
            super::json(&schema, &batches),
            json!([{"name": "a,\"b\"", "n": 12, "share": 0.5}, {"name": null, "n": 3, "share": null}])
        );
        assert_eq!(human(&schema, &[]).lines().last(), Some("(0 rows)"));
    }
}
