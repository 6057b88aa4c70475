//! `tapio_last`: several columns of a group's newest row at once.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, Int64Array, StructArray,
        TimestampMicrosecondArray, new_empty_array,
    },
    buffer::NullBuffer,
    datatypes::{DataType, Field, FieldRef, Fields, Int64Type, TimestampMicrosecondType},
};
use datafusion::{
    common::{Result, plan_err},
    logical_expr::{
        Accumulator, AggregateUDFImpl, Documentation, EmitTo, GroupsAccumulator, Signature,
        Volatility,
        function::{AccumulatorArgs, StateFieldsArgs},
        scalar_doc_sections::DOC_SECTION_OTHER,
    },
};

use super::{
    LAST,
    single::{Empty, Single},
    time_type,
};

/// `tapio_last(ts, value, …)`: struct of `ts` and `c1`, `c2`, … of the newest row.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Last {
    signature: Signature,
    documentation: Documentation,
}

impl Last {
    pub(super) fn new() -> Self {
        let text = "The newest row of a group: a struct of its ts and its values c1, c2, … (bigint, NULL where the row has \
            NULL). Rows with a NULL ts are left out; NULL without rows; of rows with the same ts the one with the largest \
            values counts. Example: SELECT series_id, tapio_last(ts, memory_level_bytes, pids)['c1'] FROM resources \
            GROUP BY series_id";
        Self {
            signature: Signature::user_defined(Volatility::Immutable),
            documentation: Documentation::builder(
                DOC_SECTION_OTHER,
                text,
                "tapio_last(ts, value, ...)",
            )
            .build(),
        }
    }
}

fn fields(values: usize) -> Fields {
    std::iter::once(Field::new("ts", time_type(), true))
        .chain((1..=values).map(|i| Field::new(format!("c{i}"), DataType::Int64, true)))
        .collect()
}

impl AggregateUDFImpl for Last {
    fn name(&self) -> &str {
        LAST
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, args: &[DataType]) -> Result<Vec<DataType>> {
        if args.len() < 2 {
            return plan_err!("tapio_last takes a time and at least one value");
        }
        let values = std::iter::repeat_n(DataType::Int64, args.len() - 1);
        Ok(std::iter::once(time_type()).chain(values).collect())
    }

    fn return_type(&self, args: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(fields(args.len().saturating_sub(1))))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Single::new(LastGroups::new(args.expr_fields.len() - 1))))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(fields(args.input_fields.len() - 1)
            .iter()
            .map(|f| Arc::new(f.as_ref().clone().with_name(format!("{}[{}]", args.name, f.name()))))
            .collect())
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(
        &self,
        args: AccumulatorArgs,
    ) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(LastGroups::new(args.expr_fields.len() - 1)))
    }

    fn documentation(&self) -> Option<&Documentation> {
        Some(&self.documentation)
    }
}

#[derive(Debug)]
struct LastGroups {
    ts: Vec<Option<i64>>,
    /// `width` values per group.
    values: Vec<Option<i64>>,
    width: usize,
}

impl LastGroups {
    fn new(width: usize) -> Self {
        Self { ts: Vec::new(), values: Vec::new(), width }
    }

    fn take(&mut self, emit: EmitTo) -> Vec<ArrayRef> {
        let ts = emit.take_needed(&mut self.ts);
        let values = match emit {
            EmitTo::All => std::mem::take(&mut self.values),
            EmitTo::First(n) => EmitTo::First(n * self.width).take_needed(&mut self.values),
        };
        let column = |c: usize| -> Int64Array {
            values.iter().skip(c).step_by(self.width).copied().collect()
        };
        let mut columns: Vec<ArrayRef> =
            vec![Arc::new(TimestampMicrosecondArray::from(ts).with_timezone("UTC"))];
        columns.extend((0..self.width).map(|c| Arc::new(column(c)) as ArrayRef));
        columns
    }
}

impl GroupsAccumulator for LastGroups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        let width = self.width;
        if self.ts.len() < total {
            self.ts.resize(total, None);
            self.values.resize(total * width, None);
        }
        let ts = values[0].as_primitive::<TimestampMicrosecondType>();
        let columns: Vec<_> = values[1..].iter().map(|v| v.as_primitive::<Int64Type>()).collect();
        for (i, g) in groups.iter().enumerate() {
            if ts.is_null(i) || filter.is_some_and(|f| f.is_null(i) || !f.value(i)) {
                continue;
            }
            let t = Some(ts.value(i));
            if t < self.ts[*g] {
                continue;
            }
            let row = columns.iter().map(|c| c.is_valid(i).then(|| c.value(i)));
            let kept = &mut self.values[g * width..(g + 1) * width];
            if t == self.ts[*g] && row.clone().le(kept.iter().copied()) {
                continue;
            }
            self.ts[*g] = t;
            for (k, v) in kept.iter_mut().zip(row) {
                *k = v;
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit: EmitTo) -> Result<ArrayRef> {
        let columns = self.take(emit);
        let mut valid = BooleanBufferBuilder::new(columns[0].len());
        for i in 0..columns[0].len() {
            valid.append(columns[0].is_valid(i));
        }
        let nulls = NullBuffer::new(valid.finish());
        Ok(Arc::new(StructArray::try_new(fields(self.width), columns, Some(nulls))?))
    }

    fn state(&mut self, emit: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(self.take(emit))
    }

    fn merge_batch(&mut self, values: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.update_batch(values, groups, None, total)
    }

    fn convert_to_state(
        &self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<Vec<ArrayRef>> {
        let rows = values[0].len();
        let mut each = Self::new(self.width);
        each.update_batch(values, &(0..rows).collect::<Vec<_>>(), filter, rows)?;
        Ok(each.take(EmitTo::All))
    }

    fn size(&self) -> usize {
        (self.ts.capacity() + self.values.capacity()) * size_of::<Option<i64>>()
    }
}

impl Empty for LastGroups {
    fn empty_arguments(&self) -> Vec<ArrayRef> {
        fields(self.width).iter().map(|f| new_empty_array(f.data_type())).collect()
    }
}
