//! Exact moments for the cheap screen over all series.

/// Sums over the rows of one series, exact and independent of the order in which rows and parts come in.
///
/// All sums are taken modulo 2^128, so adding is a few instructions; the number of rows and the widths of the numbers
/// bound the true sums, and an answer is refused (`None`) where the bound does not prove that nothing was lost. With
/// times in µs relative to an origin within a year and values up to 2^50 (1 PB), 2^30 rows are safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moments {
    origin_us: i64,
    n: u64,
    t: i128,
    v: i128,
    tt: i128,
    tv: i128,
    /// Bitwise or of |t| (one's complement) and of |v|: their highest bits bound every row.
    t_bits: u64,
    v_bits: u64,
}

impl Moments {
    /// Length of [`Moments::to_bytes`].
    pub const BYTES: usize = 3 * 8 + 4 * 16;

    /// Empty sums of times relative to `origin_us` (any value near the rows, such as the first row's time).
    #[must_use]
    pub const fn new(origin_us: i64) -> Self {
        Self { origin_us, n: 0, t: 0, v: 0, tt: 0, tv: 0, t_bits: 0, v_bits: 0 }
    }

    /// Adds one row: its time in µs and its value.
    #[inline]
    pub fn push(&mut self, ts_us: i64, value: i64) {
        let t = ts_us.wrapping_sub(self.origin_us);
        // A difference that does not fit (origin and row 292,000 years apart) poisons the bound instead of the sums.
        let lost = ((ts_us ^ self.origin_us) & (ts_us ^ t)) >> 63;
        self.n += 1;
        self.t += i128::from(t);
        self.v += i128::from(value);
        self.tt = self.tt.wrapping_add(i128::from(t) * i128::from(t));
        self.tv = self.tv.wrapping_add(i128::from(t) * i128::from(value));
        self.t_bits |= (t ^ (t >> 63)).cast_unsigned() | lost.cast_unsigned();
        self.v_bits |= (value ^ (value >> 63)).cast_unsigned();
    }

    /// Adds many rows of this series, faster than one by one. Times without a value (the slices differ in length) are left
    /// out.
    pub fn extend(&mut self, ts_us: &[i64], values: &[i64]) {
        // The sum of so many numbers below 2⁵² is below 2⁶³.
        const ROWS: usize = 1 << 11;
        let len = ts_us.len().min(values.len());
        for (ts, value) in ts_us[..len].chunks(ROWS).zip(values[..len].chunks(ROWS)) {
            let mut bits = 0;
            for (&t, &v) in ts.iter().zip(value) {
                let d = t.wrapping_sub(self.origin_us);
                // As in `push`: a difference that does not fit has the highest bit, too.
                let lost = ((t ^ self.origin_us) & (t ^ d)) >> 63;
                bits |= (d ^ (d >> 63)) | (v ^ (v >> 63)) | lost;
            }
            if bits.cast_unsigned() >> 52 == 0 {
                self.add_narrow(ts, value);
            } else {
                ts.iter().zip(value).for_each(|(t, v)| self.push(*t, *v));
            }
        }
    }

    /// Adds rows whose sums of times and of values fit into 64 bits.
    fn add_narrow(&mut self, ts_us: &[i64], values: &[i64]) {
        let (mut t_sum, mut v_sum, mut t_bits, mut v_bits) = (0_i64, 0_i64, 0_i64, 0_i64);
        let (mut tt, mut tv) = (0_i128, 0_i128);
        for (&ts, &v) in ts_us.iter().zip(values) {
            let t = ts - self.origin_us;
            t_sum += t;
            v_sum += v;
            tt += i128::from(t) * i128::from(t);
            tv += i128::from(t) * i128::from(v);
            t_bits |= t ^ (t >> 63);
            v_bits |= v ^ (v >> 63);
        }
        self.n += ts_us.len() as u64;
        self.t += i128::from(t_sum);
        self.v += i128::from(v_sum);
        self.tt = self.tt.wrapping_add(tt);
        self.tv = self.tv.wrapping_add(tv);
        self.t_bits |= t_bits.cast_unsigned();
        self.v_bits |= v_bits.cast_unsigned();
    }

    /// Adds the rows of `other`. Origins may differ: they are moved exactly.
    #[inline]
    pub fn merge(&mut self, other: &Self) {
        if other.n == 0 {
            return;
        }
        if self.n == 0 {
            *self = *other;
            return;
        }
        self.v_bits |= other.v_bits;
        self.v = self.v.wrapping_add(other.v);
        if self.origin_us == other.origin_us {
            self.n += other.n;
            self.t = self.t.wrapping_add(other.t);
            self.tt = self.tt.wrapping_add(other.tt);
            self.tv = self.tv.wrapping_add(other.tv);
            self.t_bits |= other.t_bits;
            return;
        }
        // d = other's origin relative to ours; Σ(t+d)² = Σt² + 2dΣt + nd², Σ(t+d)v = Σtv + dΣv.
        let d = i128::from(other.origin_us) - i128::from(self.origin_us);
        let n = i128::from(other.n);
        let shifted = i128::from(other.t_bits) + d.abs();
        self.n += other.n;
        self.t = self.t.wrapping_add(other.t).wrapping_add(n.wrapping_mul(d));
        self.tt = self
            .tt
            .wrapping_add(other.tt)
            .wrapping_add(d.wrapping_mul(other.t).wrapping_mul(2))
            .wrapping_add(n.wrapping_mul(d).wrapping_mul(d));
        self.tv = self.tv.wrapping_add(other.tv).wrapping_add(d.wrapping_mul(other.v));
        self.t_bits |= u64::try_from(shifted).unwrap_or(u64::MAX);
    }

    /// The sums as bytes, for a stage of an aggregation that hands them to the next; the origin is not among them.
    #[must_use]
    #[inline]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let words = [self.n, self.t_bits, self.v_bits].map(u64::to_le_bytes);
        let sums = [self.t, self.v, self.tt, self.tv].map(i128::to_le_bytes);
        for (place, part) in bytes.chunks_exact_mut(8).zip(words.as_flattened().chunks_exact(8)) {
            place.copy_from_slice(part);
        }
        bytes[24..].copy_from_slice(sums.as_flattened());
        bytes
    }

    /// Back from [`Moments::to_bytes`] of sums with the same origin.
    #[must_use]
    #[inline]
    pub fn from_bytes(origin_us: i64, bytes: &[u8; Self::BYTES]) -> Self {
        let word = |i: usize| {
            let mut w = [0; 8];
            w.copy_from_slice(&bytes[8 * i..8 * i + 8]);
            u64::from_le_bytes(w)
        };
        let sum = |i: usize| {
            let mut w = [0; 16];
            w.copy_from_slice(&bytes[24 + 16 * i..40 + 16 * i]);
            i128::from_le_bytes(w)
        };
        Self {
            origin_us,
            n: word(0),
            t_bits: word(1),
            v_bits: word(2),
            t: sum(0),
            v: sum(1),
            tt: sum(2),
            tv: sum(3),
        }
    }

    /// Number of rows.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.n
    }

    /// Whether there is no row.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Mean value; `None` if empty.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.n > 0).then(|| {
            let n = i128::from(self.n);
            self.v.div_euclid(n) as f64 + self.v.rem_euclid(n) as f64 / n as f64
        })
    }

    /// Least-squares slope, value units per second; `None` with fewer than two times, or where exactness is not proven.
    #[must_use]
    pub fn slope(&self) -> Option<f64> {
        self.line().map(|line| line.slope_per_us * 1e6)
    }

    /// Value of the least-squares line at `at_us`; `None` as for [`Moments::slope`].
    #[must_use]
    pub fn value_at(&self, at_us: i64) -> Option<f64> {
        self.line().map(|line| line.value_at(at_us))
    }

    fn line(&self) -> Option<Line> {
        let width = |bits: u64| u64::BITS - bits.leading_zeros() + 1;
        let rows = u64::BITS - self.n.leading_zeros();
        let (t, v) = (width(self.t_bits), width(self.v_bits));
        // Three bits of room: sign, and the two terms that centring subtracts.
        if self.n < 2 || self.t_bits == u64::MAX || rows + t + t.max(v) + 3 > i128::BITS - 1 {
            return None;
        }
        // Centre on the whole means, in integers: what is left is small and turns into f64 with full precision, and
        // the result does not depend on the origin.
        let n = i128::from(self.n);
        let (mt, mv) = (self.t.div_euclid(n), self.v.div_euclid(n));
        let (rt, rv) = (self.t - n * mt, self.v - n * mv);
        let tt = self.tt - 2 * mt * self.t + n * mt * mt;
        let tv = self.tv - mt * self.v - mv * self.t + n * mt * mv;
        let m = n as f64;
        let sxx = tt as f64 - rt as f64 * (rt as f64 / m);
        let sxy = tv as f64 - rt as f64 * (rv as f64 / m);
        (sxx > 0.0).then(|| Line {
            centre_us: i128::from(self.origin_us) + mt,
            centre_rest_us: rt as f64 / m,
            mean: mv as f64 + rv as f64 / m,
            slope_per_us: sxy / sxx,
        })
    }
}

struct Line {
    centre_us: i128,
    centre_rest_us: f64,
    mean: f64,
    slope_per_us: f64,
}

impl Line {
    fn value_at(&self, at_us: i64) -> f64 {
        let dt = (i128::from(at_us) - self.centre_us) as f64 - self.centre_rest_us;
        self.mean + self.slope_per_us * dt
    }
}

/// Seconds from `at_us` until the least-squares line meets `threshold`; `None` if it does not head for it (or has
/// passed it), or as for [`Moments::slope`].
#[must_use]
pub fn linear_crossing_s(moments: &Moments, threshold: f64, at_us: i64) -> Option<f64> {
    let line = moments.line()?;
    let us = (threshold - line.value_at(at_us)) / line.slope_per_us;
    (us.is_finite() && us >= 0.0).then_some(us * 1e-6)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(origin: i64, rows: &[(i64, i64)]) -> Moments {
        let mut m = Moments::new(origin);
        for &(t, v) in rows {
            m.push(t, v);
        }
        m
    }

    #[test]
    fn a_leak_of_two_and_a_half_megabytes() {
        let start = 1_790_000_000_000_000;
        let rows: Vec<_> =
            (0..60).map(|i| (start + i * 1_000_000, 700_000_000 + 2_400_000 * i)).collect();
        let m = of(start, &rows);
        assert!((m.slope().unwrap() - 2_400_000.0).abs() < 1e-6);
        let at = start + 59_000_000;
        let eta = linear_crossing_s(&m, 1_073_741_824.0, at).unwrap();
        assert!((eta - (1_073_741_824.0 - 841_600_000.0) / 2_400_000.0).abs() < 1e-6);
        assert_eq!(linear_crossing_s(&m, 0.0, at), None);
    }

    #[test]
    fn too_little_or_too_wide_is_refused() {
        assert_eq!(Moments::new(0).slope(), None);
        assert_eq!(of(0, &[(1, 1)]).slope(), None);
        assert_eq!(of(0, &[(1, 1), (1, 5)]).slope(), None);
        assert_eq!(of(i64::MIN, &[(i64::MAX, i64::MAX), (0, i64::MIN)]).slope(), None);
        assert_eq!(of(0, &[(1, 1), (2, 1)]).slope(), Some(0.0));
        assert_eq!(linear_crossing_s(&of(0, &[(1, 1), (2, 1)]), 5.0, 3), None);
    }

    proptest! {
        #[test]
        fn order_parts_and_origins_do_not_matter(
            rows in proptest::collection::vec((-1_i64 << 45..1_i64 << 45, -1_i64 << 50..1_i64 << 50), 2..40),
            cut in 0_usize..40,
            origin in -1_i64 << 45..1_i64 << 45,
        ) {
            let whole = of(0, &rows);
            let mut back = rows.clone();
            back.reverse();
            prop_assert_eq!(whole, of(0, &back));
            let cut = cut.min(rows.len());
            let mut parts = Moments::new(origin);
            let (ts, values): (Vec<i64>, Vec<i64>) = rows[cut..].iter().copied().unzip();
            parts.extend(&ts, &values);
            prop_assert_eq!(parts, of(origin, &rows[cut..]));
            parts.merge(&of(-origin, &rows[..cut]));
            prop_assert_eq!(parts, Moments::from_bytes(parts.origin_us, &parts.to_bytes()));
            prop_assert_eq!(whole.slope(), parts.slope());
            prop_assert_eq!(whole.value_at(17), parts.value_at(17));
            prop_assert_eq!(whole.mean(), parts.mean());
        }

        #[test]
        fn any_input(rows in proptest::collection::vec((any::<i64>(), any::<i64>()), 0..20), origin: i64, at: i64) {
            let mut m = of(origin, &rows);
            let (ts, values): (Vec<i64>, Vec<i64>) = rows.iter().copied().unzip();
            let mut at_once = Moments::new(origin);
            at_once.extend(&ts, &values);
            prop_assert_eq!(m, at_once);
            m.merge(&of(at, &rows));
            if let Some(s) = m.slope() { prop_assert!(s.is_finite()); }
            let _ = linear_crossing_s(&m, 1e18, at);
        }
    }
}
