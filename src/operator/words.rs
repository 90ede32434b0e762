//! The words that other programs match: types and reasons of conditions and events.

use crate::reservation::State;

/// Is GoTel watching this job?
pub const READY: &str = "Ready";
/// Is the job well?
pub const ON_TIME: &str = "OnTime";
/// Were those told who are to be told?
pub const ALERTS_DELIVERED: &str = "AlertsDelivered";
/// Must a person act before the job is watched as its spec says?
pub const STALLED: &str = "Stalled";

/// Status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truth {
    /// Yes.
    True,
    /// No.
    False,
    /// Not known, or neither.
    Unknown,
}

impl Truth {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident)+) => {
        /// Why a condition is what it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason { $($(#[$doc])* $name),+ }

        impl Reason {
            /// As the API spells it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),+ }
            }
        }
    };
}

reasons! {
    /// The reservation is kept, and watched.
    Watching
    /// It is kept, and alerting is paused by `suspend`.
    Suspended
    /// Another object, or the API, has it.
    Conflict
    /// The schedule can never fire, or is not understood.
    InvalidSchedule
    /// An alerter is not configured.
    UnknownAlerter
    /// Its namespace may not claim its app.
    NamespaceNotAllowed
    /// Another field is wrong.
    InvalidSpec
    /// The object does not fit the schema that this program knows.
    Unreadable
    /// Nothing can be stored just now.
    DatabaseUnavailable
    /// The last run was good and in time.
    CheckedIn
    /// A deadline passed.
    DeadlineMissed
    /// The job said so.
    JobFailed
    /// A run goes on for longer than `maxRuntime`.
    RunTooLong
    /// Nobody has checked in yet.
    AwaitingFirstCheckin
    /// Alerting is paused by a snooze.
    Snoozed
    /// There is no reservation to speak of.
    NotWatched
    /// Every notice was taken.
    Sent
    /// Some notice was not.
    DeliveryFailed
    /// Notices are on their way.
    Sending
}

/// What a reservation's state means for `OnTime`.
pub fn on_time(state: Option<State>, suspended: bool, snoozed: bool) -> (Truth, Reason) {
    match (state, suspended, snoozed) {
        (_, true, _) => (Truth::Unknown, Reason::Suspended),
        (_, _, true) => (Truth::Unknown, Reason::Snoozed),
        (Some(State::Waiting), ..) => (Truth::Unknown, Reason::AwaitingFirstCheckin),
        (Some(State::OnTime), ..) => (Truth::True, Reason::CheckedIn),
        (Some(State::Late), ..) => (Truth::False, Reason::DeadlineMissed),
        (Some(State::Failed), ..) => (Truth::False, Reason::JobFailed),
        (Some(State::Overrun), ..) => (Truth::False, Reason::RunTooLong),
        (None, ..) => (Truth::Unknown, Reason::NotWatched),
    }
}

/// What its notices mean for `AlertsDelivered`; None: it stays as it is.
pub fn alerts(alerts: crate::store::Alerts) -> Option<(Truth, Reason)> {
    if alerts.is_empty() {
        None
    } else if alerts.failed > 0 {
        Some((Truth::False, Reason::DeliveryFailed))
    } else if alerts.waiting > 0 {
        Some((Truth::Unknown, Reason::Sending))
    } else {
        Some((Truth::True, Reason::Sent))
    }
}
