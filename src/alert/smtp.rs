//! Mail, one message to one recipient in one SMTP transaction (RFC 5321).
//!
//! Promises:
//! - Every try of a delivery sends the same bytes under the same `Message-ID`. A server whose answer to the
//!   final dot was lost may have taken the mail already (RFC 1047); receivers that know the Message-ID show
//!   it once.
//! - All mails of an incident refer to one id (`References`), so that a mail program shows them as a thread.
//! - With `tls: starttls` or `tls: tls` not a byte of mail or password leaves in the clear.
//! - No text of a reservation becomes a header: addresses are parsed ones, the subject is one encoded line.
//! - Connecting takes at most 10 s, everything at most 29 s. Connections are not kept: one that the server
//!   closed while idle would cost a mail its first try.
//!
//! A 4yz answer and a network error mean later. A 5yz answer to the recipient or the text means never, for
//! this recipient only. A 5yz answer before that (greeting, login, sender), a server without the TLS or login
//! that is configured, and a bad certificate mean that the alerter is set up wrongly.

use super::config::{Auth, SmtpConfig, Tls};
use super::http;
use super::render::{self, clip, digest_lines, facts, lines, link, one_line, short_id, title};
use super::{Alerter, Delivery, Outcome};
use crate::reservation::{Event, Invalid, Notice};
use crate::secret::{self, Secret};
use askama::Template;
use futures::future::BoxFuture;
use lettre::message::header::{HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};
use lettre::{Address, transport::smtp};
use std::time::{Duration, UNIX_EPOCH};

/// Name look-up, TCP, TLS, greeting and login together.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Everything. A little less than [`super::SEND_LIMIT`], so that the stage is told and not just "too slow".
const TOTAL_LIMIT: Duration = Duration::from_secs(29);
/// The mail is accepted by then; how the server takes leave changes nothing.
const QUIT_LIMIT: Duration = Duration::from_secs(1);

/// The alerter of type `smtp`.
pub struct Smtp {
    name: String,
    host: String,
    port: u16,
    tls: Tls,
    parameters: Option<TlsParameters>,
    login: Option<(Secret, Secret)>,
    mechanism: Mechanism,
    from: Mailbox,
    hello: ClientId,
    fallback: Vec<String>,
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smtp").field("name", &self.name).field("host", &self.host).finish_non_exhaustive()
    }
}

/// How far a transaction came: what an answer means depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connect,
    StartTls,
    Login,
    Sender,
    Recipient,
    Text,
}

impl Smtp {
    /// Sets it up; nothing is connected to yet.
    ///
    /// # Errors
    /// When the certificate file cannot be used.
    pub fn new(name: String, config: &SmtpConfig) -> Result<Self, Invalid> {
        let refuse = |e: String| Invalid::new(format!("alerters.{name}.caFile"), e);
        let parameters = match config.tls {
            Tls::None => None,
            Tls::StartTls | Tls::Tls => {
                let mut builder = TlsParameters::builder(config.host.clone());
                if let Some(path) = &config.ca_file {
                    let pem = http::read_pem(path).map_err(&refuse)?;
                    let root = Certificate::from_pem(&pem).map_err(|e| refuse(e.to_string()))?;
                    builder = builder.add_root_certificate(root);
                }
                Some(builder.build().map_err(|e| refuse(format!("TLS cannot be set up: {e}")))?)
            }
        };
        if config.tls == Tls::None && config.login.is_some() {
            tracing::warn!(alerter = %name, host = %config.host, "the password for mail is sent in the clear (tls: none)");
        }
        Ok(Self {
            host: config.host.clone(),
            port: config.port,
            tls: config.tls,
            parameters,
            login: config.login.clone(),
            mechanism: match config.auth {
                Auth::Plain => Mechanism::Plain,
                Auth::Login => Mechanism::Login,
            },
            from: config.from.clone(),
            fallback: config.to.clone(),
            hello: config.ehlo.clone().map_or_else(ClientId::default, ClientId::Domain),
            name,
        })
    }

    async fn deliver(&self, delivery: &Delivery) -> Result<(), Outcome> {
        let to: Address = delivery
            .recipient
            .parse()
            .map_err(|_| Outcome::refused(format!("{} is no mail address", one_line(&delivery.recipient))))?;
        let text = self
            .message(delivery, &to)
            .map_err(|e| Outcome::refused(format!("the mail cannot be written: {e}")))?
            .formatted();
        let mut connection = match tokio::time::timeout(CONNECT_LIMIT, self.connect()).await {
            Ok(connected) => connected?,
            Err(_) => {
                let limit = CONNECT_LIMIT.as_secs();
                return Err(Outcome::retry(format!("{}: no connection within {limit} s", self.host)));
            }
        };
        self.transact(&mut connection, to, &text).await?;
        // The mail is the server's now; nothing that happens to the connection changes that.
        let _ = tokio::time::timeout(QUIT_LIMIT, connection.quit()).await;
        Ok(())
    }

    async fn connect(&self) -> Result<AsyncSmtpConnection, Outcome> {
        let implicit = self.parameters.clone().filter(|_| self.tls == Tls::Tls);
        let server = (self.host.as_str(), self.port);
        let mut connection =
            AsyncSmtpConnection::connect_tokio1(server, Some(CONNECT_LIMIT), &self.hello, implicit, None)
                .await
                .map_err(|e| self.judge(Stage::Connect, &e))?;
        if let Some(parameters) = self.parameters.clone().filter(|_| self.tls == Tls::StartTls) {
            connection
                .starttls(parameters, &self.hello)
                .await
                .map_err(|e| self.judge(Stage::StartTls, &e))?;
        }
        if let Some((user, password)) = &self.login {
            let credentials = credentials(user, password);
            connection
                .auth(&[self.mechanism], &credentials)
                .await
                .map_err(|e| self.judge(Stage::Login, &e))?;
        }
        Ok(connection)
    }

    async fn transact(
        &self,
        connection: &mut AsyncSmtpConnection,
        to: Address,
        text: &[u8],
    ) -> Result<(), Outcome> {
        let from = &self.from.email;
        let ascii = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
        let mut parameters = Vec::new();
        // RFC 6531: other addresses only to a server that says it takes them.
        if !ascii(from) || !ascii(&to) {
            if !connection.server_info().supports_feature(Extension::SmtpUtfEight) {
                let why = format!("{} takes no addresses beyond ASCII (SMTPUTF8)", self.host);
                return Err(if ascii(from) { Outcome::refused(why) } else { Outcome::broken(why) });
            }
            parameters.push(MailParameter::SmtpUtfEight);
        }
        let mail = Mail::new(Some(from.clone()), parameters);
        connection.command(mail).await.map_err(|e| self.judge(Stage::Sender, &e))?;
        connection.command(Rcpt::new(to, Vec::new())).await.map_err(|e| self.judge(Stage::Recipient, &e))?;
        connection.command(Data).await.map_err(|e| self.judge(Stage::Text, &e))?;
        connection.message(text).await.map_err(|e| self.judge(Stage::Text, &e))?;
        Ok(())
    }

    fn judge(&self, stage: Stage, error: &smtp::Error) -> Outcome {
        let host = &self.host;
        if let Some(why) = http::bad_certificate(error) {
            return Outcome::broken(format!("the certificate of {host} is not accepted: {why}"));
        }
        let during = match stage {
            Stage::Connect => "connecting",
            Stage::StartTls => "STARTTLS",
            Stage::Login => "the login",
            Stage::Sender => "the sender",
            Stage::Recipient => "the recipient",
            Stage::Text => "the text",
        };
        let why = format!("{host} at {during}: {}", clip(&one_line(&error.to_string()), 300));
        if error.is_permanent() {
            // 530, 534, 535, 538 (RFC 4954): it is the login that is wrong, whenever it is said.
            let login = error.status().is_some_and(|code| matches!(u16::from(code), 530 | 534 | 535 | 538));
            return match stage {
                Stage::Recipient | Stage::Text if !login => Outcome::refused(why),
                _ => Outcome::broken(why),
            };
        }
        // The server has no STARTTLS, or no login of the configured kind.
        if error.is_client() { Outcome::broken(why) } else { Outcome::retry(why) }
    }

    /// The host part of message ids: the sender's domain, the same on every replica and in every release.
    fn id(&self, local: &str) -> String {
        format!("<{local}@{}>", self.from.email.domain())
    }

    fn message(&self, delivery: &Delivery, to: &Address) -> Result<Message, lettre::error::Error> {
        let notice = &delivery.notice;
        let thread = self.id(&short_id(&[&notice.dedup_key]));
        let date = UNIX_EPOCH + Duration::from_millis(u64::try_from(notice.at_ms).unwrap_or(0));
        let mut builder = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to.clone()))
            // An encoded word (RFC 2047) in a name must not be decoded by the reader.
            .subject(title(notice).replace("=?", "= ?"))
            .date(date)
            .message_id(Some(self.id(&one_line(&delivery.idem_key))))
            .references(thread.clone())
            .raw_header(raw("Auto-Submitted", "auto-generated"))
            .raw_header(raw("X-Auto-Response-Suppress", "All"));
        if notice.event_no > 0 {
            builder = builder.in_reply_to(thread);
        }
        let (plain, html) = bodies(notice);
        let alternative = MultiPart::alternative()
            // Drawn from the delivery, so that each try is the same text. Not a possible line of base64 or
            // quoted-printable (it holds "=_", RFC 2045 6.7).
            .boundary(format!("=_{}", short_id(&[&delivery.idem_key])))
            .singlepart(SinglePart::plain(plain))
            .singlepart(SinglePart::html(html));
        builder.multipart(alternative)
    }
}

impl Alerter for Smtp {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "smtp"
    }

    fn fallback(&self) -> Option<&[String]> {
        Some(&self.fallback)
    }

    fn renewals(&self) -> u64 {
        self.login.iter().map(|(user, password)| user.renewals() + password.renewals()).sum()
    }

    fn send<'a>(&'a self, delivery: &'a Delivery) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            match tokio::time::timeout(TOTAL_LIMIT, self.deliver(delivery)).await {
                Ok(Ok(())) => Outcome::Accepted,
                Ok(Err(outcome)) => outcome,
                Err(_) => {
                    Outcome::retry(format!("{} did not answer within {} s", self.host, TOTAL_LIMIT.as_secs()))
                }
            }
        })
    }
}

/// User and password of one moment.
fn credentials(user: &Secret, password: &Secret) -> Credentials {
    let _turn = secret::one_turn();
    Credentials::new(user.value().expose().to_owned(), password.value().expose().to_owned())
}

fn raw(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

/// What both forms of the mail show.
macro_rules! mail_template {
    ($name:ident, $path:literal, $escape:literal $(, $field:ident: $type:ty)*) => {
        #[derive(Template)]
        #[template(path = $path, escape = $escape)]
        struct $name<'a> {
            title: &'a str,
            body: &'a str,
            facts: &'a [(&'static str, String)],
            digest: &'a [String],
            remarks: &'a [String],
            output: Option<&'a str>,
            link: Option<&'a str>,
            $($field: $type,)*
        }
    };
}

mail_template!(Plain, "alert/templates/mail.txt", "none");
mail_template!(Html, "alert/templates/mail.html", "html", colour: &'static str);

/// The mail as plain text and as HTML.
fn bodies(notice: &Notice) -> (String, String) {
    let title = title(notice);
    let body = render::body(notice);
    let (facts, digest) = (facts(notice), digest_lines(notice));
    let remarks: Vec<_> = notice.remarks.iter().map(|remark| one_line(remark)).collect();
    let output = notice.output.as_deref().map(lines);
    let (output, link) = (output.as_deref(), link(notice));
    let plain =
        Plain { title: &title, body: &body, facts: &facts, digest: &digest, remarks: &remarks, output, link };
    let html = Html {
        title: &title,
        body: &body,
        facts: &facts,
        digest: &digest,
        remarks: &remarks,
        output,
        link,
        colour: colour(notice.event),
    };
    // Rendering fails only where writing to a String does; a mail without text is still a mail.
    (plain.render().unwrap_or_else(|_| title.clone()), html.render().unwrap_or_default())
}

/// Read well on white and on black.
fn colour(event: Event) -> &'static str {
    match event {
        Event::Test => "#5b7fbf",
        event if render::closes(event) => "#2e8b57",
        _ => "#d1453b",
    }
}

#[cfg(test)]
mod tests;
