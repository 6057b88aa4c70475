//! Durations and sizes as humans write and read them.

use std::time::Duration;

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

/// `0.8 seconds`, `47 seconds`, `1.5 minutes`, `2.3 hours`, `4.1 days`.
pub fn duration_words(seconds: f64) -> String {
    let (value, unit) = scale_duration(seconds);
    format!("{} {}", trimmed(value), plural(value, unit))
}

/// `1.2–2.0 minutes`; an open end is `more than 1.2 minutes`. `None` if there is no lower end.
pub fn interval_words(low: Option<f64>, high: Option<f64>) -> Option<String> {
    let low = low?;
    let Some(high) = high else { return Some(format!("more than {}", duration_words(low))) };
    let ((l, lu), (h, hu)) = (scale_duration(low), scale_duration(high));
    if lu == hu {
        Some(format!("{}–{} {}", trimmed(l), trimmed(h), plural(h, hu)))
    } else {
        Some(format!("{} – {}", duration_words(low), duration_words(high)))
    }
}

fn scale_duration(seconds: f64) -> (f64, &'static str) {
    match seconds {
        s if s < 90.0 => (s, "second"),
        s if s < 5400.0 => (s / 60.0, "minute"),
        s if s < 172_800.0 => (s / 3600.0, "hour"),
        s => (s / 86_400.0, "day"),
    }
}

fn trimmed(value: f64) -> String {
    if value >= 20.0 {
        format!("{value:.0}")
    } else {
        let text = format!("{value:.1}");
        text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
    }
}

fn plural(value: f64, unit: &str) -> String {
    if trimmed(value) == "1" { unit.to_owned() } else { format!("{unit}s") }
}

/// Bytes in binary units: `800 MiB`, `1.5 GiB`, `512 B`.
pub fn bytes_words(bytes: f64) -> String {
    let mut value = bytes.abs();
    let mut unit = 0;
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let sign = if bytes < 0.0 { "-" } else { "" };
    if unit == 0 || value >= 100.0 {
        format!("{sign}{value:.0} {}", UNITS[unit])
    } else {
        let text = format!("{value:.1}");
        format!("{sign}{} {}", text.strip_suffix(".0").unwrap_or(&text), UNITS[unit])
    }
}

/// A share as a percentage that never claims certainty it does not have: `93 %`, `< 1 %`, `> 99 %`.
pub fn percent_words(share: f64) -> String {
    match share {
        s if s > 0.0 && s < 0.01 => "< 1 %".into(),
        s if s < 1.0 && s > 0.99 => "> 99 %".into(),
        s => format!("{:.0} %", s * 100.0),
    }
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

    #[test]
    fn words_keep_two_figures() {
        assert_eq!(duration_words(93.0), "1.6 minutes");
        assert_eq!(duration_words(47.2), "47 seconds");
        assert_eq!(duration_words(1.0), "1 second");
        assert_eq!(duration_words(7200.0), "2 hours");
        assert_eq!(duration_words(345_600.0), "4 days");
        assert_eq!(interval_words(Some(72.0), Some(80.0)).unwrap(), "72–80 seconds");
        assert_eq!(interval_words(Some(72.0), Some(120.0)).unwrap(), "72 seconds – 2 minutes");
        assert_eq!(interval_words(Some(120.0), None).unwrap(), "more than 2 minutes");
        assert_eq!(interval_words(None, Some(1.0)), None);
        assert_eq!(bytes_words(838_860_800.0), "800 MiB");
        assert_eq!(bytes_words(1_610_612_736.0), "1.5 GiB");
        assert_eq!(bytes_words(2_516_582.4), "2.4 MiB");
        assert_eq!(bytes_words(-2048.0), "-2 KiB");
        assert_eq!(percent_words(0.9999), "> 99 %");
        assert_eq!(percent_words(0.002), "< 1 %");
        assert_eq!(percent_words(0.0), "0 %");
        assert_eq!(percent_words(1.0), "100 %");
    }
}
