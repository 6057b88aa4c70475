//! A sparkline of the recent level with the forecast behind it.

/// What to draw.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Trend {
    /// Type of the prediction that it belongs to.
    pub kind: String,
    /// Seconds before the newest point, and the level there, oldest first.
    pub points: Vec<(f64, f64)>,
    /// The level that must not be reached.
    pub threshold: Option<f64>,
    /// Seconds until it is.
    pub eta_seconds: Option<f64>,
}

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The history, a bar, and the way to the threshold, in at most `width` columns; `None` if there is nothing to draw.
///
/// The scale runs from the lowest level shown to the threshold (or the highest level without one). History and
/// forecast share one time axis as long as each keeps a quarter of the columns.
pub fn sparkline(trend: &Trend, width: usize) -> Option<(String, String)> {
    let (first, last) = (trend.points.first()?, trend.points.last()?);
    if width < 8 || trend.points.len() < 3 {
        return None;
    }
    let past = (last.0 - first.0).abs().max(1.0);
    let forecast_columns = match trend.eta_seconds.filter(|_| trend.threshold.is_some()) {
        None => 0,
        Some(eta) => {
            let share = (eta / (eta + past)).clamp(0.25, 0.75);
            ((width - 1) as f64 * share).round() as usize
        }
    };
    let history_columns =
        (width - usize::from(forecast_columns > 0) - forecast_columns).min(trend.points.len());
    let history = resample(&trend.points, history_columns);
    let low = history.iter().copied().fold(f64::INFINITY, f64::min);
    let high = trend.threshold.unwrap_or(low).max(history.iter().copied().fold(low, f64::max));
    let bar = |v: f64| {
        let share = if high > low { (v - low) / (high - low) } else { 0.0 };
        BARS[((share * 7.0).round().clamp(0.0, 7.0)) as usize]
    };
    let drawn: String = history.iter().map(|v| bar(*v)).collect();
    let from = last.1;
    let forecast = (1..=forecast_columns)
        .map(|i| bar(from + (high - from) * i as f64 / forecast_columns as f64))
        .collect();
    Some((drawn, forecast))
}

/// Means of `columns` equal slices of the points.
fn resample(points: &[(f64, f64)], columns: usize) -> Vec<f64> {
    let columns = columns.clamp(1, points.len());
    (0..columns)
        .map(|c| {
            let slice = &points[c * points.len() / columns..(c + 1) * points.len() / columns];
            slice.iter().map(|p| p.1).sum::<f64>() / slice.len() as f64
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_and_forecast_rise_to_the_threshold() {
        let points: Vec<_> = (0..60).map(|i| (-60.0 + f64::from(i), f64::from(i))).collect();
        let trend =
            Trend { points, threshold: Some(118.0), eta_seconds: Some(60.0), ..Trend::default() };
        let (history, forecast) = sparkline(&trend, 17).unwrap();
        assert_eq!((history.as_str(), forecast.as_str()), ("▁▁▂▂▃▃▄▄", "▅▅▆▆▇▇██"));
        let (history, forecast) =
            sparkline(&Trend { eta_seconds: None, ..trend.clone() }, 8).unwrap();
        assert_eq!((history.as_str(), forecast.as_str()), ("▁▁▂▂▃▃▄▄", ""));
        assert_eq!(sparkline(&trend, 4), None);
        assert_eq!(sparkline(&Trend::default(), 40), None);
    }

    #[test]
    fn a_flat_line_without_a_threshold_is_flat() {
        let points = (0..20).map(|i| (f64::from(i), 5.0)).collect();
        let (history, forecast) = sparkline(&Trend { points, ..Trend::default() }, 10).unwrap();
        assert_eq!((history.as_str(), forecast.as_str()), ("▁▁▁▁▁▁▁▁▁▁", ""));
    }
}
