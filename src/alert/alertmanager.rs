//! The body that Prometheus Alertmanager sends to webhook receivers (version "4", Alertmanager
//! documentation, "webhook_config"): whatever reads that, reads GoTel.
//!
//! Promises: labels are stable over an incident and over incidents of the same reservation (no ids, no
//! times), as receivers match a resolve to its trigger by them; a reservation's own labels are passed on
//! under names that Prometheus allows, and never replace ours. An alert in a digest has the labels, and so the
//! fingerprint, that it has alone.

use super::render::{self, link, rfc3339, short_id, title};
use crate::reservation::{Event, Notice, Reason};
use serde::Serialize;
use std::collections::BTreeMap;

/// What Go writes for "no time": Alertmanager's `endsAt` of an alert that fires.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

type Labels = BTreeMap<String, String>;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message<'a> {
    version: &'static str,
    group_key: String,
    truncated_alerts: usize,
    status: Status,
    receiver: &'a str,
    group_labels: Labels,
    common_labels: Labels,
    common_annotations: Labels,
    #[serde(rename = "externalURL")]
    external_url: &'a str,
    alerts: Vec<Alert>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Firing,
    Resolved,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    status: Status,
    labels: Labels,
    annotations: Labels,
    starts_at: String,
    ends_at: String,
    #[serde(rename = "generatorURL")]
    generator_url: String,
    fingerprint: String,
}

/// The body for one notice, to the receiver called `receiver`.
pub(super) fn message<'a>(notice: &Notice, receiver: &'a str, external_url: &'a str) -> Message<'a> {
    let alerts = match &notice.digest {
        Some(digest) => digest
            .lines
            .iter()
            .map(|line| {
                let labels = labels(&line.labels, line.reason, &line.app, &line.component);
                let word = render::word(line.event, line.reason);
                let summary = render::one_line(&format!("{word} {}/{}", line.app, line.component));
                let annotations = annotations([("summary", summary), ("owner", line.owner.clone())]);
                alert(line.event, labels, annotations, line.deadline_ms, notice.at_ms, "")
            })
            .collect(),
        None => vec![single(notice)],
    };
    let firing = alerts.iter().any(|alert| alert.status == Status::Firing);
    let common_labels = common(alerts.iter().map(|alert| &alert.labels));
    let common_annotations = common(alerts.iter().map(|alert| &alert.annotations));
    let group_labels: Labels = common_labels
        .iter()
        .filter(|(name, _)| matches!(name.as_str(), "alertname" | "app" | "component"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let pairs: Vec<_> = group_labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    Message {
        version: "4",
        group_key: format!("{{}}:{{{}}}", pairs.join(", ")),
        truncated_alerts: notice
            .digest
            .as_ref()
            .map_or(0, |digest| digest.count.saturating_sub(digest.lines.len())),
        status: if firing { Status::Firing } else { Status::Resolved },
        receiver,
        group_labels,
        common_labels,
        common_annotations,
        external_url,
        alerts,
    }
}

fn single(notice: &Notice) -> Alert {
    let mut all = labels(&notice.labels, notice.reason, &notice.app, &notice.component);
    if notice.event == Event::Test {
        all.insert("alertname".into(), "GotelTest".into());
    }
    let texts = annotations([
        ("summary", title(notice)),
        ("description", render::body(notice)),
        ("owner", notice.owner.clone()),
        ("schedule", notice.schedule.clone()),
        ("remarks", notice.remarks.join("\n")),
    ]);
    alert(notice.event, all, texts, notice.deadline_ms, notice.at_ms, link(notice).unwrap_or(""))
}

fn alert(event: Event, labels: Labels, annotations: Labels, starts_ms: i64, at_ms: i64, url: &str) -> Alert {
    // A test is over as soon as it is seen.
    let over = render::closes(event) || event == Event::Test;
    let parts: Vec<&str> = labels.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]).collect();
    let mut fingerprint = short_id(&parts);
    // As long as Alertmanager's own (64 bits).
    fingerprint.truncate(16);
    Alert {
        status: if over { Status::Resolved } else { Status::Firing },
        annotations,
        starts_at: rfc3339(starts_ms),
        ends_at: if over { rfc3339(at_ms) } else { NO_TIME.to_owned() },
        generator_url: url.to_owned(),
        fingerprint,
        labels,
    }
}

/// The same for a notice and for its line in a digest, so that an end told alone matches.
fn labels(own: &BTreeMap<String, String>, reason: Reason, app: &str, component: &str) -> Labels {
    let own = own.iter().map(|(name, value)| (label_name(name), value.clone()));
    let alertname = match reason {
        Reason::Missed | Reason::NeverCheckedIn => "GotelReservationLate",
        Reason::Failed => "GotelReservationFailed",
        Reason::Overrun => "GotelReservationOverrun",
        Reason::System => "GotelSystem",
    };
    let ours = [("alertname", alertname), ("app", app), ("component", component), ("severity", "error")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    own.chain(ours).collect()
}

fn annotations<const N: usize>(texts: [(&str, String); N]) -> Labels {
    texts
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| (name.to_owned(), text))
        .collect()
}

/// What all have alike.
fn common<'a>(mut all: impl Iterator<Item = &'a Labels>) -> Labels {
    let Some(mut kept) = all.next().cloned() else { return Labels::new() };
    for other in all {
        kept.retain(|name, value| other.get(name) == Some(value));
    }
    kept
}

/// A name that Prometheus allows (`[a-zA-Z_][a-zA-Z0-9_]*`).
fn label_name(name: &str) -> String {
    let mut out: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if out.is_empty() || out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    out
}

#[cfg(test)]
mod tests;
