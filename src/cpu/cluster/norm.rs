//! Clusters of numbers, exactly: the partition of least squared error under a minimum size, by dynamic programming.
//!
//! In one dimension the clusters of an optimal partition are intervals of the sorted numbers, with a minimum size too
//! (swapping two points so that sizes stay and order returns never costs). With `E[j, i]` the least error of the first `i`
//! numbers in `j` intervals, `E[j, i] = min_t E[j−1, t] + error(t, i)` over `(j−1)·ℓ ≤ t ≤ i − ℓ`. The error of an
//! interval is Monge, so the best `t` does not decrease with `i` and halving the range of `i` gives `O(k·m·log m)`
//! (Grønlund et al., 2017, arXiv:1701.07204).
//!
//! Errors of intervals come from prefix sums in 128-bit integers, so they do not cancel: numbers are first rounded to
//! multiples of `2^−q` of their range, `q = ⌊(126 − 2⌈log₂ m⌉)/2⌋` (49 for 14,336 numbers, more than a norm summed in
//! `f64` is good for).

use crate::error::Result;
use crate::mat::{Mat, zeroed};

/// Label of every value, the clusters numbered from the least values up. The caller has checked `k·min_size ≤ m`.
pub(super) fn partition(values: &[f64], k: usize, min_size: usize) -> Result<Vec<u32>> {
    let m = values.len();
    let mut order: Vec<usize> = (0..m).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]).then(a.cmp(&b)));
    let errors = IntervalErrors::new(order.iter().map(|&p| values[p]), m)?;
    let mut table = Table { errors, min_size, before: zeroed("errors", m + 1)?, now: zeroed("errors", m + 1)? };
    let mut cuts: Mat<u32> = Mat::zeros(k, m + 1)?;
    for i in 0..=m {
        table.now[i] = if i < min_size { f64::INFINITY } else { table.errors.between(0, i) };
    }
    for j in 1..k {
        std::mem::swap(&mut table.before, &mut table.now);
        table.now.fill(f64::INFINITY);
        table.fill((j + 1) * min_size..m + 1, j * min_size..m + 1 - min_size, cuts.row_mut(j));
    }
    let mut labels = zeroed("labels", m)?;
    let mut end = m;
    for j in (0..k).rev() {
        let start = cuts.row(j)[end] as usize;
        order[start..end].iter().for_each(|&p| labels[p] = j as u32);
        end = start;
    }
    Ok(labels)
}

/// Squared error of any interval of the sorted values about its mean, in constant time.
struct IntervalErrors {
    /// `(Σ q, Σ q²)` of the first `i` rounded values.
    prefix: Vec<(i64, i128)>,
}

impl IntervalErrors {
    fn new(sorted: impl ExactSizeIterator<Item = f64> + Clone, m: usize) -> Result<Self> {
        let (mut low, mut high) = (f64::INFINITY, 0.0f64);
        for value in sorted.clone() {
            (low, high) = (low.min(value), high.max(value));
        }
        let bits = (126 - 2 * m.next_power_of_two().trailing_zeros()) / 2;
        let range = high - low;
        let mut prefix = zeroed("prefix sums", m + 1)?;
        for (i, value) in sorted.enumerate() {
            // At most 2^bits, m of which fit in 2^63, and m² of whose squares in 2^126.
            let q = if range > 0.0 { ((value - low) / range * 2f64.powi(bits as i32)).round() as i64 } else { 0 };
            let (sum, squares): (i64, i128) = prefix[i];
            prefix[i + 1] = (sum + q, squares + i128::from(q) * i128::from(q));
        }
        Ok(Self { prefix })
    }

    /// The error of values `start..end`, in units of the rounding step, squared.
    fn between(&self, start: usize, end: usize) -> f64 {
        let (sum, squares) = (self.prefix[end].0 - self.prefix[start].0, self.prefix[end].1 - self.prefix[start].1);
        let count = (end - start) as i128;
        (count * squares - i128::from(sum) * i128::from(sum)) as f64 / count as f64
    }
}

/// Two rows of the recurrence.
struct Table {
    errors: IntervalErrors,
    min_size: usize,
    before: Vec<f64>,
    now: Vec<f64>,
}

impl Table {
    /// Fills `now[ends]` and its cuts, which lie in `starts`, by the middle end first.
    fn fill(&mut self, ends: std::ops::Range<usize>, starts: std::ops::Range<usize>, cuts: &mut [u32]) {
        if ends.is_empty() {
            return;
        }
        let middle = (ends.start + ends.end) / 2;
        let mut best = starts.start;
        for start in starts.start..starts.end.min(middle + 1 - self.min_size) {
            let error = self.before[start] + self.errors.between(start, middle);
            if error < self.now[middle] {
                (self.now[middle], best) = (error, start);
            }
        }
        cuts[middle] = best as u32;
        self.fill(ends.start..middle, starts.start..best + 1, cuts);
        self.fill(middle + 1..ends.end, best..starts.end, cuts);
    }
}
