//! Latency histograms as the kernel programs keep them (`programs/histogram.h`).

/// Buckets of a latency histogram.
pub const LATENCY_BUCKETS: usize = 42;

const FIRST_OCTAVE: u32 = 4;

/// Counts by latency; the bounds are those of [`latency_bounds_us`].
pub type LatencyBuckets = [u64; LATENCY_BUCKETS];

/// Upper bounds (exclusive) of all buckets but the last, which has none: 16 µs, then two an octave up to 16.8 s. A latency is
/// cut to whole microseconds first.
pub fn latency_bounds_us() -> [u64; LATENCY_BUCKETS - 1] {
    std::array::from_fn(|i| {
        let octave = FIRST_OCTAVE + (i as u32) / 2;
        if i % 2 == 0 { 1 << octave } else { (1 << octave) + (1 << (octave - 1)) }
    })
}

/// What was counted between two readings of a histogram of the kernel, whose 32-bit counters wrap around.
pub(crate) fn difference(
    now: &[u32; LATENCY_BUCKETS],
    before: &[u32; LATENCY_BUCKETS],
) -> [u32; LATENCY_BUCKETS] {
    std::array::from_fn(|i| now[i].wrapping_sub(before[i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_rise_by_half_octaves() {
        let bounds = latency_bounds_us();
        assert_eq!(bounds[..6], [16, 24, 32, 48, 64, 96]);
        assert_eq!(bounds[40], 16 << 20);
        assert!(bounds.is_sorted());
    }

    #[test]
    fn counters_may_wrap() {
        let (mut now, mut before) = ([0; LATENCY_BUCKETS], [0; LATENCY_BUCKETS]);
        (before[3], now[3]) = (u32::MAX, 2);
        assert_eq!(difference(&now, &before)[3], 3);
    }
}
