//! Small functions for titles, ids and paths.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, ListBuilder, StringArray, StringBuilder,
        TimestampMicrosecondArray,
    },
    datatypes::{DataType, Field, Float64Type, TimestampMicrosecondType},
};
use datafusion::{
    common::Result,
    logical_expr::{
        ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature,
        Volatility, scalar_doc_sections::DOC_SECTION_OTHER,
    },
};

use tapio_sql::words::{amount_words, bytes_words, duration_words};

use super::time_type;

macro_rules! scalar_udf {
    ($(#[$doc:meta])* $type:ident, $name:literal, $signature:expr, $returns:expr, $eval:expr, $syntax:literal, $text:literal) => {
        $(#[$doc])*
        #[derive(Debug, PartialEq, Eq, Hash)]
        pub(super) struct $type {
            signature: Signature,
            documentation: Documentation,
        }

        impl $type {
            pub(super) fn new() -> Self {
                Self {
                    signature: Signature::new($signature, Volatility::Immutable),
                    documentation: Documentation::builder(DOC_SECTION_OTHER, $text, $syntax).build(),
                }
            }
        }

        impl ScalarUDFImpl for $type {
            fn name(&self) -> &str {
                $name
            }

            fn signature(&self) -> &Signature {
                &self.signature
            }

            fn return_type(&self, _: &[DataType]) -> Result<DataType> {
                Ok($returns)
            }

            fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
                let columns = ColumnarValue::values_to_arrays(&args.args)?;
                let eval: fn(&[ArrayRef]) -> ArrayRef = $eval;
                Ok(ColumnarValue::Array(eval(&columns)))
            }

            fn documentation(&self) -> Option<&Documentation> {
                Some(&self.documentation)
            }
        }
    };
}

scalar_udf!(
    /// `tapio_format_bytes(x)`.
    FormatBytes,
    "tapio_format_bytes",
    TypeSignature::Exact(vec![DataType::Float64]),
    DataType::Utf8,
    |c| Arc::new(c[0].as_primitive::<Float64Type>().iter().map(|v| v.map(bytes_words)).collect::<StringArray>()),
    "tapio_format_bytes(x)",
    "Bytes for a human, binary prefixes: 2.3 MiB. NULL for NULL. Example: tapio_format_bytes(2400000) || '/s'"
);
scalar_udf!(
    /// `tapio_format_duration(s)`.
    FormatDuration,
    "tapio_format_duration",
    TypeSignature::Exact(vec![DataType::Float64]),
    DataType::Utf8,
    |c| Arc::new(c[0].as_primitive::<Float64Type>().iter().map(|v| v.map(duration_words)).collect::<StringArray>()),
    "tapio_format_duration(seconds)",
    "Seconds for a human: 42 seconds, 1.5 minutes, 3.2 hours, 2 days. NULL for NULL. Example: 'in ' || tapio_format_duration(90)"
);
scalar_udf!(
    /// `tapio_format_amount(type, x)`.
    FormatAmount,
    "tapio_format_amount",
    TypeSignature::Exact(vec![DataType::Utf8, DataType::Float64]),
    DataType::Utf8,
    |c| {
        let values = c[1].as_primitive::<Float64Type>();
        let words =
            c[0].as_string::<i32>().iter().zip(values).map(|(ty, v)| Some(amount_words(ty?, v?)));
        Arc::new(words.collect::<StringArray>())
    },
    "tapio_format_amount(type, x)",
    "An amount of what a prediction of that type is about: bytes as tapio_format_bytes writes them for oom, heap and disk_full, a \
     plain number for all others. NULL if either is NULL. Example: tapio_format_amount('fds', 812)"
);
scalar_udf!(
    /// `tapio_derived_id(part, …)`.
    DerivedId,
    "tapio_derived_id",
    TypeSignature::Variadic(vec![DataType::Utf8]),
    DataType::Utf8,
    |c| {
        let columns: Vec<&StringArray> = c.iter().map(|c| c.as_string::<i32>()).collect();
        let rows = columns.first().map_or(0, |c| c.len());
        Arc::new((0..rows).map(|i| {
            let parts: Option<Vec<&str>> =
                columns.iter().map(|c| c.is_valid(i).then(|| c.value(i))).collect();
            parts.map(|p| tapio_sql::derived_id(&p))
        }).collect::<StringArray>())
    },
    "tapio_derived_id(part, ...)",
    "UUIDv8 over the parts: the id of a derived row, the same for the same parts. NULL if a part is NULL. \
     Example: tapio_derived_id('memory_leak_oom', CAST(series_id AS VARCHAR), '1795392000000000')"
);
scalar_udf!(
    /// `tapio_ago(ts, seconds)`.
    Ago,
    "tapio_ago",
    TypeSignature::Exact(vec![time_type(), DataType::Float64]),
    time_type(),
    |c| {
        let seconds = c[1].as_primitive::<Float64Type>();
        let times = c[0].as_primitive::<TimestampMicrosecondType>();
        let earlier = times.iter().zip(seconds).map(|(t, s)| {
            let us = s.filter(|s| s.is_finite()).map(|s| (s * 1e6).round() as i64);
            t?.checked_sub(us?)
        });
        Arc::new(earlier.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
    },
    "tapio_ago(ts, seconds)",
    "The time so many seconds (also fractions) before ts. NULL if either is NULL or the result is out of range. \
     Example: ts > tapio_ago(TIMESTAMP '2026-11-23T10:00:00Z', 900)"
);
scalar_udf!(
    /// `tapio_ancestors(path)`.
    Ancestors,
    "tapio_ancestors",
    TypeSignature::Exact(vec![DataType::Utf8]),
    DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))),
    |c| {
        let mut list = ListBuilder::new(StringBuilder::new());
        for path in c[0].as_string::<i32>() {
            let Some(path) = path else {
                list.append_null();
                continue;
            };
            ancestors(path, |p| list.values().append_value(p));
            list.append(true);
        }
        Arc::new(list.finish())
    },
    "tapio_ancestors(path)",
    "The cgroup path itself and all paths above it, up to '/'. NULL for NULL. \
     Example: tapio_ancestors('/a/b') = ['/a/b', '/a', '/']"
);

fn ancestors(path: &str, mut each: impl FnMut(&str)) {
    let mut rest = path.trim_end_matches('/');
    while let Some(cut) = rest.rfind('/') {
        each(rest);
        rest = &rest[..cut];
    }
    each("/");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancestors_end_at_the_root() {
        let of = |p| {
            let mut v = Vec::new();
            ancestors(p, |a| v.push(a.to_owned()));
            v
        };
        assert_eq!(of("/a/b"), ["/a/b", "/a", "/"]);
        assert_eq!(of("/"), ["/"]);
        assert_eq!(of(""), ["/"]);
    }
}
