//! A series from a CSV file.

use std::path::Path;

use crate::{error::CliError, time::parse_time};

/// Times (µs, rising) and values of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Points {
    pub ts_us: Vec<i64>,
    pub value: Vec<f64>,
    /// Rows without a finite value.
    pub empty: usize,
    /// Rows whose time an earlier row had: the last one counts.
    pub repeated: usize,
}

/// Reads `time,value` rows; a first row that is no data is the header. An empty value, NaN or an infinite one is a gap.
///
/// # Errors
/// Exit code 2, naming file and line.
pub(super) fn read(path: &Path) -> Result<Points, CliError> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| CliError::tool(format!("cannot read {}: {e}", path.display())))?;
    parse(&text).map_err(|(line, e)| CliError::tool(format!("{}:{line}: {e}", path.display())))
}

fn parse(text: &str) -> Result<Points, (usize, String)> {
    let mut rows = Vec::new();
    let mut out = Points::default();
    let mut header = true;
    for (i, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        match row(line) {
            Ok((t, Some(v))) => rows.push((t, v)),
            Ok((_, None)) => out.empty += 1,
            Err(_) if header && is_header(line) => {}
            Err(e) => return Err((i + 1, e)),
        }
        header = false;
    }
    if rows.len() < 2 {
        let n = rows.len();
        return Err((1, format!("{n} row(s) with a value: a series needs at least two")));
    }
    rows.sort_by_key(|r| r.0);
    for (t, v) in rows {
        if out.ts_us.last() == Some(&t) {
            out.repeated += 1;
            out.value.pop();
        } else {
            out.ts_us.push(t);
        }
        out.value.push(v);
    }
    Ok(out)
}

fn is_header(line: &str) -> bool {
    !line.contains(|c: char| c.is_ascii_digit())
}

fn row(line: &str) -> Result<(i64, Option<f64>), String> {
    let mut cells = line.split(',').map(|c| c.trim().trim_matches('"'));
    let (Some(time), Some(value), None) = (cells.next(), cells.next(), cells.next()) else {
        return Err(format!("expected time,value, got {line:?}"));
    };
    // Times of the past only: `now` and `-15m` would mean another moment at each call.
    let is_time = time.starts_with(|c: char| c.is_ascii_digit());
    let t = match is_time.then(|| parse_time(time, 0)) {
        Some(Ok(t)) => t,
        _ => {
            return Err(format!(
                "{time:?} is no time: give seconds since the epoch or RFC 3339 (2026-11-23T10:30:00Z)"
            ));
        }
    };
    if value.is_empty() {
        return Ok((t, None));
    }
    let v: f64 = value.parse().map_err(|_| format!("{value:?} is not a number"))?;
    Ok((t, v.is_finite().then_some(v)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rows_come_sorted_without_repeats_and_gaps_are_counted() {
        let p = parse("time,value\n20,3\n10.5,1\n20,4\n2026-11-23T00:00:00Z,\n30,NaN\n\n").unwrap();
        assert_eq!((p.ts_us, p.value), (vec![10_500_000, 20_000_000], vec![1.0, 4.0]));
        assert_eq!((p.empty, p.repeated), (2, 1));
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        for (text, line, says) in [
            ("time,value\n1,2\n2,x\n", 3, "not a number"),
            ("time,value\nyesterday,2\n", 2, "is no time"),
            ("time,value\n-15m,2\n", 2, "is no time"),
            ("1,2,3\n", 1, "expected time,value"),
            ("time,value\n1,2\n", 1, "at least two"),
            ("", 1, "at least two"),
        ] {
            let (at, e) = parse(text).unwrap_err();
            assert!(at == line && e.contains(says), "{text:?}: {at} {e}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9a-z,.:TZ\\-\n\"]{0,200}") {
            if let Ok(p) = parse(&text) {
                prop_assert_eq!(p.ts_us.len(), p.value.len());
                prop_assert!(p.ts_us.is_sorted_by(|a, b| a < b));
            }
        }
    }
}
