//! A webhook: the notice as JSON to a URL of the operator's.
//!
//! Promises: the body ([`WebhookV1`], or Alertmanager's with `format: alertmanager`) is the same on each
//! try, and so is `Idempotency-Key`; fields are added to version 1, never changed or removed.
//! With a secret, `X-Gotel-Signature: t=<unix seconds>,v1=<hex>` signs `<t>.<body>` by HMAC-SHA-256
//! (RFC 2104); a receiver that refuses old `t` is safe from replays. 2xx means told; 408, 425, 429 and 5xx
//! mean later; 401, 403 and 404 mean that the URL or its credentials are wrong, and are tried on while
//! somebody is told; 410, any other 4xx and every redirect mean never.

use super::alertmanager;
use super::config::{Format, WebhookConfig};
use super::http::{self, Answer};
use super::render::{self, rfc3339, title};
use super::{Alerter, Context, Delivery, Outcome};
use crate::clock;
use crate::reservation::{Event, Invalid, Notice, Reason};
use crate::secret::{self, Secret, Value};
use futures::future::BoxFuture;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use sha2::Sha256;
use std::borrow::Cow;
use std::collections::BTreeMap;
use url::Url;

/// The alerter of type `webhook`.
pub struct Webhook {
    name: String,
    client: reqwest::Client,
    url: Secret,
    format: Format,
    secret: Option<Secret>,
    headers: Vec<(HeaderName, Secret)>,
    external_url: String,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Where one request goes, and what it is signed with: all of one moment.
struct Call {
    url: Url,
    host: String,
    headers: HeaderMap,
    signing: Option<Value>,
}

/// What `format: gotel` sends. Times are RFC 3339 in UTC with milliseconds.
#[derive(Debug, Serialize)]
pub struct WebhookV1<'a> {
    /// 1. A receiver ignores fields that it does not know.
    pub version: u32,
    /// Names this delivery; the same on each try.
    pub id: &'a str,
    /// `firing`, `resolved` or `test`.
    pub status: &'static str,
    /// `trigger`, `remind`, `escalate`, `resolve`, `cancel`, `digest`, `recovered`, `test`.
    pub event: Event,
    /// `missed`, `never_checked_in`, `failed`, `overrun`, `system`.
    pub reason: Reason,
    /// One line.
    pub title: String,
    /// The reservation's own text, placeholders filled in; of an end, how it ended.
    pub message: Cow<'a, str>,
    /// Id of the incident.
    pub incident: &'a str,
    /// The same for all events of the incident.
    pub dedup_key: &'a str,
    /// 0 for the first event of the incident, then counting up.
    pub event_no: i64,
    /// The reservation.
    pub app: &'a str,
    /// The reservation.
    pub component: &'a str,
    /// Who is responsible for it; may be empty.
    pub owner: &'a str,
    /// Whom it names.
    pub notify: &'a [String],
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Its schedule in words.
    pub schedule: &'a str,
    /// The missed deadline, the failure's receipt, or the run's limit.
    pub deadline: String,
    /// When GoTel noticed.
    pub noticed: String,
    /// When the event was made.
    pub at: String,
    /// Last good check-in; null if there was none.
    pub last_ok: Option<String>,
    /// Check-ins of all kinds so far.
    pub checkins: i64,
    /// Of the failed run.
    pub exit_code: Option<u8>,
    /// Of the run in question.
    pub rid: Option<&'a str>,
    /// How long the incident lasted, once it is over, in seconds.
    pub down_seconds: Option<f64>,
    /// End of the failing run's output.
    pub output: Option<&'a str>,
    /// The replica that noticed.
    pub srv: &'a str,
    /// The reservation's page.
    pub url: Option<&'a str>,
    /// Further sentences.
    pub remarks: &'a [String],
    /// Many notices in one; null for all events but `digest`.
    pub digest: Option<WebhookDigest<'a>>,
}

/// Many notices in one.
#[derive(Debug, Serialize)]
pub struct WebhookDigest<'a> {
    /// All of them, listed or not.
    pub count: usize,
    /// The first 50.
    pub alerts: Vec<WebhookDigestLine<'a>>,
}

/// One of them; fields as in [`WebhookV1`].
#[derive(Debug, Serialize)]
#[expect(missing_docs, reason = "the fields are those of WebhookV1")]
pub struct WebhookDigestLine<'a> {
    pub event: Event,
    pub reason: Reason,
    pub app: &'a str,
    pub component: &'a str,
    pub owner: &'a str,
    pub deadline: String,
    pub incident: &'a str,
}

impl Webhook {
    /// Sets it up; nothing is sent yet.
    ///
    /// # Errors
    /// When the URL, a header or the certificate file does not serve.
    pub fn new(name: String, config: &WebhookConfig, context: &Context) -> Result<Self, Invalid> {
        let refuse = |e: String| Invalid::new(format!("alerters.{name}"), e);
        let client = super::client(config.ca_file.as_deref()).map_err(&refuse)?;
        let name_of = |header: &String| {
            HeaderName::from_bytes(header.as_bytes())
                .map_err(|_| refuse(format!("the header {header} cannot be sent")))
        };
        let headers = config.headers.iter().map(|(header, value)| Ok((name_of(header)?, value.clone())));
        let headers = headers.collect::<Result<_, Invalid>>()?;
        let hook = Self {
            client,
            url: config.url.clone(),
            format: config.format,
            secret: config.secret.clone(),
            headers,
            external_url: context.external_url.clone().unwrap_or_default(),
            name,
        };
        hook.call().map_err(|why| Invalid::new(format!("alerters.{}", hook.name), why))?;
        Ok(hook)
    }

    /// What its secrets are now. They were checked when they were read.
    fn call(&self) -> Result<Call, String> {
        let _turn = secret::one_turn();
        let url = http::parse_url(self.url.value().expose()).map_err(|e| format!("its URL {e}"))?;
        let mut headers = HeaderMap::new();
        for (header, value) in &self.headers {
            let Ok(mut value) = HeaderValue::from_str(value.value().expose()) else {
                return Err(format!("the header {header} cannot be sent"));
            };
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        let signing = self.secret.as_ref().map(Secret::value);
        Ok(Call { host: http::mask(&url), url, headers, signing })
    }

    fn body(&self, delivery: &Delivery) -> serde_json::Result<String> {
        match self.format {
            Format::GoTel => serde_json::to_string(&v1(delivery)),
            Format::Alertmanager => serde_json::to_string(&alertmanager::message(
                &delivery.notice,
                &self.name,
                &self.external_url,
            )),
        }
    }

    async fn deliver(&self, delivery: &Delivery) -> Outcome {
        let body = match self.body(delivery) {
            Ok(body) => body,
            Err(e) => return Outcome::refused(format!("the notice cannot be written as JSON: {e}")),
        };
        let Call { host, url, headers, signing } = match self.call() {
            Ok(call) => call,
            Err(why) => return Outcome::broken(why),
        };
        let now_ms = clock::wall_ms();
        let mut request = self
            .client
            .post(url)
            .headers(headers)
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", &delivery.idem_key)
            .header("x-gotel-event-no", delivery.notice.event_no);
        if let Some(secret) = &signing {
            request = request.header("x-gotel-signature", signature(secret, now_ms / 1000, &body));
        }
        match http::ask(request.body(body), &host, now_ms).await {
            Ok(answer) => judge(&host, &answer),
            Err(outcome) => outcome,
        }
    }
}

// What the receiver says besides the status is left out: it may repeat our headers.
fn judge(host: &str, answer: &Answer) -> Outcome {
    if let Some(outcome) = http::judge(host, answer) {
        return outcome;
    }
    let why = format!("{host} answered {}", http::words(answer.status));
    match answer.status.as_u16() {
        401 | 403 | 404 => Outcome::broken(why),
        300..=399 => Outcome::refused(format!("{why}: redirects are not followed, configure the final URL")),
        _ => Outcome::refused(why),
    }
}

impl Alerter for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "webhook"
    }

    fn renewals(&self) -> u64 {
        let headers = self.headers.iter().map(|(_, value)| value);
        std::iter::once(&self.url).chain(&self.secret).chain(headers).map(Secret::renewals).sum()
    }

    fn send<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Outcome> {
        Box::pin(self.deliver(delivery))
    }
}

/// `t=<unix>,v1=<hex of HMAC-SHA-256 over "<unix>.<body>">`.
fn signature(secret: &Value, unix: i64, body: &str) -> String {
    // Infallible: HMAC takes keys of any length (RFC 2104).
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()) else {
        return String::new();
    };
    mac.update(format!("{unix}.").as_bytes());
    mac.update(body.as_bytes());
    format!("t={unix},v1={}", hex::encode(mac.finalize().into_bytes()))
}

fn v1(delivery: &Delivery) -> WebhookV1<'_> {
    let n = &delivery.notice;
    WebhookV1 {
        version: 1,
        id: &delivery.idem_key,
        status: status(n),
        event: n.event,
        reason: n.reason,
        title: title(n),
        message: n.resolved_text().map_or(Cow::Borrowed(&n.message), Cow::Owned),
        incident: &n.incident,
        dedup_key: &n.dedup_key,
        event_no: n.event_no,
        app: &n.app,
        component: &n.component,
        owner: &n.owner,
        notify: &n.notify,
        labels: &n.labels,
        schedule: &n.schedule,
        deadline: rfc3339(n.deadline_ms),
        noticed: rfc3339(n.noticed_ms),
        at: rfc3339(n.at_ms),
        last_ok: n.last_ok_ms.map(rfc3339),
        checkins: n.checkins,
        exit_code: n.exit_code,
        rid: n.rid.as_deref(),
        down_seconds: n.down_ms.map(|ms| ms as f64 / 1000.0),
        output: n.output.as_deref(),
        srv: &n.srv,
        url: n.url.as_deref(),
        remarks: &n.remarks,
        digest: n.digest.as_ref().map(|digest| WebhookDigest {
            count: digest.count,
            alerts: digest
                .lines
                .iter()
                .map(|line| WebhookDigestLine {
                    event: line.event,
                    reason: line.reason,
                    app: &line.app,
                    component: &line.component,
                    owner: &line.owner,
                    deadline: rfc3339(line.deadline_ms),
                    incident: &line.incident,
                })
                .collect(),
        }),
    }
}

fn status(notice: &Notice) -> &'static str {
    match notice.event {
        Event::Test => "test",
        event if render::closes(event) => "resolved",
        _ => "firing",
    }
}

#[cfg(test)]
mod tests;
