//! Evidence: lists of facts, each with the id of the event that shows it, or none where it was measured.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, ListArray, StringArray, StringBuilder, StructArray,
        TimestampMicrosecondBuilder,
    },
    buffer::OffsetBuffer,
    datatypes::{DataType, Field, FieldRef, Fields, TimestampMicrosecondType},
};
use datafusion::{
    common::{Result, plan_err},
    logical_expr::{
        ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
        scalar_doc_sections::DOC_SECTION_OTHER,
    },
};

use super::time_type;

fn fact_fields() -> Fields {
    Fields::from(vec![
        Field::new("event_id", DataType::Utf8, true),
        Field::new("ts", time_type(), true),
        Field::new("fact", DataType::Utf8, true),
    ])
}

/// `List<Struct{event_id, ts, fact}>`.
pub(crate) fn evidence_type() -> DataType {
    DataType::List(item())
}

fn item() -> FieldRef {
    Arc::new(Field::new_list_field(DataType::Struct(fact_fields()), true))
}

/// `tapio_fact(event_id, ts, fact)`: one piece of evidence.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Fact {
    signature: Signature,
    documentation: Documentation,
}

impl Fact {
    pub(super) fn new() -> Self {
        let types = vec![DataType::Utf8, time_type(), DataType::Utf8];
        Self {
            signature: Signature::exact(types, Volatility::Immutable),
            documentation: Documentation::builder(
                DOC_SECTION_OTHER,
                "One piece of evidence as a struct; event_id is NULL for what was measured. A NULL fact makes it nothing: \
                 tapio_evidence leaves it out. Example: tapio_fact(NULL, ts, 'memory grows at 2.4 MB/s')",
                "tapio_fact(event_id, ts, fact)",
            )
            .build(),
        }
    }
}

impl ScalarUDFImpl for Fact {
    fn name(&self) -> &str {
        "tapio_fact"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(fact_fields()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let columns = ColumnarValue::values_to_arrays(&args.args)?;
        let nulls = columns[2].logical_nulls();
        let facts = StructArray::try_new(fact_fields(), columns, nulls)?;
        Ok(ColumnarValue::Array(Arc::new(facts)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// `tapio_evidence(fact or list, …)`: one list of all facts that are not NULL, in the order of the arguments.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Evidence {
    signature: Signature,
    documentation: Documentation,
}

impl Evidence {
    pub(super) fn new() -> Self {
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
            documentation: Documentation::builder(
                DOC_SECTION_OTHER,
                "All facts of the arguments (structs of tapio_fact, or lists of them) in one list; NULLs are left out, \
                 the list itself is never NULL. Example: tapio_evidence(tapio_fact(NULL, ts, 'a'), kills)",
                "tapio_evidence(fact_or_list, ...)",
            )
            .build(),
        }
    }
}

impl ScalarUDFImpl for Evidence {
    fn name(&self) -> &str {
        "tapio_evidence"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, args: &[DataType]) -> Result<Vec<DataType>> {
        args.iter()
            .map(|t| match t {
                DataType::List(_) | DataType::LargeList(_) | DataType::Null => Ok(evidence_type()),
                DataType::Struct(_) => Ok(DataType::Struct(fact_fields())),
                t => plan_err!(
                    "tapio_evidence takes facts (see tapio_fact) and lists of them, not {t}"
                ),
            })
            .collect()
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(evidence_type())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let columns = args.args.iter().map(|a| a.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let mut ids = StringBuilder::new();
        let mut times = TimestampMicrosecondBuilder::new().with_timezone("UTC");
        let mut facts = StringBuilder::new();
        let mut lengths = Vec::with_capacity(rows);
        for row in 0..rows {
            let mut length = 0;
            for column in &columns {
                let (parts, range) = part(column, row);
                let Some(parts) = parts else { continue };
                let (id, ts, fact) = fact_columns(&parts);
                for i in range {
                    if parts.is_null(i) || fact.is_null(i) {
                        continue;
                    }
                    ids.append_option(id.is_valid(i).then(|| id.value(i)));
                    times.append_option(ts.is_valid(i).then(|| ts.value(i)));
                    facts.append_value(fact.value(i));
                    length += 1;
                }
            }
            lengths.push(length);
        }
        let columns: Vec<ArrayRef> =
            vec![Arc::new(ids.finish()), Arc::new(times.finish()), Arc::new(facts.finish())];
        let values = StructArray::try_new(fact_fields(), columns, None)?;
        let offsets = OffsetBuffer::from_lengths(lengths);
        let list = ListArray::try_new(item(), offsets, Arc::new(values), None)?;
        Ok(ColumnarValue::Array(Arc::new(list)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

/// The facts of one argument in one row: the structs and which of them.
fn part(column: &ArrayRef, row: usize) -> (Option<StructArray>, std::ops::Range<usize>) {
    match column.data_type() {
        DataType::List(_) => {
            let list = column.as_list::<i32>();
            if list.is_null(row) {
                return (None, 0..0);
            }
            let values = list.value(row);
            let n = values.len();
            (values.as_struct_opt().cloned(), 0..n)
        }
        _ => (column.as_struct_opt().cloned(), row..row + 1),
    }
}

fn fact_columns(
    facts: &StructArray,
) -> (&StringArray, &arrow::array::TimestampMicrosecondArray, &StringArray) {
    (
        facts.column(0).as_string::<i32>(),
        facts.column(1).as_primitive::<TimestampMicrosecondType>(),
        facts.column(2).as_string::<i32>(),
    )
}
