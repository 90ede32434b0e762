//! A moment as a page shows it.

use super::super::time::{relative, rfc3339};

/// A moment: relative for the eye, absolute for the record.
pub(super) struct Moment {
    /// `5m ago`.
    pub rel: String,
    /// `2026-01-02 03:04:05 UTC`.
    pub abs: String,
    /// The same to the minute, where space is short.
    pub brief: String,
    /// For `datetime`.
    pub iso: String,
}

impl Moment {
    pub(super) fn new(ms: i64, now_ms: i64) -> Self {
        Self {
            rel: relative(ms, now_ms),
            abs: absolute(ms),
            brief: format(ms, "%Y-%m-%d %H:%M UTC"),
            iso: rfc3339(ms),
        }
    }
}

/// `2026-01-02 03:04:05 UTC`.
pub(super) fn absolute(ms: i64) -> String {
    format(ms, "%Y-%m-%d %H:%M:%S UTC")
}

fn format(ms: i64, form: &str) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(t) => t.strftime(form).to_string(),
        Err(_) => rfc3339(ms),
    }
}
