//! Expressions that have one value for all rows of a run.

use std::sync::Arc;

use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::Schema,
};
use datafusion::{
    common::{
        Result, ScalarValue,
        tree_node::{Transformed, TreeNode, TreeNodeRecursion},
    },
    logical_expr::{ColumnarValue, Expr},
    physical_expr::{
        PhysicalExpr,
        expressions::{Column, Literal},
        utils::collect_columns,
    },
};

/// Whether the expression has one value for all rows of a run.
pub(crate) fn is_fixed(e: &Expr) -> bool {
    !e.any_column_refs() && !e.is_volatile()
}

/// The value of an expression without columns, as a literal; `None` if there are columns, or no value.
pub(crate) fn constant(e: &Arc<dyn PhysicalExpr>) -> Option<Arc<dyn PhysicalExpr>> {
    if e.downcast_ref::<Literal>().is_some() {
        return Some(e.clone());
    }
    if e.downcast_ref::<Column>().is_some() || !collect_columns(e).is_empty() {
        return None;
    }
    let row = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        vec![],
        &RecordBatchOptions::new().with_row_count(Some(1)),
    );
    let value = match e.evaluate(&row.ok()?).ok()? {
        ColumnarValue::Scalar(v) => v,
        ColumnarValue::Array(a) => ScalarValue::try_from_array(&a, 0).ok()?,
    };
    Some(Arc::new(Literal::new(value)))
}

/// The expression with the values of its parts that have one.
pub(crate) fn fold(e: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let folded = e.transform_down(|e| {
        Ok(match constant(&e) {
            Some(value) => Transformed::new(value, true, TreeNodeRecursion::Jump),
            None => Transformed::no(e),
        })
    })?;
    Ok(folded.data)
}
