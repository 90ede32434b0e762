//! What an alerter is handed: frozen when the event happened, the same on every try.
//!
//! Promises: a notice stored by an older version still reads (fields added later have defaults), and its title is
//! one printable line of at most 200 characters, fit for a subject. Nothing here is escaped for a channel: each
//! alerter does that.

use super::{
    duration::human,
    incident::{Event, Reason},
    message::{cut, utc},
};
use std::collections::BTreeMap;

/// Longest title, in characters.
pub const TITLE_MAX: usize = 200;
/// Most lines of a digest.
pub const LINES_MAX: usize = 50;

/// One thing to tell. Serialized into the outbox row.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Notice {
    /// 1.
    #[serde(default = "first_version")]
    pub version: u32,
    /// What happened.
    pub event: Event,
    /// Why the incident is open.
    pub reason: Reason,
    /// Incident id (uuid).
    pub incident: String,
    /// Folds repeats at the receiver; stable for the life of the incident, even if its row was lost and re-made.
    pub dedup_key: String,
    /// 0 for the trigger, then one more for each event of the incident.
    #[serde(default)]
    pub event_no: i64,
    /// The application.
    pub app: String,
    /// The part of it.
    pub component: String,
    /// Whom to ask.
    #[serde(default)]
    pub owner: String,
    /// Whom the reservation names.
    #[serde(default)]
    pub notify: Vec<String>,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The schedule in words.
    #[serde(default)]
    pub schedule: String,
    /// The missed deadline, the failure's receipt, the run's limit.
    #[serde(default)]
    pub deadline_ms: i64,
    /// When GoTel noticed.
    #[serde(default)]
    pub noticed_ms: i64,
    /// When the event was made.
    #[serde(default)]
    pub at_ms: i64,
    /// The newest good run.
    #[serde(default)]
    pub last_ok_ms: Option<i64>,
    /// How many check-ins there were.
    #[serde(default)]
    pub checkins: i64,
    /// Of the newest failure.
    #[serde(default)]
    pub exit_code: Option<u8>,
    /// The run it is about, if one is named.
    #[serde(default)]
    pub rid: Option<String>,
    /// Set once resolved: how long it lasted.
    #[serde(default)]
    pub down_ms: Option<i64>,
    /// The rendered `alert_msg` (plain text; escaped by each alerter for its own channel).
    #[serde(default)]
    pub message: String,
    /// Last bytes of the failing run's output, if any were sent.
    #[serde(default)]
    pub output: Option<String>,
    /// The replica that made it.
    #[serde(default)]
    pub srv: String,
    /// Link to the reservation's page; None without a configured external address.
    #[serde(default)]
    pub url: Option<String>,
    /// Extra sentences: "noticed 12 min late", "sent by the default alerters because …".
    #[serde(default)]
    pub remarks: Vec<String>,
    /// For `Digest`: how many in all, and the first 50.
    #[serde(default)]
    pub digest: Option<Digest>,
}

/// Many notices in one.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Digest {
    /// all of them, listed or not
    pub count: usize,
    /// the first 50
    pub lines: Vec<DigestLine>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct DigestLine {
    /// What happened.
    pub event: Event,
    /// Why.
    pub reason: Reason,
    /// The application.
    pub app: String,
    /// The part of it.
    pub component: String,
    /// Whom to ask.
    #[serde(default)]
    pub owner: String,
    /// Its labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The missed deadline, the failure's receipt, the run's limit.
    pub deadline_ms: i64,
    /// Incident id.
    pub incident: String,
}

fn first_version() -> u32 {
    1
}

impl Notice {
    /// One line for a subject or a title: `LATE billing/nightly: no check-in by 02:00:00 UTC (2026-01-02)`.
    ///
    /// No control characters, at most 200 characters, cut with `…`.
    pub fn title(&self) -> String {
        let job = format!("{}/{}", self.app, self.component);
        let title = match self.event {
            Event::Trigger => self.trigger_title(&job),
            Event::Escalate => format!("ESCALATED: {}", self.trigger_title(&job)),
            Event::Remind => format!("{} {job}: since {}", self.still(), clock(self.deadline_ms)),
            Event::Resolve if self.reason == Reason::System => {
                format!("GOTEL OK {}{}", self.component, self.down_for(" after "))
            }
            Event::Resolve if self.ran_well() => format!("RECOVERED {job}{}", self.down_for(" after ")),
            Event::Resolve => format!("CLOSED {job}: {}{}", self.closed_because(), self.down_for(", after ")),
            Event::Cancel => format!("CLOSED {job} (checked out)"),
            Event::Recovered => {
                let due = clock(self.deadline_ms);
                format!(
                    "RECOVERED {job}: missed {due}, mended before it could be told{}",
                    self.down_for(", after ")
                )
            }
            Event::Digest => self.digest_title(),
            Event::Test => format!("TEST of the alerter for {job}: nothing is wrong"),
        };
        let printable: String = title.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        cut(printable.trim(), TITLE_MAX)
    }

    /// How it ended, as a sentence for a body; None unless this notice tells of an end.
    pub fn resolved_text(&self) -> Option<String> {
        let what = match self.event {
            Event::Resolve if self.reason == Reason::System => "GoTel works again".to_owned(),
            Event::Resolve if self.ran_well() => "The job ran well again".to_owned(),
            Event::Resolve => format!("The incident was closed: {}", self.closed_because()),
            Event::Cancel => "The reservation was checked out".to_owned(),
            Event::Recovered if self.reason == Reason::System => "It is over".to_owned(),
            Event::Recovered => "The job was late and ran well again before anybody could be told".to_owned(),
            _ => return None,
        };
        let down = self.down_ms.map(|down| format!(" It was down for {}.", human(down))).unwrap_or_default();
        Some(format!("{what}.{down}"))
    }

    /// Folds notices into one digest notice (count, first 50). Members that are digests themselves are unfolded.
    ///
    /// `digest_id` stands in for the incident and its key, as a digest is about many.
    pub fn digest(members: &[Notice], digest_id: &str, at_ms: i64, srv: &str) -> Notice {
        let mut digest = Digest { count: 0, lines: Vec::new() };
        let mut remarks: Vec<String> = Vec::new();
        for member in members {
            let (count, lines) = match &member.digest {
                Some(inner) => (inner.count, inner.lines.clone()),
                None => (1, vec![member.line()]),
            };
            digest.count += count;
            digest.lines.extend(lines);
            for remark in member.remarks.iter().filter(|_| member.digest.is_none()) {
                if !remarks.contains(remark) && remarks.len() < LINES_MAX {
                    remarks.push(remark.clone());
                }
            }
        }
        let first = members.first();
        let shared = |text: fn(&Notice) -> &str| {
            first
                .map(text)
                .filter(|one| members.iter().all(|member| text(member) == *one))
                .unwrap_or_default()
                .to_owned()
        };
        let mut notice = Notice {
            version: first_version(),
            event: Event::Digest,
            reason: first.map_or(Reason::System, |first| first.reason),
            incident: digest_id.to_owned(),
            dedup_key: digest_id.to_owned(),
            event_no: 0,
            app: super::name::SYSTEM_APP.to_owned(),
            component: "digest".to_owned(),
            owner: shared(|member| &member.owner),
            notify: Vec::new(),
            labels: BTreeMap::new(),
            schedule: String::new(),
            deadline_ms: members.iter().map(|member| member.deadline_ms).min().unwrap_or(at_ms),
            noticed_ms: members.iter().map(|member| member.noticed_ms).min().unwrap_or(at_ms),
            at_ms,
            last_ok_ms: None,
            checkins: 0,
            exit_code: None,
            rid: None,
            down_ms: None,
            message: String::new(),
            output: None,
            srv: srv.to_owned(),
            url: overview(members),
            remarks,
            digest: Some(digest),
        };
        notice.list_no_more_than(LINES_MAX);
        notice.message = notice.title();
        notice
    }

    /// Cuts a digest's list; the last remark says how many are not on it.
    pub fn list_no_more_than(&mut self, lines: usize) {
        const MORE: &str = "… and ";
        let Some(digest) = &mut self.digest else { return };
        digest.lines.truncate(lines);
        self.remarks.retain(|remark| !remark.starts_with(MORE));
        if let rest @ 1.. = digest.count.saturating_sub(digest.lines.len()) {
            self.remarks.push(format!("{MORE}{rest} more"));
        }
    }

    /// This notice as one line of a digest.
    fn line(&self) -> DigestLine {
        DigestLine {
            event: self.event,
            reason: self.reason,
            app: self.app.clone(),
            component: self.component.clone(),
            owner: self.owner.clone(),
            labels: self.labels.clone(),
            deadline_ms: self.deadline_ms,
            incident: self.incident.clone(),
        }
    }

    fn trigger_title(&self, job: &str) -> String {
        let when = clock(self.deadline_ms);
        match self.reason {
            Reason::Missed => format!("LATE {job}: no check-in by {when}"),
            Reason::NeverCheckedIn if self.checkins > 0 => {
                format!("LATE {job}: no good run ever, expected by {when}")
            }
            Reason::NeverCheckedIn => format!("NEVER CHECKED IN {job}: expected by {when}"),
            Reason::Failed => match self.exit_code {
                Some(code) => format!("FAILED {job}: exit code {code} at {when}"),
                None => format!("FAILED {job}: at {when}"),
            },
            Reason::Overrun => match self.rid.as_deref().filter(|rid| !rid.is_empty()) {
                Some(rid) => {
                    format!("OVERRUN {job}: run {} still going after its limit, {when}", cut(rid, 40))
                }
                None => format!("OVERRUN {job}: still running after its limit, {when}"),
            },
            Reason::System => {
                format!(
                    "GOTEL TROUBLE {}: {}",
                    self.component,
                    self.message.lines().next().unwrap_or_default()
                )
            }
        }
    }

    fn still(&self) -> &'static str {
        match self.reason {
            Reason::Missed => "STILL LATE",
            Reason::NeverCheckedIn if self.checkins > 0 => "STILL LATE",
            Reason::NeverCheckedIn => "STILL NEVER CHECKED IN",
            Reason::Failed => "STILL FAILED",
            Reason::Overrun => "STILL RUNNING",
            Reason::System => "GOTEL STILL IN TROUBLE",
        }
    }

    /// Whether a good run ended the incident, rather than an edit or the end of a run.
    fn ran_well(&self) -> bool {
        self.last_ok_ms.is_some_and(|ok| ok >= self.deadline_ms)
    }

    fn closed_because(&self) -> &'static str {
        match self.reason {
            Reason::Missed | Reason::NeverCheckedIn => "no longer late",
            Reason::Failed => "no longer failed",
            Reason::Overrun => "no longer overdue",
            Reason::System => "no longer in trouble",
        }
    }

    fn down_for(&self, before: &str) -> String {
        self.down_ms.map(|down| format!("{before}{}", human(down))).unwrap_or_default()
    }

    /// `42 alerts: billing/nightly, billing/hourly, …`.
    fn digest_title(&self) -> String {
        let Some(digest) = &self.digest else { return "0 alerts".to_owned() };
        let ends =
            |line: &&DigestLine| matches!(line.event, Event::Resolve | Event::Cancel | Event::Recovered);
        // Good news must not look like an alarm; a mix does.
        let what = match digest.lines.iter().filter(ends).count() {
            ended if ended > 0 && ended == digest.lines.len() => "recoveries",
            _ => "alerts",
        };
        let names: Vec<String> =
            digest.lines.iter().take(3).map(|line| format!("{}/{}", line.app, line.component)).collect();
        let more = if digest.count > names.len() { ", …" } else { "" };
        format!("{} {what}: {}{more}", digest.count, names.join(", "))
    }
}

/// Where all of a digest's jobs are seen: the page of bad guests, beside the page of any of them
/// (`…/status/app/component`, each name one segment).
fn overview(members: &[Notice]) -> Option<String> {
    const BAD_GUESTS: &str = "/badguests";
    let url = members.iter().find_map(|member| member.url.as_deref())?;
    if url.ends_with(BAD_GUESTS) {
        return Some(url.to_owned());
    }
    Some(format!("{}{BAD_GUESTS}", url.rsplitn(4, '/').nth(3)?))
}

/// A moment with the hour first, as that is what is looked for: `02:00:00 UTC (2026-01-02)`.
fn clock(ms: i64) -> String {
    match utc(ms).split_once(' ') {
        Some((date, time)) if time.ends_with("UTC") => format!("{time} ({date})"),
        _ => utc(ms),
    }
}

#[cfg(test)]
mod tests;
