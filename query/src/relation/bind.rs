//! Arguments of table functions, and parameters put in their places.

use std::ops::ControlFlow;

use datafusion::{
    common::{DataFusionError, Result, ScalarValue, plan_err},
    logical_expr::Expr,
    sql::{
        parser::{DFParser, Statement},
        sqlparser::{
            ast::{Expr as AstExpr, Value, ValueWithSpan, visit_expressions_mut},
            dialect::GenericDialect,
            parser::Parser,
        },
    },
};
use tapio_sql::{Parameter, ParameterType, ParameterValue};

use crate::clock::AS_OF;

/// Values by parameter name, `as_of` not among them.
pub(super) type Values = Vec<(String, ScalarValue)>;

/// The values of the parameters and `as_of` (µs), from the arguments of a call: in the order of the header, then
/// `as_of`. A parameter that is not given, or NULL, is its default; `as_of` then is `None`.
pub(super) fn arguments(
    function: &str,
    parameters: &[Parameter],
    args: &[Expr],
) -> Result<(Values, Option<i64>)> {
    if args.len() > parameters.len() + 1 {
        let names: Vec<&str> =
            parameters.iter().map(|p| p.name.as_str()).chain(["as_of"]).collect();
        return plan_err!(
            "{function} takes at most {} argument(s): {function}({})",
            names.len(),
            names.join(", ")
        );
    }
    let mut values = Values::new();
    for (i, p) in parameters.iter().enumerate() {
        let given = match args.get(i) {
            Some(e) => literal(function, &p.name, e)?,
            None => ScalarValue::Null,
        };
        values.push((p.name.clone(), coerce(function, p, given)?));
    }
    let as_of = match args.get(parameters.len()) {
        Some(Expr::ScalarFunction(f)) if f.name() == AS_OF => None,
        Some(e) => time(function, &literal(function, "as_of", e)?)?,
        None => None,
    };
    Ok((values, as_of))
}

fn literal(function: &str, name: &str, e: &Expr) -> Result<ScalarValue> {
    match e {
        Expr::Literal(v, _) => Ok(v.clone()),
        Expr::Placeholder(p) => {
            plan_err!("{function}: argument {name} is {}, which has no value yet", p.id)
        }
        other => plan_err!("{function}: argument {name} must be a constant, got {other}"),
    }
}

fn coerce(function: &str, p: &Parameter, given: ScalarValue) -> Result<ScalarValue> {
    use arrow::datatypes::DataType;
    if given.is_null() {
        return Ok(match &p.default {
            Some(ParameterValue::Float64(v)) => ScalarValue::Float64(Some(*v)),
            Some(ParameterValue::Int64(v)) => ScalarValue::Int64(Some(*v)),
            Some(ParameterValue::Text(v)) => ScalarValue::Utf8(Some(v.clone())),
            None => return plan_err!("{function} needs an argument {}", p.name),
        });
    }
    let wrong = || {
        let ty = match p.ty {
            ParameterType::Float64 => "a number",
            ParameterType::Int64 => "an integer",
            ParameterType::Text => "text",
        };
        DataFusionError::Plan(format!("{function}: argument {} must be {ty}, got {given}", p.name))
    };
    let ty = given.data_type();
    match p.ty {
        ParameterType::Text if ty.is_string() => given.cast_to(&DataType::Utf8),
        ParameterType::Int64 if ty.is_integer() => given.cast_to(&DataType::Int64),
        ParameterType::Float64 if ty.is_numeric() => given.cast_to(&DataType::Float64),
        _ => Err(wrong()),
    }
    .map_err(|_| wrong())
}

/// A time in µs from a timestamp or RFC 3339 text; `None` for NULL.
fn time(function: &str, v: &ScalarValue) -> Result<Option<i64>> {
    if v.is_null() {
        return Ok(None);
    }
    let us = match v {
        ScalarValue::TimestampMicrosecond(v, _) => *v,
        ScalarValue::TimestampNanosecond(v, _) => v.map(|v| v.div_euclid(1_000)),
        ScalarValue::TimestampMillisecond(v, _) => v.map(|v| v.saturating_mul(1_000)),
        ScalarValue::TimestampSecond(v, _) => v.map(|v| v.saturating_mul(1_000_000)),
        ScalarValue::Utf8(Some(s))
        | ScalarValue::Utf8View(Some(s))
        | ScalarValue::LargeUtf8(Some(s)) => {
            match arrow::compute::kernels::cast_utils::string_to_timestamp_nanos(s) {
                Ok(ns) => Some(ns.div_euclid(1_000)),
                Err(e) => return plan_err!("{function}: as_of is no time: {e}"),
            }
        }
        other => {
            return plan_err!(
                "{function}: as_of must be a timestamp or RFC 3339 text, got {other}"
            );
        }
    };
    Ok(us)
}

/// Parses the one statement of `sql` and puts the values into the places of `$name`; `$as_of` becomes `tapio_as_of()`.
pub(super) fn statement(sql: &str, values: &Values) -> Result<Statement> {
    let mut statements = DFParser::parse_sql(sql)?;
    let (Some(statement), true) = (statements.pop_front(), statements.is_empty()) else {
        return plan_err!("exactly one statement is expected");
    };
    let Statement::Statement(mut statement) = statement else {
        return plan_err!("a query is expected");
    };
    let mut unknown = None;
    let _ = visit_expressions_mut(&mut *statement, |e: &mut AstExpr| {
        if let AstExpr::Value(ValueWithSpan { value: Value::Placeholder(name), .. }) = e {
            let wanted = name.trim_start_matches('$');
            let value = match values.iter().find(|(n, _)| n == wanted) {
                Some((_, v)) => Some(expression(v)),
                None if wanted == "as_of" => Some(parsed(&format!("{AS_OF}()"))),
                None => None,
            };
            match value {
                Some(Ok(value)) => *e = value,
                Some(Err(error)) => unknown = Some(error),
                None => {
                    unknown = Some(DataFusionError::Plan(format!(
                        "{name} is no parameter of this statement; known are {}",
                        values
                            .iter()
                            .map(|(n, _)| n.as_str())
                            .chain(["as_of"])
                            .map(|n| format!("${n}"))
                            .collect::<Vec<_>>()
                            .join(", ")
                    )));
                }
            }
        }
        ControlFlow::<()>::Continue(())
    });
    match unknown {
        Some(e) => Err(e),
        None => Ok(Statement::Statement(statement)),
    }
}

/// A value as SQL.
fn expression(v: &ScalarValue) -> Result<AstExpr> {
    let text = |s: &str| format!("'{}'", s.replace('\'', "''"));
    let sql = match v {
        v if v.is_null() => "NULL".to_owned(),
        ScalarValue::Utf8(Some(s))
        | ScalarValue::LargeUtf8(Some(s))
        | ScalarValue::Utf8View(Some(s)) => text(s),
        ScalarValue::Float64(Some(v)) => format!("CAST({} AS DOUBLE)", text(&v.to_string())),
        ScalarValue::Boolean(Some(v)) => v.to_string(),
        other => match other.cast_to(&arrow::datatypes::DataType::Int64)? {
            ScalarValue::Int64(Some(v)) => format!("CAST({} AS BIGINT)", text(&v.to_string())),
            _ => return plan_err!("a parameter of type {} is not supported", v.data_type()),
        },
    };
    parsed(&sql)
}

fn parsed(sql: &str) -> Result<AstExpr> {
    Ok(Parser::new(&GenericDialect {}).try_with_sql(sql)?.parse_expr()?)
}
