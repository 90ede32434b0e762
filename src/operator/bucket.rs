//! How many refreshes of mere times the API server is asked for: a token bucket. Pure; time is an argument.

/// A token bucket that is full at first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled_ms: i64,
}

impl Bucket {
    /// `per_second` tokens a second, five seconds' worth at most.
    pub fn new(per_second: u32, now_ms: i64) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, burst: per_second * 5.0, tokens: per_second * 5.0, filled_ms: now_ms }
    }

    /// Takes a token, if there is one.
    pub fn take(&mut self, now_ms: i64) -> bool {
        let passed_ms = (now_ms - self.filled_ms).clamp(0, 60_000);
        #[expect(clippy::cast_precision_loss, reason = "at most a minute")]
        let gained = passed_ms as f64 / 1000.0 * self.per_second;
        self.tokens = (self.tokens + gained).min(self.burst);
        self.filled_ms = now_ms;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_so_many_a_second() {
        let mut bucket = Bucket::new(10, 0);
        assert_eq!((0..100).filter(|_| bucket.take(0)).count(), 50);
        assert!(!bucket.take(99));
        assert!(bucket.take(100));
        assert!(!bucket.take(100));
        assert_eq!((0..100).filter(|n| bucket.take(100 + n * 100)).count(), 99);
        assert_eq!(
            (0..1000).filter(|_| bucket.take(3_600_000)).count(),
            50,
            "no more than the burst is saved"
        );
        assert_eq!((0..1000).filter(|_| bucket.take(0)).count(), 0, "a clock that goes back gives nothing");
    }
}
