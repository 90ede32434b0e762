//! Telling people: the alerters, and the dispatcher that moves notices from the outbox to them.
//!
//! Promises:
//! - An alerter says truthfully whether a notice was accepted. "Accepted" is only ever the receiver's own
//!   word (250 after the final dot, 202, 2xx); everything unclear is [`Outcome::Retry`].
//! - Everything rendered is a function of the [`Delivery`]: each try carries the same bytes, the same
//!   `Message-ID`, `dedup_key` and `Idempotency-Key` (only a signature's time stamp differs).
//! - Nothing here waits without a bound, and no secret (password, key, URL of a webhook) is ever part of an
//!   [`Outcome`], a log line or an error.
//!
//! Does not promise that a notice arrives once. A receiver may accept it and the answer may be lost on the
//! way back; then it is sent again, with the same keys, so that the receiver can fold the two.

mod alertmanager;
pub mod breaker;
pub mod config;
pub mod console;
pub mod dispatch;
#[cfg(test)]
mod fixtures;
mod http;
pub mod orphans;
pub mod pagerduty;
mod render;
pub mod smtp;
pub mod webhook;

pub use config::AlerterConfig;
pub use http::{check_url, client};

use crate::reservation::{Event, Invalid, Notice, Reason, message};
use crate::store;
use config::Channel;
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest a single try may take, all included (design 3.4). Shorter than a claim is good for
/// (`store::CLAIM_MS`), so that nobody else sends the same row meanwhile.
pub const SEND_LIMIT: Duration = Duration::from_secs(30);

/// One notice for one recipient: what an alerter is given, equal on every try.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Names this delivery for ever: `Message-ID`, `Idempotency-Key`. Lower-case hex.
    pub idem_key: String,
    /// Address, or "" for an alerter with one fixed target.
    pub recipient: String,
    /// What to tell.
    pub notice: Notice,
}

/// How a try ended. The texts are shown to people and stored: they hold no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver said that it has it.
    Accepted,
    /// Not now: network, time limit, an answer that asks to come back.
    Retry {
        /// What went wrong.
        why: String,
        /// How long the receiver asked us to wait, in milliseconds.
        after_ms: Option<i64>,
    },
    /// This recipient will never take this notice.
    Refused {
        /// What the receiver said.
        why: String,
    },
    /// The alerter itself is set up wrongly (password, key, certificate, address of the service): no
    /// notice can get through until a person repairs it. Tried again nevertheless, and reported at once.
    Broken {
        /// What the receiver said.
        why: String,
    },
}

impl Outcome {
    pub(crate) fn retry(why: impl Into<String>) -> Self {
        Self::Retry { why: why.into(), after_ms: None }
    }

    pub(crate) fn refused(why: impl Into<String>) -> Self {
        Self::Refused { why: why.into() }
    }

    pub(crate) fn broken(why: impl Into<String>) -> Self {
        Self::Broken { why: why.into() }
    }

    /// Short word for metrics and logs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Retry { .. } => "retry",
            Self::Refused { .. } => "refused",
            Self::Broken { .. } => "broken",
        }
    }

    /// What went wrong; None when nothing did.
    pub fn why(&self) -> Option<&str> {
        match self {
            Self::Accepted => None,
            Self::Retry { why, .. } | Self::Refused { why } | Self::Broken { why } => Some(why),
        }
    }
}

/// A way to tell people.
pub trait Alerter: Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &str;

    /// `smtp`, `pagerduty`, `webhook`, `console`.
    fn kind(&self) -> &'static str;

    /// Whether its receiver keeps alerts open and closes them by their keys (`routing::Card::folds`): then an
    /// end must never disappear in a digest.
    fn folds(&self) -> bool {
        false
    }

    /// For an alerter that sends to addresses: those that hear what names none. None: it has one target.
    fn fallback(&self) -> Option<&[String]> {
        None
    }

    /// How often its secrets have changed since the start: a new one may mend what was set up wrongly.
    fn renewals(&self) -> u64 {
        0
    }

    /// Tries once. May be cancelled at any point, and may be called again with the same delivery.
    fn send<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Outcome>;
}

/// Where the dispatcher tells that an alerter does not deliver. Whoever implements it tells people over
/// another alerter. Each call may come again (after a restart, from another replica): telling once is the
/// implementation's matter. An error is told again later.
pub trait Reporter: Send + Sync {
    /// `alerter` has delivered nothing for some minutes, or is set up wrongly.
    fn failing<'a>(&'a self, alerter: &'a str, why: &'a str) -> BoxFuture<'a, store::Result<()>>;

    /// `alerter` gave a notice up: `title` will not reach `recipient` ("" for its one target) that way.
    fn dead_letter<'a>(
        &'a self,
        alerter: &'a str,
        recipient: &'a str,
        title: &'a str,
        why: &'a str,
    ) -> BoxFuture<'a, store::Result<()>>;

    /// `alerter` delivers (again).
    fn works<'a>(&'a self, alerter: &'a str) -> BoxFuture<'a, store::Result<()>>;
}

/// What an alerter may know besides its own configuration.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// GoTel's own address as people reach it (`https://gotel.example.org`), if one is configured.
    pub external_url: Option<String>,
}

impl Context {
    /// The notice, with a link to the page of replicas if it is about GoTel itself and has none.
    pub fn linked(&self, mut notice: Notice) -> Notice {
        if notice.reason == Reason::System && notice.url.is_none() {
            notice.url = self.external_url.as_deref().map(|base| message::page(base, &["nodes"]));
        }
        notice
    }
}

/// Makes the alerter of one configuration entry.
///
/// # Errors
/// When a certificate file or an address that could only be judged now does not serve.
pub fn build(config: &AlerterConfig, context: &Context) -> Result<Box<dyn Alerter>, Invalid> {
    let name = config.name.clone();
    Ok(match &config.channel {
        Channel::Console => Box::new(console::Console::stdout(name)),
        Channel::Smtp(smtp) => Box::new(smtp::Smtp::new(name, smtp)?),
        Channel::PagerDuty(pagerduty) => Box::new(pagerduty::PagerDuty::new(name, pagerduty, context)?),
        Channel::Webhook(webhook) => Box::new(webhook::Webhook::new(name, webhook, context)?),
    })
}

/// The notice of `gotel alerter test NAME`. `id` makes it unlike any other.
pub fn test_notice(alerter: &str, id: &str, at_ms: i64, srv: &str, url: Option<String>) -> Notice {
    Notice {
        version: 1,
        event: Event::Test,
        reason: Reason::System,
        incident: id.to_owned(),
        dedup_key: format!("gotel-test-{id}"),
        event_no: 0,
        app: "gotel".into(),
        component: format!("alerter/{alerter}"),
        owner: String::new(),
        notify: Vec::new(),
        labels: BTreeMap::new(),
        schedule: String::new(),
        deadline_ms: at_ms,
        noticed_ms: at_ms,
        at_ms,
        last_ok_ms: None,
        checkins: 0,
        exit_code: None,
        rid: None,
        down_ms: None,
        message: format!("This is a test of the alerter {alerter}. No job is late."),
        output: None,
        srv: srv.to_owned(),
        url,
        remarks: Vec::new(),
        digest: None,
    }
}

/// Sends `notice` to each of `recipients` (one "" for an alerter with a fixed target) without the outbox:
/// once, within [`SEND_LIMIT`] each. For `gotel alerter test`.
pub async fn send_now(
    alerter: &dyn Alerter,
    recipients: &[String],
    notice: &Notice,
) -> Vec<(String, Outcome)> {
    let mut outcomes = Vec::with_capacity(recipients.len());
    for recipient in recipients {
        let delivery = Delivery {
            idem_key: render::short_id(&[&notice.incident, alerter.name(), recipient]),
            recipient: recipient.clone(),
            notice: notice.clone(),
        };
        let outcome = match tokio::time::timeout(SEND_LIMIT, alerter.send(&delivery)).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::retry(format!("no answer within {} s", SEND_LIMIT.as_secs())),
        };
        outcomes.push((recipient.clone(), outcome));
    }
    outcomes
}
