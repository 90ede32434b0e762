//! Timing of the election, and the relations between its four lengths that the proof rests on.
//!
//! Promises: [`Timers`] that came from [`Written::parse`] keep V + T < L (a holder has stopped believing, its
//! last operation included, before a candidate may act) and P + T < V (one lost renewal does not end a belief).
//! What breaks one is refused with the field to change and a value that would do.

use crate::reservation::{Invalid, duration};
use crate::store::dialect::Dialect;
use crate::store::lease::Limits;
use serde::Deserialize;
use std::time::Duration;

/// Timing of the election, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timers {
    /// P: between observations, and between renewals.
    pub period_ms: i64,
    /// T: the longest one operation may take.
    pub op_ms: i64,
    /// V: how long the holder believes in a renewal, from when it was sent.
    pub valid_ms: i64,
    /// L: how long a candidate waits for a sign of life.
    pub lease_ms: i64,
    /// One process alone has the database: it leads as soon as it starts, and renews now and then.
    pub alone: bool,
}

/// Shorter than this costs the database more than it gains.
const LEAST_MS: i64 = 100;

/// A minute without an evaluation is told to people: no change of coordinator may take that long.
const LONGEST_LEASE_MS: i64 = 60_000;

impl Timers {
    /// P = 1 s, T = 2 s, V = 10 s, L = 15 s: a clock-rate error up to a third between replicas is harmless.
    pub const SHARED: Self =
        Self { period_ms: 1000, op_ms: 2000, valid_ms: 10_000, lease_ms: 15_000, alone: false };

    /// SQLite: the file lock already arbitrates, so renewals need not cost a disk flush each second.
    pub const ALONE: Self =
        Self { period_ms: 10_000, op_ms: 2000, valid_ms: 45_000, lease_ms: 60_000, alone: true };

    /// These, on a database that several replicas can share; [`Timers::ALONE`] on one that serves one process.
    pub fn on(self, dialect: Dialect) -> Self {
        match dialect {
            Dialect::Sqlite => Self::ALONE,
            Dialect::MySql => self,
        }
    }

    /// What the statements need to know.
    pub fn limits(self) -> Limits {
        let op = Duration::from_millis(u64::try_from(self.op_ms).unwrap_or(0));
        Limits { op, valid_ms: self.valid_ms, lease_ms: self.lease_ms }
    }
}

/// The block `coordination` of the configuration as written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Written {
    /// P.
    pub period: Option<String>,
    /// T.
    pub op_limit: Option<String>,
    /// V.
    pub valid: Option<String>,
    /// L.
    pub lease: Option<String>,
}

const PERIOD: &str = "coordination.period";
const OP_LIMIT: &str = "coordination.opLimit";
const VALID: &str = "coordination.valid";
const LEASE: &str = "coordination.lease";

impl Written {
    /// The timing of replicas that share a database; what is not written stays as in [`Timers::SHARED`].
    ///
    /// # Errors
    /// A text that is no length of time, or lengths that do not go together.
    pub fn parse(&self) -> Result<Timers, Invalid> {
        let usual = Timers::SHARED;
        let period_ms = length(PERIOD, self.period.as_deref(), usual.period_ms)?;
        let op_ms = length(OP_LIMIT, self.op_limit.as_deref(), usual.op_ms)?;
        let valid_ms = length(VALID, self.valid.as_deref(), usual.valid_ms)?;
        let lease_ms = length(LEASE, self.lease.as_deref(), usual.lease_ms)?;
        let show = duration::human;
        if period_ms + op_ms >= valid_ms {
            let field = self.blamed(&[VALID, PERIOD, OP_LIMIT]);
            return Err(Invalid::new(
                field,
                format!(
                    "a holder that believes for {} would lose its lease by one slow renewal: valid must be longer than \
                     period + opLimit ({}); lengthen valid, or shorten period or opLimit",
                    show(valid_ms),
                    show(period_ms + op_ms)
                ),
            ));
        }
        if valid_ms + op_ms >= lease_ms {
            let field = self.blamed(&[LEASE, VALID, OP_LIMIT]);
            return Err(Invalid::new(
                field,
                format!(
                    "after {} of silence another replica would take over while the holder may still act: lease must be \
                     longer than valid + opLimit ({}); lengthen lease (up to 1m), or shorten valid or opLimit",
                    show(lease_ms),
                    show(valid_ms + op_ms)
                ),
            ));
        }
        if lease_ms > LONGEST_LEASE_MS {
            return Err(Invalid::new(
                LEASE,
                format!(
                    "{} is too long, as a minute without a coordinator is an alert of its own: write 1m or less, \
                     such as 15s",
                    show(lease_ms)
                ),
            ));
        }
        Ok(Timers { period_ms, op_ms, valid_ms, lease_ms, alone: false })
    }

    /// Of the fields that could be changed, the first that somebody wrote.
    fn blamed(&self, fields: &[&'static str]) -> &'static str {
        let written = |field: &&&str| match **field {
            PERIOD => self.period.is_some(),
            OP_LIMIT => self.op_limit.is_some(),
            VALID => self.valid.is_some(),
            _ => self.lease.is_some(),
        };
        fields.iter().find(written).copied().unwrap_or(fields[0])
    }
}

fn length(field: &'static str, text: Option<&str>, usual_ms: i64) -> Result<i64, Invalid> {
    let Some(text) = text else { return Ok(usual_ms) };
    let ms = duration::parse_ms(field, text)?;
    if ms < LEAST_MS {
        return Err(Invalid::new(
            field,
            format!("{text} is too short: write 100ms or more, such as {}", duration::human(usual_ms)),
        ));
    }
    Ok(ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn parse(yaml: &str) -> Result<Timers, Invalid> {
        serde_yaml::from_str::<Written>(yaml).unwrap().parse()
    }

    #[rstest]
    #[case::nothing("{}", (1000, 2000, 10_000, 15_000))]
    #[case::one("period: 2s", (2000, 2000, 10_000, 15_000))]
    #[case::all("{period: 200ms, opLimit: 500ms, valid: 2s, lease: 3s}", (200, 500, 2000, 3000))]
    #[case::just_fits("{valid: 10s, opLimit: 2s, lease: 12100ms}", (1000, 2000, 10_000, 12_100))]
    #[case::longest("{lease: 1m, valid: 40s}", (1000, 2000, 40_000, 60_000))]
    fn lengths_that_go_together_are_taken(#[case] yaml: &str, #[case] right: (i64, i64, i64, i64)) {
        let t = parse(yaml).unwrap();
        assert_eq!((t.period_ms, t.op_ms, t.valid_ms, t.lease_ms), right);
        assert!(!t.alone);
    }

    #[rstest]
    #[case::valid_reaches_lease("valid: 13s", VALID, "longer than valid + opLimit (15s)")]
    #[case::lease_below_valid("lease: 12s", LEASE, "longer than valid + opLimit (12s)")]
    #[case::both("{valid: 20s, lease: 21s}", LEASE, "lengthen lease (up to 1m), or shorten valid or opLimit")]
    #[case::slow_operations("opLimit: 5s", OP_LIMIT, "longer than valid + opLimit (15s)")]
    #[case::slow_renewals("period: 8s", PERIOD, "longer than period + opLimit (10s)")]
    #[case::short_belief("valid: 3s", VALID, "lengthen valid, or shorten period or opLimit")]
    #[case::very_slow_operations("opLimit: 9s", OP_LIMIT, "longer than period + opLimit (10s)")]
    #[case::too_long("lease: 2m", LEASE, "write 1m or less")]
    #[case::too_short("period: 10ms", PERIOD, "10ms is too short: write 100ms or more, such as 1s")]
    #[case::no_unit("period: '1'", PERIOD, "has no unit")]
    fn lengths_that_do_not_are_refused_with_what_would_be_right(
        #[case] yaml: &str,
        #[case] field: &str,
        #[case] remedy: &str,
    ) {
        let invalid = parse(yaml).unwrap_err();
        assert_eq!(invalid.field, field);
        assert!(invalid.message.contains(remedy), "{invalid}");
    }

    #[test]
    fn the_usual_lengths_keep_the_relations() {
        for t in [Timers::SHARED, Timers::ALONE] {
            assert!(t.valid_ms + t.op_ms < t.lease_ms);
            assert!(t.period_ms + t.op_ms < t.valid_ms);
        }
    }
}
