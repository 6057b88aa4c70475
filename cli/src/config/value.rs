//! From what stands in the file to what a key wants; the error is what to add to "expected ..., got ...".

use std::{path::PathBuf, time::Duration};

use super::{
    expand_home,
    tree::{Node, Value},
};
use crate::units::{parse_bytes, parse_duration};

pub(super) fn boolean(v: &Value) -> Result<bool, String> {
    if let Value::Bool(b) = v { Ok(*b) } else { Err(String::new()) }
}

pub(super) fn text(v: &Value) -> Result<String, String> {
    match v {
        Value::Text(s) if !s.is_empty() => Ok(s.clone()),
        _ => Err(String::new()),
    }
}

pub(super) fn paths(v: &Value) -> Result<Vec<PathBuf>, String> {
    let Value::List(items) = v else { return Err(String::new()) };
    let path = |item: &Node| {
        let path = PathBuf::from(expand_home(&text(&item.value).ok()?));
        path.is_absolute().then_some(path)
    };
    items
        .iter()
        .map(|i| path(i).ok_or_else(|| format!(" with {} in line {}", i.value.describe(), i.line)))
        .collect()
}

pub(super) fn size(v: &Value) -> Result<u64, String> {
    match v {
        Value::Int(i) => u64::try_from(*i).map_err(|_| String::new()),
        Value::Text(s) => parse_bytes(s).map_err(|_| String::new()),
        _ => Err(String::new()),
    }
}

pub(super) fn duration(v: &Value) -> Result<Duration, String> {
    let parsed = match v {
        Value::Int(i) => u64::try_from(*i).ok().map(Duration::from_secs),
        Value::Float(f) => Duration::try_from_secs_f64(*f).ok(),
        Value::Text(s) => parse_duration(s).ok(),
        _ => None,
    };
    match parsed {
        Some(d) if d > Duration::ZERO => Ok(d),
        Some(_) => Err(" (must be longer than zero)".into()),
        None => Err(String::new()),
    }
}
