//! Latencies, and what is read off them.

/// Latencies in microseconds.
#[derive(Debug, Default, Clone)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    pub fn push(&mut self, us: i64) {
        self.0.push(u32::try_from(us.max(0)).unwrap_or(u32::MAX));
    }

    pub fn absorb(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The latency that `share` of all stay below; 0 when there are none.
    pub fn quantile(&mut self, share: f64) -> u32 {
        if self.0.is_empty() {
            return 0;
        }
        let index = ((self.0.len() - 1) as f64 * share) as usize;
        *self.0.select_nth_unstable(index).1
    }
}

/// The middle of several runs: one of them disturbed by a neighbour does not count.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n.is_multiple_of(2) => f64::midpoint(values[n / 2 - 1], values[n / 2]),
        n => values[n / 2],
    }
}
