//! What is told, for a tired person: what it means, and what to do.

use super::Trouble;
use crate::reservation::message::utc;
use crate::store::SystemKind;

/// Of a database that is away. The first line is the title's.
pub(super) fn trouble(kind: SystemKind, replica: &str, since_ms: i64) -> String {
    let since = utc(since_ms);
    match kind {
        SystemKind::PeerNoDb => format!(
            "{replica} does not reach the database since {since}\n\
             Another replica reaches it and watches the jobs. Check-ins sent to {replica} are answered 503 and have \
             to be repeated. Look at the network between {replica} and the database."
        ),
        _ => format!(
            "the database takes no writes from {replica} since {since}\n\
             No job is watched and no check-in is accepted (503) while that lasts: a job that is late now is NOT \
             noticed. Look at the database server, its disk, and the network to it. GoTel goes on by itself once it \
             is back, and jobs that could not check in meanwhile are given time."
        ),
    }
}

/// Of its return.
pub(super) fn back(about_database: bool) -> String {
    if about_database {
        "The gap is recorded. Jobs whose deadline fell into it were given time; those that stay silent follow in one \
         digest. Jobs that were late before are told at once."
            .into()
    } else {
        "It is no longer so, or it can be written down again and is told in the usual way.".into()
    }
}

/// On the page of nodes.
pub(super) fn standing(trouble: &Trouble) -> String {
    let first = trouble.text.lines().next().unwrap_or_default();
    let names: Vec<_> = trouble.accepted.iter().map(|t| t.alerter.as_str()).collect();
    match trouble.told_ms {
        Some(told_ms) => format!("{first}; told over {} at {}", names.join(", "), utc(told_ms)),
        None => format!("{first}; nobody has accepted the alert yet"),
    }
}
