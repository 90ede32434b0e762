//! PagerDuty, Events API v2 (PagerDuty developer documentation, "Events API v2 overview").
//!
//! Promises: one `dedup_key` for the whole incident, so that repeats, reminders and a second replica's
//! sending fold into one PagerDuty alert; `trigger`, `remind` and `escalate` are sent as trigger (which
//! appends to an open alert and pages nobody again), `resolve` and `cancel` as resolve. An incident that was
//! over before anybody could be told is sent as resolve only: nobody is woken for it. The key contains the
//! incident (`Notice::dedup_key`), so a later incident of the same job is a new alert.
//!
//! Races: an append to an alert that is resolved would open it anew. The outbox sends an incident's events
//! to one target in their order, each after the one before is finished, so none of ours follows its resolve.
//! Where a person resolved the alert in PagerDuty while the job is still late, the next reminder does open
//! it again; that is PagerDuty's rule, and it is true.
//!
//! A digest opens an alert of its own, which ends with the last of its incidents: that end is sent under the
//! digest's key. While the alert stands for an incident, the coordinator sends no reminder of that incident, as
//! it would open a second one. What went alone opened an alert under the incident's own key, which gets an end
//! of its own. An incident whose end was queued before its trigger was folded is not folded any more.

use super::config::{PagerDutyConfig, Severity};
use super::http::{self, Answer};
use super::render::{self, clip, digest_lines, facts, link, rfc3339, title};
use super::{Alerter, Context, Delivery, Outcome};
use crate::clock;
use crate::reservation::{Event, Invalid, Notice};
use crate::secret::{Secret, Value};
use futures::future::BoxFuture;
use serde::Serialize;
use std::collections::BTreeMap;
use url::Url;

/// Longest summary, in characters (Events API v2).
const SUMMARY_MAX: usize = 1024;
/// Longest dedup_key, in characters (Events API v2).
const DEDUP_MAX: usize = 255;
/// Longest event, in bytes: the API takes 512 kB; Prometheus Alertmanager stays below this figure too.
const EVENT_MAX: usize = 512_000;

/// The alerter of type `pagerduty`.
#[derive(Debug)]
pub struct PagerDuty {
    name: String,
    client: reqwest::Client,
    url: Url,
    host: String,
    key: Secret,
    severity: Severity,
    external_url: Option<String>,
}

#[derive(Debug, Serialize)]
struct Body<'a> {
    routing_key: &'a str,
    event_action: Action,
    dedup_key: String,
    #[serde(flatten)]
    trigger: Option<Trigger<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Trigger,
    Resolve,
}

#[derive(Debug, Serialize)]
struct Trigger<'a> {
    client: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_url: Option<&'a str>,
    payload: Payload<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<Link<'a>>,
}

#[derive(Debug, Serialize)]
struct Payload<'a> {
    summary: String,
    source: &'a str,
    severity: Severity,
    timestamp: String,
    component: &'a str,
    group: &'a str,
    class: &'static str,
    custom_details: BTreeMap<&'static str, serde_json::Value>,
}

#[derive(Debug, Serialize)]
struct Link<'a> {
    href: &'a str,
    text: &'static str,
}

impl PagerDuty {
    /// Sets it up; nothing is sent yet.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(name: String, config: &PagerDutyConfig, context: &Context) -> Result<Self, Invalid> {
        let client = super::client(None).map_err(|e| Invalid::new(format!("alerters.{name}"), e))?;
        Ok(Self {
            name,
            client,
            host: http::mask(&config.url),
            url: config.url.clone(),
            key: config.routing_key.clone(),
            severity: config.severity,
            external_url: context.external_url.clone(),
        })
    }

    async fn deliver(&self, notice: &Notice) -> Outcome {
        let key = self.key.value();
        let outcome = self.post(&key, notice, action(notice.event)).await;
        // A test leaves nothing open behind.
        if notice.event == Event::Test && outcome == Outcome::Accepted {
            return self.post(&key, notice, Action::Resolve).await;
        }
        outcome
    }

    async fn post(&self, key: &Value, notice: &Notice, action: Action) -> Outcome {
        let body = match self.body(key, notice, action) {
            Ok(body) => body,
            Err(e) => return Outcome::refused(format!("the notice cannot be written as JSON: {e}")),
        };
        let request = self
            .client
            .post(self.url.clone())
            .header(reqwest::header::CONTENT_TYPE, "application/json")
            .body(body);
        match http::ask(request, &self.host, clock::wall_ms()).await {
            Ok(answer) => self.judge(key, &answer),
            Err(outcome) => outcome,
        }
    }

    fn body(&self, key: &Value, notice: &Notice, action: Action) -> serde_json::Result<Vec<u8>> {
        let body = serde_json::to_vec(&self.event(key, notice, action, true))?;
        if body.len() <= EVENT_MAX {
            return Ok(body);
        }
        serde_json::to_vec(&self.event(key, notice, action, false))
    }

    fn event<'a>(&'a self, key: &'a Value, notice: &'a Notice, action: Action, details: bool) -> Body<'a> {
        let trigger = (action == Action::Trigger).then(|| Trigger {
            client: "GoTel",
            client_url: link(notice).or(self.external_url.as_deref()),
            payload: Payload {
                summary: clip(&title(notice), SUMMARY_MAX),
                source: if notice.srv.is_empty() { "gotel" } else { &notice.srv },
                severity: if notice.event == Event::Test { Severity::Info } else { self.severity },
                timestamp: rfc3339(notice.deadline_ms),
                component: &notice.component,
                group: &notice.app,
                class: notice.reason.as_str(),
                custom_details: if details { custom_details(notice) } else { BTreeMap::new() },
            },
            links: link(notice).map(|href| Link { href, text: "In GoTel" }).into_iter().collect(),
        });
        Body { routing_key: key.expose(), event_action: action, dedup_key: dedup_key(notice), trigger }
    }

    fn judge(&self, key: &Value, answer: &Answer) -> Outcome {
        if let Some(outcome) = http::judge(&self.host, answer) {
            return outcome;
        }
        let status = answer.status.as_u16();
        let errors = errors(key, &answer.body);
        let why = format!("{} answered {}{errors}", self.host, http::words(answer.status));
        match status {
            401 | 403 | 404 => Outcome::broken(why),
            // A wrong key is the alerter's fault, not this notice's: every other would fail alike.
            400 if errors.contains("routing_key") || errors.contains("routing key") => Outcome::broken(why),
            _ => Outcome::refused(why),
        }
    }
}

impl Alerter for PagerDuty {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "pagerduty"
    }

    fn folds(&self) -> bool {
        true
    }

    fn renewals(&self) -> u64 {
        self.key.renewals()
    }

    fn send<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Outcome> {
        Box::pin(self.deliver(&delivery.notice))
    }
}

/// `errors[]` and `message` of an answer, without the key should it be repeated there.
fn errors(key: &Value, body: &[u8]) -> String {
    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct Said {
        message: String,
        errors: Vec<String>,
    }
    let said: Said = serde_json::from_slice(body).unwrap_or_default();
    let mut parts = vec![said.message];
    parts.extend(said.errors);
    parts.retain(|part| !part.is_empty());
    if parts.is_empty() {
        return String::new();
    }
    let text = render::one_line(&parts.join("; ")).replace(key.expose(), "***");
    format!(": {}", clip(&text, 300))
}

fn action(event: Event) -> Action {
    if render::closes(event) { Action::Resolve } else { Action::Trigger }
}

/// The notice's key, or a digest of it where the key is longer than PagerDuty takes.
fn dedup_key(notice: &Notice) -> String {
    if notice.dedup_key.chars().count() <= DEDUP_MAX {
        notice.dedup_key.clone()
    } else {
        render::short_id(&[&notice.dedup_key])
    }
}

fn custom_details(notice: &Notice) -> BTreeMap<&'static str, serde_json::Value> {
    let mut details = BTreeMap::new();
    for (label, value) in facts(notice) {
        details.insert(label, value.into());
    }
    details.insert("Event", notice.event.as_str().into());
    let message = render::body(notice);
    if !message.is_empty() {
        details.insert("Message", message.into());
    }
    if !notice.remarks.is_empty() {
        details.insert("Remarks", notice.remarks.clone().into());
    }
    if let Some(output) = &notice.output {
        details.insert("Output", render::lines(output).into());
    }
    let members = digest_lines(notice);
    if !members.is_empty() {
        details.insert("Alerts", members.into());
    }
    details
}

#[cfg(test)]
mod tests;
