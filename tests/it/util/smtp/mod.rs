//! An SMTP server that keeps what it is sent, and fails on command.
//!
//! Promises: it speaks RFC 5321 with EHLO, STARTTLS or TLS from the first byte, and AUTH PLAIN and LOGIN; it
//! insists on TLS and on a login where it was started with them, on commands in their order, and on CRLF; a
//! mail is recorded once its final dot has arrived, whatever is answered then.
//! Does not promise: to relay, or to look into what it is sent; a parser of mail does that in the tests.

mod dialogue;
mod tls;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use super::wait::eventually;
use tls::Identity;

/// How the connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// Not at all.
    None,
    /// By STARTTLS, without which no mail is taken.
    StartTls,
    /// From the first byte.
    Implicit,
}

/// What may go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The greeting is 421 and the connection closes.
    Busy,
    /// The connection is accepted and nobody speaks.
    HangAfterAccept,
    /// EHLO gets no answer.
    HangAfterEhlo,
    /// DATA gets no answer.
    HangAfterData,
    /// The final dot gets no answer; the mail is recorded.
    HangAfterFinalDot,
    /// The connection drops after the final dot; the mail is recorded.
    DropAfterFinalDot,
    /// Every login is refused with 535.
    RefuseLogin,
    /// RCPT for this address gets this reply, such as `451 4.3.0 try later`.
    Recipient(String, String),
    /// The final dot gets this reply; the mail is recorded.
    AnswerFinalDot(String),
}

/// A mail whose final dot arrived.
#[derive(Clone, Debug)]
pub struct Mail {
    /// The envelope's sender.
    pub from: String,
    /// The envelope's accepted recipients.
    pub to: Vec<String>,
    /// The message, dots unstuffed, with its CRLFs.
    pub data: Vec<u8>,
    /// Whether it came over TLS.
    pub encrypted: bool,
    /// Who had logged in.
    pub login: Option<String>,
    /// Whether it was answered 250.
    pub accepted: bool,
    /// When its final dot arrived.
    pub at: Instant,
}

/// The server. Dropping it closes its port and its connections.
pub struct SmtpSink {
    addr: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

struct Shared {
    encryption: Encryption,
    identity: Identity,
    /// User and password, where a login is needed.
    login: Mutex<Option<(String, String)>>,
    /// With how many times each may still happen.
    faults: Mutex<Vec<(Fault, usize)>>,
    mails: Mutex<Vec<Mail>>,
    connections: Mutex<usize>,
}

impl SmtpSink {
    /// Listens on a loopback port; `login` is the user and the password it insists on.
    pub async fn start(encryption: Encryption, login: Option<(&str, &str)>) -> Self {
        let shared = Arc::new(Shared {
            encryption,
            identity: Identity::new(),
            login: Mutex::new(login.map(|(user, password)| (user.into(), password.into()))),
            faults: Mutex::default(),
            mails: Mutex::default(),
            connections: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let addr = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(listener, shared.clone()));
        Self { addr, shared, serving }
    }

    /// Where it listens. Its certificate is good for `127.0.0.1` and `localhost`.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The PEM file of the authority that signed its certificate.
    pub fn ca_file(&self) -> &Path {
        self.shared.identity.ca_file()
    }

    /// From now on, this is the login it insists on.
    pub fn insist(&self, user: &str, password: &str) {
        *self.shared.login.lock().unwrap() = Some((user.into(), password.into()));
    }

    /// From now on, this goes wrong every time.
    pub fn fault(&self, fault: Fault) {
        self.fault_times(fault, usize::MAX);
    }

    /// The next `times` times, this goes wrong.
    pub fn fault_times(&self, fault: Fault, times: usize) {
        self.shared.faults.lock().unwrap().push((fault, times));
    }

    /// From now on, nothing goes wrong; who hangs already goes on hanging.
    pub fn heal(&self) {
        self.shared.faults.lock().unwrap().clear();
    }

    /// The mails that arrived so far.
    pub fn mails(&self) -> Vec<Mail> {
        self.shared.mails.lock().unwrap().clone()
    }

    /// How many connections were made so far.
    pub fn connections(&self) -> usize {
        *self.shared.connections.lock().unwrap()
    }

    /// Waits until at least `count` mails have arrived, and returns all.
    #[track_caller]
    pub fn received(&self, count: usize, deadline: Duration) -> impl Future<Output = Vec<Mail>> {
        let what = format!("{count} mails at {}", self.addr);
        eventually(deadline, what, async move || {
            let mails = self.mails();
            if mails.len() >= count { Ok(mails) } else { Err(format!("{} mails", mails.len())) }
        })
    }
}

impl Drop for SmtpSink {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shared {
    fn login(&self) -> Option<(String, String)> {
        self.login.lock().unwrap().clone()
    }

    /// Whether this fault is to happen now; uses one of its times up.
    fn happens(&self, fault: &Fault) -> bool {
        self.takes_place(|known| (known == fault).then_some(())).is_some()
    }

    fn takes_place<T>(&self, matches: impl Fn(&Fault) -> Option<T>) -> Option<T> {
        let mut faults = self.faults.lock().unwrap();
        let found = faults.iter_mut().find_map(|(fault, left)| {
            let found = matches(fault).filter(|_| *left > 0)?;
            *left -= 1;
            Some(found)
        });
        faults.retain(|(_, left)| *left > 0);
        found
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, and its connections with it.
    let mut dialogues = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        *shared.connections.lock().unwrap() += 1;
        dialogues.spawn(dialogue::hold(stream, shared.clone()));
        while dialogues.try_join_next().is_some() {}
    }
}
