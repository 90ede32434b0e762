//! The `alerters:` part of the configuration file.
//!
//! Promises: what [`parse`] returns can be built and used: every name, address, URL, header and secret has
//! been looked at. A mistake is refused with the field as the operator spells it (`alerters[1].port`) and a
//! sentence that says what would be right. Unknown keys, and keys that the alerter's type does not have, are
//! refused. A secret written into the file is refused: it belongs into a file of its own or the environment.
//!
//! Does not promise that a server answers at the address: `gotel alerter test NAME` tells.

mod written;

pub use written::Written;

use super::http;
use crate::reservation::Invalid;
use crate::reservation::routing::Card;
use crate::reservation::settings::ALERTER_MAX;
use crate::secret::{self, Lookup, Secret, SecretSource, env_name, expand};
use lettre::message::Mailbox;
use serde::Deserialize;
use std::collections::HashSet;
use std::path::PathBuf;
use url::Url;
use written::{Kind, Region};

/// Where PagerDuty takes events, by service region (PagerDuty, Events API v2).
const PAGERDUTY_US: &str = "https://events.pagerduty.com/v2/enqueue";
const PAGERDUTY_EU: &str = "https://events.eu.pagerduty.com/v2/enqueue";

/// How a mail server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// In the clear, the password too.
    None,
    /// STARTTLS (RFC 3207), and nothing is said before it succeeded.
    StartTls,
    /// TLS from the first byte (RFC 8314).
    Tls,
}

/// How GoTel logs in to a mail server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// RFC 4616.
    Plain,
    /// The older dialogue of Microsoft's servers.
    Login,
}

/// PagerDuty's severities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "PagerDuty's own words; it does not explain them")]
pub enum Severity {
    Critical,
    Error,
    Warning,
    Info,
}

/// What a webhook is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// GoTel's own JSON ([`super::webhook::WebhookV1`]).
    GoTel,
    /// What Prometheus Alertmanager sends to a webhook (version "4").
    Alertmanager,
}

/// One alerter, parsed.
#[derive(Debug, Clone)]
pub struct AlerterConfig {
    /// Its name: what reservations call it.
    pub name: String,
    /// Whether reservations that name no alerter use it.
    pub default: bool,
    /// How it tells.
    pub channel: Channel,
}

/// The settings of one type of alerter.
#[derive(Debug, Clone)]
pub enum Channel {
    /// To the terminal.
    Console,
    /// By mail.
    Smtp(SmtpConfig),
    /// As a PagerDuty event.
    PagerDuty(PagerDutyConfig),
    /// As an HTTP request.
    Webhook(WebhookConfig),
}

/// An alerter that sends mail.
#[derive(Debug, Clone)]
pub struct SmtpConfig {
    /// The server's name, which its certificate must carry.
    pub host: String,
    /// 25 without TLS, 587 with STARTTLS, 465 with TLS, unless written otherwise.
    pub port: u16,
    /// How the connection is protected.
    pub tls: Tls,
    /// Authorities trusted besides the system's (PEM).
    pub ca_file: Option<PathBuf>,
    /// User and password; None for a server that asks for none.
    pub login: Option<(Secret, Secret)>,
    /// How it logs in.
    pub auth: Auth,
    /// Sender.
    pub from: Mailbox,
    /// Whom it writes to when a reservation names no address.
    pub to: Vec<String>,
    /// What it calls itself in EHLO; the host's name unless written.
    pub ehlo: Option<String>,
}

/// An alerter that opens and closes PagerDuty incidents.
#[derive(Debug, Clone)]
pub struct PagerDutyConfig {
    /// Integration key of a service or an orchestration.
    pub routing_key: Secret,
    /// Where events go.
    pub url: Url,
    /// Of the incidents it opens.
    pub severity: Severity,
}

/// An alerter that calls a URL.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// Where to; a secret, as whoever knows it can speak for GoTel.
    pub url: Secret,
    /// What is sent.
    pub format: Format,
    /// Key of the signature.
    pub secret: Option<Secret>,
    /// Sent with each request; the values may be secret.
    pub headers: Vec<(String, Secret)>,
    /// Authorities trusted besides the system's (PEM).
    pub ca_file: Option<PathBuf>,
}

impl AlerterConfig {
    /// What the rules need to know of it.
    pub fn card(&self) -> Card {
        let (per_address, fallback) = match &self.channel {
            Channel::Smtp(smtp) => (true, smtp.to.clone()),
            _ => (false, Vec::new()),
        };
        Card {
            name: self.name.clone(),
            default: self.default,
            per_address,
            folds: matches!(self.channel, Channel::PagerDuty(_)),
            fallback,
        }
    }

    /// All secrets it uses.
    pub fn secrets(&self) -> Vec<&Secret> {
        match &self.channel {
            Channel::Console => Vec::new(),
            Channel::Smtp(smtp) => smtp.login.iter().flat_map(|(user, password)| [user, password]).collect(),
            Channel::PagerDuty(pagerduty) => vec![&pagerduty.routing_key],
            Channel::Webhook(hook) => {
                let headers = hook.headers.iter().map(|(_, value)| value);
                std::iter::once(&hook.url).chain(&hook.secret).chain(headers).collect()
            }
        }
    }

    /// Whom a test is sent to: its own addresses, or its one target.
    pub fn test_recipients(&self) -> Vec<String> {
        match &self.channel {
            Channel::Smtp(smtp) => smtp.to.clone(),
            _ => vec![String::new()],
        }
    }
}

/// The alerters, or the terminal where none is configured: a first late job is seen without any set-up.
pub fn or_console(alerters: Vec<AlerterConfig>) -> Vec<AlerterConfig> {
    if alerters.is_empty() {
        vec![AlerterConfig { name: "console".into(), default: true, channel: Channel::Console }]
    } else {
        alerters
    }
}

/// Parses `alerters:`, reading every secret from where it is kept.
///
/// # Errors
/// The first mistake, with the field it stands in.
pub fn parse(entries: Vec<Written>, env: Lookup<'_>) -> Result<Vec<AlerterConfig>, Invalid> {
    let mut names = HashSet::new();
    let mut alerters = Vec::with_capacity(entries.len());
    for (n, entry) in entries.into_iter().enumerate() {
        let reader = Reader { place: format!("alerters[{n}]"), env };
        let alerter = reader.alerter(entry)?;
        if !names.insert(alerter.name.clone()) {
            let message =
                format!("the name {:?} is taken by an alerter above: give each its own", alerter.name);
            return Err(reader.invalid("name", message));
        }
        alerters.push(alerter);
    }
    Ok(alerters)
}

/// Reads one entry.
struct Reader<'a> {
    place: String,
    env: Lookup<'a>,
}

impl Reader<'_> {
    fn field(&self, field: &str) -> String {
        format!("{}.{field}", self.place)
    }

    fn invalid(&self, field: &str, message: impl Into<String>) -> Invalid {
        Invalid::new(self.field(field), message)
    }

    fn required<T>(&self, field: &str, value: Option<T>, example: &str) -> Result<T, Invalid> {
        value.ok_or_else(|| self.invalid(field, format!("is missing: write {field}: {example}")))
    }

    fn alerter(&self, w: Written) -> Result<AlerterConfig, Invalid> {
        self.name(&w.name)?;
        let kind = self.required("type", w.kind, "smtp (or pagerduty, webhook, console)")?;
        let allowed: (&str, &[&str]) = match kind {
            Kind::Console => ("console", &[]),
            Kind::Smtp => (
                "smtp",
                &[
                    "host",
                    "port",
                    "tls",
                    "caFile",
                    "username",
                    "usernameFile",
                    "password",
                    "passwordFile",
                    "auth",
                    "from",
                    "to",
                    "ehlo",
                ],
            ),
            Kind::PagerDuty => ("pagerduty", &["routingKey", "routingKeyFile", "region", "url", "severity"]),
            Kind::Webhook => {
                let fields: &[&str] =
                    &["url", "urlFile", "format", "secret", "secretFile", "headers", "headerFiles", "caFile"];
                ("webhook", fields)
            }
        };
        if let Some(stray) = w.written().into_iter().find(|field| !allowed.1.contains(field)) {
            let message = match allowed.1 {
                [] => format!("is not known to the type {}, which needs only a name: remove it", allowed.0),
                fields => format!("is not known to the type {}, which has {}", allowed.0, fields.join(", ")),
            };
            return Err(self.invalid(stray, message));
        }
        let (name, default) = (w.name.clone(), w.default.unwrap_or(true));
        let channel = match kind {
            Kind::Console => Channel::Console,
            Kind::Smtp => Channel::Smtp(self.smtp(w)?),
            Kind::PagerDuty => Channel::PagerDuty(self.pagerduty(w)?),
            Kind::Webhook => Channel::Webhook(self.webhook(w)?),
        };
        Ok(AlerterConfig { name, default, channel })
    }

    /// `^[a-z0-9][a-z0-9-]{0,62}$`: fits a column, a label of a metric and a shell.
    fn name(&self, name: &str) -> Result<(), Invalid> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if name.is_empty() {
            return Err(self.invalid("name", "is missing: write name: ops-mail"));
        }
        if name.len() > ALERTER_MAX || !name.starts_with(plain) || !name.chars().all(|c| plain(c) || c == '-')
        {
            let message = format!(
                "{name:?} is not a name for an alerter: use a-z, 0-9 and -, beginning with a letter or digit, at most {ALERTER_MAX} characters"
            );
            return Err(self.invalid("name", message));
        }
        Ok(())
    }

    fn smtp(&self, w: Written) -> Result<SmtpConfig, Invalid> {
        let host = self.required("host", w.host, "smtp.example.org")?;
        if !is_host(&host) {
            let message =
                format!("{host:?} is not a host name: write only the name, the port goes into port:");
            return Err(self.invalid("host", message));
        }
        let tls = w.tls.unwrap_or(Tls::StartTls);
        let port = w.port.unwrap_or(match tls {
            Tls::None => 25,
            Tls::StartTls => 587,
            Tls::Tls => 465,
        });
        if port == 0 {
            return Err(self.invalid("port", "0 is not a port: write a number from 1 to 65535"));
        }
        if tls == Tls::None && w.ca_file.is_some() {
            return Err(
                self.invalid("caFile", "is of no use with tls: none: write tls: starttls, or remove it")
            );
        }
        if let Some(path) = &w.ca_file {
            http::read_pem(path).map_err(|e| self.invalid("caFile", e))?;
        }
        let password =
            self.secret("password", w.password, "passwordFile", w.password_file, "SMTP_PASSWORD")?;
        let username = match (w.username, w.username_file) {
            (Some(_), Some(_)) => {
                return Err(self.invalid("username", "stands beside usernameFile: keep one of them"));
            }
            (Some(user), None) => Some(Secret::written(user)),
            (None, Some(path)) => Some(self.file("usernameFile", path, secret::any)?),
            (None, None) => None,
        };
        let login = match (username, password) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(self.invalid(
                    "passwordFile",
                    "is missing, as there is a username: write passwordFile: PATH or password: ${SMTP_PASSWORD}",
                ));
            }
            (None, Some(_)) => {
                return Err(
                    self.invalid("username", "is missing, as there is a password: write username: gotel")
                );
            }
        };
        if login.is_none() && w.auth.is_some() {
            return Err(
                self.invalid("auth", "is of no use without username and password: write both, or remove it")
            );
        }
        let from = self.required("from", w.from, "GoTel <gotel@example.org>")?;
        let from = mailbox(&from).ok_or_else(|| {
            self.invalid("from", format!("{from:?} is not a mail address: write GoTel <gotel@example.org>"))
        })?;
        let to = self.required("to", w.to, "[ops@example.org]")?;
        if to.is_empty() {
            return Err(self.invalid(
                "to",
                "is empty: write at least one address, for reservations that name none (to: [ops@example.org])",
            ));
        }
        let to = to.iter().enumerate().map(|(n, text)| match mailbox(text) {
            Some(mailbox) => Ok(mailbox.email.to_string()),
            None => Err(self.invalid(
                &format!("to[{n}]"),
                format!("{text:?} is not a mail address: write ops@example.org"),
            )),
        });
        if let Some(ehlo) = w.ehlo.as_ref().filter(|name| !is_host(name)) {
            return Err(self.invalid("ehlo", format!("{ehlo:?} is not a host name: write gotel.example.org")));
        }
        Ok(SmtpConfig {
            host,
            port,
            tls,
            ca_file: w.ca_file,
            login,
            auth: w.auth.unwrap_or(Auth::Plain),
            from,
            to: to.collect::<Result<_, _>>()?,
            ehlo: w.ehlo,
        })
    }

    fn pagerduty(&self, w: Written) -> Result<PagerDutyConfig, Invalid> {
        let key = self.secret("routingKey", w.routing_key, "routingKeyFile", w.routing_key_file, "PD_KEY")?;
        let Some(routing_key) = key else {
            return Err(self.invalid(
                "routingKeyFile",
                "is missing: write routingKeyFile: PATH or routingKey: ${PD_KEY} (the integration key of the service)",
            ));
        };
        let url = match (w.region, w.url) {
            (Some(_), Some(_)) => {
                return Err(
                    self.invalid("url", "cannot stand beside region, which says where to: keep one of them")
                );
            }
            (Some(Region::Eu), None) => PAGERDUTY_EU.to_owned(),
            (_, None) => PAGERDUTY_US.to_owned(),
            (None, Some(url)) => url,
        };
        let url = http::parse_url(&url).map_err(|e| self.invalid("url", e))?;
        Ok(PagerDutyConfig { routing_key, url, severity: w.severity.unwrap_or(Severity::Error) })
    }

    fn webhook(&self, w: Written) -> Result<WebhookConfig, Invalid> {
        let url = match (w.url, w.url_file) {
            (Some(_), Some(_)) => return Err(self.invalid("url", "stands beside urlFile: keep one of them")),
            (Some(text), None) => {
                let place = self.field("url");
                match env_name(&text) {
                    Some(name) => {
                        Secret::read(&place, SecretSource::Env(name.into()), http::check_url, self.env)?
                    }
                    None => {
                        http::check_url(&text).map_err(|e| self.invalid("url", e))?;
                        Secret::written(text)
                    }
                }
            }
            (None, Some(path)) => self.file("urlFile", path, http::check_url)?,
            (None, None) => {
                let message =
                    "is missing: write urlFile: PATH, url: ${HOOK_URL} or url: https://example.org/hook";
                return Err(self.invalid("url", message));
            }
        };
        if let Some(path) = &w.ca_file {
            http::read_pem(path).map_err(|e| self.invalid("caFile", e))?;
        }
        let secret = self.secret("secret", w.secret, "secretFile", w.secret_file, "HOOK_SECRET")?;
        let written = w.headers.unwrap_or_default();
        let mut headers: Vec<(String, Secret)> =
            written.iter().map(|(name, value)| self.header(name, value)).collect::<Result<_, _>>()?;
        for (name, path) in w.header_files.unwrap_or_default() {
            let header = self.header_name("headerFiles", &name)?;
            if headers.iter().any(|(other, _)| *other == header) {
                let message = "is given twice, here or under headers: keep one of them";
                return Err(self.invalid(&format!("headerFiles.{name}"), message));
            }
            let value = self.file(&format!("headerFiles.{name}"), path, http::check_header)?;
            headers.push((header, value));
        }
        Ok(WebhookConfig {
            url,
            format: w.format.unwrap_or(Format::GoTel),
            secret,
            headers,
            ca_file: w.ca_file,
        })
    }

    /// The name of a header under the key `group`, in lower case.
    fn header_name(&self, group: &str, name: &str) -> Result<String, Invalid> {
        let Ok(parsed) = reqwest::header::HeaderName::from_bytes(name.as_bytes()) else {
            return Err(self.invalid(group, format!("{name:?} is not the name of an HTTP header")));
        };
        if http::is_own_header(parsed.as_str()) {
            return Err(self.invalid(&format!("{group}.{name}"), "is set by GoTel itself: remove it"));
        }
        Ok(parsed.as_str().to_owned())
    }

    fn header(&self, name: &str, value: &str) -> Result<(String, Secret), Invalid> {
        let place = format!("headers.{name}");
        let name = self.header_name("headers", name)?;
        let looks_secret =
            ["auth", "cookie", "token", "secret", "key"].iter().any(|part| name.contains(part));
        if looks_secret && !value.contains("${") {
            return Err(self.invalid(
                &place,
                "looks like a secret, and secrets do not stand in this file: write \"Bearer ${HOOK_TOKEN}\" and set the environment variable, or name a file under headerFiles",
            ));
        }
        let value = expand(&self.field(&place), value, self.env)?;
        http::check_header(&value).map_err(|e| self.invalid(&place, e))?;
        Ok((name, Secret::written(value)))
    }

    /// A secret given as `field: ${ENV}` or as `file_field: PATH`; None when neither is written.
    fn secret(
        &self,
        field: &str,
        text: Option<String>,
        file_field: &str,
        path: Option<PathBuf>,
        example: &str,
    ) -> Result<Option<Secret>, Invalid> {
        let (place, source) = match (text, path) {
            (Some(_), Some(_)) => {
                return Err(self.invalid(field, format!("stands beside {file_field}: keep one of them")));
            }
            (Some(text), None) => match env_name(&text) {
                Some(name) => (field, SecretSource::Env(name.to_owned())),
                None => {
                    return Err(self.invalid(
                        field,
                        format!(
                            "a secret does not stand in this file: write {file_field}: PATH, or {field}: ${{{example}}} and set that environment variable"
                        ),
                    ));
                }
            },
            (None, Some(path)) => (file_field, SecretSource::File(path)),
            (None, None) => return Ok(None),
        };
        Secret::read(&self.field(place), source, secret::any, self.env).map(Some)
    }

    fn file(&self, field: &str, path: PathBuf, check: secret::Check) -> Result<Secret, Invalid> {
        Secret::read(&self.field(field), SecretSource::File(path), check, self.env)
    }
}

/// A host name or an IP address; nothing that could carry a port, a path or a line break.
fn is_host(text: &str) -> bool {
    url::Host::parse(text).is_ok() || text.parse::<std::net::Ipv6Addr>().is_ok()
}

/// A mail address, with or without a name before it, on one line.
fn mailbox(text: &str) -> Option<Mailbox> {
    if text.chars().any(char::is_control) {
        return None;
    }
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests;
