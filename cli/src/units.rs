//! Durations and sizes as humans write them; how they are printed is [`tapio_sql::words`].

use std::time::Duration;

pub use tapio_sql::words::{
    amount_words, bytes_words, duration_words, interval_words, percent_words,
};

const DURATION_UNITS: [(&str, f64); 6] =
    [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0), ("w", 604_800.0)];

const SIZE_UNITS: [(&str, u64); 11] = [
    ("B", 1),
    ("K", 1 << 10),
    ("KB", 1000),
    ("KiB", 1 << 10),
    ("M", 1 << 20),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("G", 1 << 30),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Reads `15m`, `30d`, `1h30m`, `250ms`; a bare number is seconds.
///
/// # Errors
/// A phrase that says what was expected.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("{text:?} is no duration such as 15m, 1h30m or 30d");
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(expected());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let (value, after) = number(rest).ok_or_else(expected)?;
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let unit = &after[..end];
        let factor = if unit.is_empty() && end == after.len() {
            1.0
        } else {
            DURATION_UNITS.iter().find(|(u, _)| *u == unit).map(|(_, f)| *f).ok_or_else(expected)?
        };
        seconds += value * factor;
        rest = &after[end..];
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| expected())
}

/// Reads `512MiB`, `2G`, `1000000`: bytes. `K`, `M` and `G` alone are powers of 1024.
///
/// # Errors
/// A phrase that says what was expected.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let expected = || format!("{text:?} is no size such as 512MiB, 2GiB or 1000000");
    let (value, unit) = number(text.trim()).ok_or_else(expected)?;
    let unit = unit.trim();
    let factor = if unit.is_empty() {
        1
    } else {
        SIZE_UNITS
            .iter()
            .find(|(u, _)| u.eq_ignore_ascii_case(unit))
            .map(|(_, f)| *f)
            .ok_or_else(expected)?
    };
    let bytes = value * factor as f64;
    if bytes.is_finite() && bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(expected()) }
}

/// A leading non-negative decimal number and what follows it.
fn number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [
            ("15m", 900.0),
            ("30d", 2_592_000.0),
            ("1h30m", 5400.0),
            ("250ms", 0.25),
            ("90", 90.0),
            ("1.5h", 5400.0),
            ("2w", 1_209_600.0),
        ] {
            assert_eq!(parse_duration(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for text in ["", "m", "15 parsecs", "1h-3m", "-5m", "1x", "1..2s", "10 m s"] {
            let e = parse_duration(text).unwrap_err();
            assert!(e.contains("is no duration such as 15m"), "{text}: {e}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("512MiB", 512 << 20),
            ("2G", 2 << 30),
            ("1000000", 1_000_000),
            ("1.5 GiB", 3 << 29),
            ("10kb", 10_000),
        ] {
            assert_eq!(parse_bytes(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "MiB", "12 elephants", "-1"] {
            assert!(parse_bytes(text).unwrap_err().contains("is no size"), "{text}");
        }
    }
}
