//! The alerters of the configuration as the way to tell without the database, and what the loops find handed on
//! to those who need it without the database.

use crate::alert::{Alerter, Context, Delivery, Outcome};
use crate::clock;
use crate::coordinator::Witness;
use crate::peers::direct::{Direct, Standing, Unwritten};
use crate::peers::sight::Sight;
use crate::peers::solo::Solo;
use crate::reservation::Notice;
use crate::reservation::routing::{Routes, Target};
use crate::store::SystemKind;
use futures::future::BoxFuture;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use tokio::sync::watch;

/// A name for the installation before its database was ever reached: the same for all who use this address, and
/// without user and password.
pub(super) fn name_of_database(url: &str) -> String {
    let place = match url::Url::parse(url) {
        Ok(url) => {
            format!("{}:{}{}", url.host_str().unwrap_or_default(), url.port().unwrap_or(3306), url.path())
        }
        Err(_) => String::new(),
    };
    format!("db-{}", hex::encode(&Sha256::digest(place)[..8]))
}

/// The default alerters and their own recipients.
pub(super) struct Alerters {
    alerters: Vec<Arc<dyn Alerter>>,
    targets: Vec<Target>,
    context: Context,
}

impl Alerters {
    pub(super) fn new(alerters: &[Arc<dyn Alerter>], routes: &Routes, context: Context) -> Self {
        Self { alerters: alerters.to_vec(), targets: routes.defaults(&[], None), context }
    }
}

impl Direct for Alerters {
    fn targets(&self) -> Vec<Target> {
        self.targets.clone()
    }

    fn tell<'a>(
        &'a self,
        target: &'a Target,
        idem_key: &'a str,
        notice: &'a Notice,
    ) -> BoxFuture<'a, Result<(), String>> {
        Box::pin(async move {
            let alerter = self.alerters.iter().find(|a| a.name() == target.alerter);
            let Some(alerter) = alerter else { return Err("there is no such alerter".into()) };
            let (recipient, notice) = (target.recipient.clone(), self.context.linked(notice.clone()));
            let delivery = Delivery { idem_key: idem_key.to_owned(), recipient, notice };
            match alerter.send(&delivery).await {
                Outcome::Accepted => Ok(()),
                other => Err(other.why().unwrap_or_default().to_owned()),
            }
        })
    }
}

/// Hands on what the loops find.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) solo: Solo,
    pub(super) sight: watch::Receiver<Sight>,
    pub(super) standing: Standing,
    pub(super) unwritten: Unwritten,
    pub(super) evaluated: watch::Sender<Option<i64>>,
}

impl Witness for Findings {
    fn database(&self, takes_writes: bool) {
        self.solo.saw(takes_writes, clock::boot_ms());
    }

    fn evaluated(&self) {
        self.evaluated.send_replace(Some(clock::boot_ms()));
    }

    // Whoever told of it tells of its end: this replica, or a peer that says so. A replica that was cut off alone
    // speaks of nobody's outage: the database was there, and the mark was moved.
    fn hears_of_outage(&self, target: &Target) -> bool {
        let sight = self.sight.borrow();
        let mut said = sight.peers.iter().filter_map(|peer| peer.said.as_ref());
        self.standing.heard_of_outage(target)
            || said.any(|said| said.told.iter().any(|told| told.is(SystemKind::DbGone, "")))
    }

    fn unwritten(&self, kind: SystemKind, subject: &str, text: &str) {
        self.unwritten.failed(kind, subject, text, clock::boot_ms());
    }

    fn settled(&self, kind: SystemKind, subject: &str) {
        self.unwritten.settled(kind, subject);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_with_one_database_call_their_installation_alike() {
        let name = name_of_database("mysql://eu:one@db.example.org/gotel");
        assert_eq!(name, name_of_database("mysql://us:two@db.example.org:3306/gotel?ssl-mode=REQUIRED"));
        assert_ne!(name, name_of_database("mysql://eu:one@db.example.org/other"));
    }
}
