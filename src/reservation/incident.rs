//! Incidents: what went wrong, and what is told about it.
//!
//! Promises: each word reads back as what it was written from, and the key under which receivers fold an incident's
//! notices follows from the job and the missed deadline alone (its own: an outage or a snooze that moved it is not
//! part of that), so an incident whose row was lost in a fail-over and made again is the same incident to them.

use sha2::{Digest, Sha256};

/// Why an incident is open (design 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No good run by the deadline.
    Missed,
    /// Not one good run since the reservation was made.
    NeverCheckedIn,
    /// A run said that it went wrong.
    Failed,
    /// A run takes longer than it may.
    Overrun,
    /// GoTel's own trouble (`gotel/…`)
    System,
}

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// An incident opened.
    Trigger,
    /// It is still open.
    Remind,
    /// It is still open and now others hear of it.
    Escalate,
    /// It ended.
    Resolve,
    /// Its reservation was checked out.
    Cancel,
    /// many notices in one
    Digest,
    /// missed and recovered before anybody could be told
    Recovered,
    /// `gotel alerter test`
    Test,
}

/// How an incident ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// Its cause went away.
    Recovered,
    /// An edit of the reservation took its cause away.
    Reconfigured,
    /// The reservation was checked out.
    CheckedOut,
}

/// An incident that is open, as the rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenIncident {
    /// Why it was opened.
    pub reason: Reason,
    /// The exact deadline that was missed (or the failure's receipt, or the run's limit).
    pub deadline_ms: i64,
    /// When it was noticed.
    pub opened_ms: i64,
    /// The run that overran or failed, if one is named.
    pub rid: Option<String>,
    /// Number of the last event told (trigger = 0).
    pub event_no: i64,
    /// When the next reminder is due; None = never.
    pub next_remind_ms: Option<i64>,
    /// Escalation steps already told.
    pub escalated: u32,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Missed, Self::NeverCheckedIn, Self::Failed, Self::Overrun, Self::System];

    /// the database's and the wire's word
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::NeverCheckedIn => "never_checked_in",
            Self::Failed => "failed",
            Self::Overrun => "overrun",
            Self::System => "system",
        }
    }

    /// reads it back
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text)
    }
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Trigger,
        Self::Remind,
        Self::Escalate,
        Self::Resolve,
        Self::Cancel,
        Self::Digest,
        Self::Recovered,
        Self::Test,
    ];

    /// the database's and the wire's word
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trigger => "trigger",
            Self::Remind => "remind",
            Self::Escalate => "escalate",
            Self::Resolve => "resolve",
            Self::Cancel => "cancel",
            Self::Digest => "digest",
            Self::Recovered => "recovered",
            Self::Test => "test",
        }
    }

    /// reads it back
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == text)
    }
}

impl Ending {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Recovered, Self::Reconfigured, Self::CheckedOut];

    /// the database's and the wire's word
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::Reconfigured => "reconfigured",
            Self::CheckedOut => "checked_out",
        }
    }

    /// reads it back
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ending| ending.as_str() == text)
    }
}

/// The key under which receivers fold an incident's notices: `gotel/` and 64 hex digits (70 characters; PagerDuty
/// allows 255). Each part goes into the SHA-256 with its length, so no two sets of parts can be confused.
/// `cause`: what else it is about, where the deadline does not say it.
pub fn dedup_key(
    install_id: &str,
    app: &str,
    component: &str,
    deadline_ms: i64,
    cause: Option<&str>,
) -> String {
    let mut hash = Sha256::new();
    let part = |hash: &mut Sha256, part: &str| {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    };
    [install_id, app, component].into_iter().for_each(|text| part(&mut hash, text));
    hash.update(deadline_ms.to_be_bytes());
    if let Some(cause) = cause {
        part(&mut hash, cause);
    }
    format!("gotel/{}", hex::encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_reads_back_and_is_the_wires_word() {
        fn wire<T: serde::Serialize>(value: T) -> String {
            serde_json::to_string(&value).unwrap().trim_matches('"').to_owned()
        }
        for reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(reason));
            assert_eq!(wire(reason), reason.as_str());
        }
        for event in Event::ALL {
            assert_eq!(Event::parse(event.as_str()), Some(event));
            assert_eq!(wire(event), event.as_str());
        }
        for ending in Ending::ALL {
            assert_eq!(Ending::parse(ending.as_str()), Some(ending));
            assert_eq!(wire(ending), ending.as_str());
        }
        assert_eq!((Reason::parse(""), Event::parse("Trigger"), Ending::parse("gone")), (None, None, None));
    }

    #[test]
    fn the_key_is_stable_and_short() {
        let key = dedup_key("install", "billing", "nightly", 1_700_000_000_000, None);
        assert_eq!(key, dedup_key("install", "billing", "nightly", 1_700_000_000_000, None));
        assert_eq!(key.len(), 70);
        assert!(key.starts_with("gotel/"));
    }

    #[test]
    fn anything_different_gives_another_key() {
        let keys = [
            dedup_key("i", "ab", "c", 1, None),
            dedup_key("i", "a", "bc", 1, None),
            dedup_key("ia", "b", "c", 1, None),
            dedup_key("i", "ab", "c", 2, None),
            dedup_key("i", "ab", "c", 1, Some("")),
            dedup_key("i", "ab", "c", 1, Some("overrun/1")),
        ];
        for (n, key) in keys.iter().enumerate() {
            assert!(!keys[..n].contains(key));
        }
    }
}
