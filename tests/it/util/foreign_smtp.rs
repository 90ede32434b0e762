//! A mail server that is not ours, and the folder where it keeps its mail.
//!
//! Promises: what it accepted can be read back as it was received, after header lines of its own.
//! Does not promise: faults on command, TLS or logins; [`super::smtp::SmtpSink`] has those.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::needs;
use super::wait::eventually;

/// The server at `GOTEL_TEST_SMTP`, which every test shares: a mail is found by a mark in it.
pub struct ForeignSmtp {
    addr: SocketAddr,
    new_mail: PathBuf,
}

impl ForeignSmtp {
    /// Finds it; `None` where the tests with it are left out.
    pub fn find() -> Option<Self> {
        let addr = needs::address_of("a foreign mail server", "GOTEL_TEST_SMTP")?;
        let maildir = needs::address_of("a foreign mail server's mail", "GOTEL_TEST_SMTP_MAILDIR")?;
        let addr = addr.parse().expect("GOTEL_TEST_SMTP is host:port");
        Some(Self { addr, new_mail: PathBuf::from(maildir).join("new") })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits for a mail that contains `mark`, and returns it whole.
    #[track_caller]
    pub fn received(&self, mark: &str, deadline: Duration) -> impl Future<Output = Vec<u8>> {
        eventually(deadline, format!("a mail with the mark {mark}"), async move || {
            let files = std::fs::read_dir(&self.new_mail).ok()?;
            let mut mails = files.filter_map(|file| std::fs::read(file.ok()?.path()).ok());
            mails.find(|mail| mail.windows(mark.len()).any(|window| window == mark.as_bytes()))
        })
    }
}
