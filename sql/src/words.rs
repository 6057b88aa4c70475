//! Figures for humans: one way to print them, for titles made in SQL and for the command line.

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

/// A number of things: `812`, `1.5`, `0.02`.
pub fn count_words(count: f64) -> String {
    let text = match count.abs() {
        n if n >= 20.0 => format!("{count:.0}"),
        n if n >= 1.0 => format!("{count:.1}"),
        _ => format!("{count:.2}"),
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Whether a prediction of type `ty` is about bytes, as those of `oom`, `heap` and `disk_full` are, and not about a number.
pub fn is_of_bytes(ty: &str) -> bool {
    matches!(ty, "oom" | "heap" | "disk_full")
}

/// An amount of what a prediction of type `ty` is about.
pub fn amount_words(ty: &str, amount: f64) -> String {
    if is_of_bytes(ty) { bytes_words(amount) } else { count_words(amount) }
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
        assert_eq!(count_words(812.0), "812");
        assert_eq!(count_words(1.5), "1.5");
        assert_eq!(count_words(0.023), "0.02");
        assert_eq!(count_words(10.0), "10");
        assert_eq!(count_words(0.0), "0");
        assert_eq!(percent_words(0.9999), "> 99 %");
        assert_eq!(percent_words(0.002), "< 1 %");
        assert_eq!(percent_words(0.0), "0 %");
        assert_eq!(percent_words(1.0), "100 %");
    }
}
