//! Times as text, and the one clock of this crate.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;

/// Now, in µs since the epoch. Used to say how old data are, never inside an evaluation (T6).
#[allow(clippy::disallowed_methods)]
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC: `2026-11-23T10:30:00Z`, with as many of three or six decimals as it needs.
pub fn rfc3339(us: i64) -> String {
    let day_us = us.rem_euclid(86_400_000_000);
    let seconds = day_us / 1_000_000;
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = match day_us % 1_000_000 {
        0 => String::new(),
        f if f % 1000 == 0 => format!(".{:03}", f / 1000),
        f => format!(".{f:06}"),
    };
    format!("{}T{h:02}:{m:02}:{s:02}{fraction}Z", tapio_sql::date_of(us))
}

/// `10:30:00` of a time, for lines that humans read.
pub fn clock_time(us: i64) -> String {
    rfc3339(us).get(11..19).unwrap_or_default().to_owned()
}

/// `2026-12-05 11:20 UTC`: a date for humans, cut to minutes as `to_char` in the relations cuts it.
pub fn minute(us: i64) -> String {
    let text = rfc3339(us);
    format!("{} {} UTC", tapio_sql::date_of(us), text.get(11..16).unwrap_or_default())
}

/// The times of a walk: every step after `first`, and `last`; all in µs.
pub fn steps(first: i64, last: i64, step_us: i64) -> Vec<i64> {
    let step_us = step_us.max(1);
    let inside = (last.saturating_sub(first).saturating_sub(1)).max(0) / step_us;
    (1..=inside).map(|i| first + i * step_us).chain([last]).collect()
}

/// Reads a time: RFC 3339, seconds since the epoch, or `-15m` before `now_us`.
///
/// # Errors
/// A phrase that says what was expected.
pub fn parse_time(text: &str, now_us: i64) -> Result<i64, String> {
    let text = text.trim();
    if text == "now" {
        return Ok(now_us);
    }
    if let Some(ago) = text.strip_prefix('-') {
        let ago = crate::units::parse_duration(ago)?;
        return Ok(now_us - i64::try_from(ago.as_micros()).unwrap_or(i64::MAX));
    }
    if let Ok(seconds) = text.parse::<f64>()
        && seconds.is_finite()
    {
        return Ok((seconds * 1e6).round() as i64);
    }
    string_to_timestamp_nanos(text).map(|ns| ns.div_euclid(1000)).map_err(|_| {
        format!(
            "{text:?} is no time: give RFC 3339 (2026-11-23T10:30:00Z), seconds since the epoch, or -15m"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_ends_with_the_last_time() {
        assert_eq!(steps(10, 40, 10), [20, 30, 40]);
        assert_eq!(steps(10, 41, 10), [20, 30, 40, 41]);
        assert_eq!(steps(10, 15, 10), [15]);
        assert_eq!(steps(10, 10, 0), [10]);
    }

    #[test]
    fn times_are_written_and_read() {
        assert_eq!(rfc3339(1_795_392_000_000_000), "2026-11-23T00:00:00Z");
        assert_eq!(rfc3339(1_795_392_000_123_000), "2026-11-23T00:00:00.123Z");
        assert_eq!(rfc3339(1_795_392_000_123_456), "2026-11-23T00:00:00.123456Z");
        assert_eq!(clock_time(1_795_392_061_000_000), "00:01:01");
        assert_eq!(minute(1_796_469_659_999_999), "2026-12-05 11:20 UTC");
        assert_eq!(minute(-1), "1969-12-31 23:59 UTC");
        for text in ["2026-11-23T00:00:00Z", "2026-11-23T02:00:00+02:00", "1795392000"] {
            assert_eq!(parse_time(text, 0).unwrap(), 1_795_392_000_000_000, "{text}");
        }
        assert_eq!(parse_time("-1m", 61_000_000).unwrap(), 1_000_000);
        assert_eq!(parse_time("now", 5).unwrap(), 5);
        assert!(parse_time("yesterday", 0).unwrap_err().contains("RFC 3339"));
        assert!(parse_time("NaN", 0).is_err());
    }
}
