//! The rules of GoTel, and nothing else.
//!
//! Everything here is a pure function of its arguments: no I/O, no clock, no runtime. Times are
//! the database's, as milliseconds since 1970 in UTC (`*_ms`), and are always handed in.

pub mod backoff;
pub mod deadline;
pub mod decide;
pub mod duration;
pub mod evidence;
pub mod incident;
pub mod invalid;
pub mod message;
pub mod name;
pub mod notice;
pub mod notify;
pub mod outage;
pub mod routing;
pub mod schedule;
pub mod settings;
pub mod snooze;
pub mod storm;

pub use decide::{Action, Case, Decision, State, decide};
pub use evidence::{Evidence, Signal, SignalKind};
pub use incident::{Event, Reason};
pub use invalid::Invalid;
pub use name::JobKey;
pub use notice::Notice;
pub use settings::{Draft, Settings};
