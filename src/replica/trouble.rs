//! What is told when an alerter does not deliver: over the others; and without the database if it cannot be written
//! down.

use crate::alert::Reporter;
use crate::clock;
use crate::peers::direct::Unwritten;
use crate::reservation::routing::Routes;
use crate::store::{Life, Store, StoreError, SystemKind, SystemReport};
use futures::future::BoxFuture;

/// Tells of an alerter that does not deliver, over the others.
pub(super) struct Trouble {
    pub(super) store: Store,
    pub(super) routes: Routes,
    pub(super) srv: String,
    pub(super) unwritten: Unwritten,
}

impl Trouble {
    /// Writes it down, or notes that it could not.
    async fn tell(&self, kind: SystemKind, alerter: &str, text: String) -> Result<(), StoreError> {
        let written = match self.store.now_ms().await {
            Ok(now_ms) => {
                self.store.report_system(&self.report(kind, alerter, text.clone(), now_ms)).await.map(|_| ())
            }
            Err(e) => Err(e),
        };
        match &written {
            Ok(()) => self.unwritten.settled(kind, alerter),
            Err(_) => self.unwritten.failed(kind, alerter, &text, clock::boot_ms()),
        }
        written
    }

    fn report(&self, kind: SystemKind, alerter: &str, text: String, now_ms: i64) -> SystemReport {
        SystemReport {
            kind,
            subject: alerter.to_owned(),
            text,
            since_ms: now_ms,
            targets: self.routes.defaults(&[], Some(alerter)),
            srv: self.srv.clone(),
            life: if kind == SystemKind::DeadLetter { Life::Once } else { Life::UntilWithdrawn },
        }
    }
}

impl Reporter for Trouble {
    fn failing<'a>(&'a self, alerter: &'a str, why: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let text = format!(
                "The alerter {alerter} does not deliver: {why}. Its notices are kept and tried again for 24 hours. Until \
                 it works, nobody hears over it: look at its server and its settings, then try `gotel alerter test \
                 {alerter}`."
            );
            self.tell(SystemKind::DeliveryFailing, alerter, text).await
        })
    }

    fn dead_letter<'a>(
        &'a self,
        alerter: &'a str,
        recipient: &'a str,
        title: &'a str,
        why: &'a str,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let to = if recipient.is_empty() { String::new() } else { format!(" to {recipient}") };
            let text = format!(
                "A notice was given up: \"{title}\" did not get through{to} over {alerter}: {why}. Tell them yourself, \
                 and correct the address or the alerter."
            );
            self.tell(SystemKind::DeadLetter, alerter, text).await
        })
    }

    fn works<'a>(&'a self, alerter: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.unwritten.settled(SystemKind::DeliveryFailing, alerter);
            self.store.withdraw_system(SystemKind::DeliveryFailing, alerter, &self.srv).await?;
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use std::sync::Arc;

    #[tokio::test]
    async fn what_cannot_be_written_down_is_noted_until_it_can_or_is_over() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/g.db", folder.path().display());
        let store = Store::open(&url, Arc::new(Metrics::new())).unwrap();
        let unwritten = Unwritten::default();
        let trouble = Trouble {
            store: store.clone(),
            routes: Routes::default(),
            srv: "a".into(),
            unwritten: unwritten.clone(),
        };
        let noted =
            || unwritten.read().iter().map(|f| (f.kind.as_str(), f.subject.clone())).collect::<Vec<_>>();
        // There is no schema yet: nothing can be written.
        assert!(trouble.failing("mail", "no answer").await.is_err());
        assert!(trouble.dead_letter("mail", "ada@example.org", "MISSED a/b", "550").await.is_err());
        assert_eq!(noted(), [("delivery-failing", "mail".into()), ("dead-letter", "mail".into())]);
        assert!(unwritten.read()[1].text.contains("MISSED a/b"));
        // Whether or not the database knows: it works.
        assert!(trouble.works("mail").await.is_err());
        assert_eq!(noted(), [("dead-letter", "mail".into())]);
        store.migrate().await.unwrap();
        trouble.dead_letter("mail", "ada@example.org", "MISSED a/b", "550").await.unwrap();
        assert_eq!(noted(), []);
    }
}
