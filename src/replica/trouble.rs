//! What is told when an alerter does not deliver: over the others.

use crate::alert::Reporter;
use crate::reservation::routing::Routes;
use crate::store::{Life, Store, StoreError, SystemKind, SystemReport};
use futures::future::BoxFuture;

/// Tells of an alerter that does not deliver, over the others.
pub(super) struct Trouble {
    pub(super) store: Store,
    pub(super) routes: Routes,
    pub(super) srv: String,
}

impl Trouble {
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
            let now_ms = self.store.now_ms().await?;
            self.store
                .report_system(&self.report(SystemKind::DeliveryFailing, alerter, text, now_ms))
                .await?;
            Ok(())
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
            let now_ms = self.store.now_ms().await?;
            self.store.report_system(&self.report(SystemKind::DeadLetter, alerter, text, now_ms)).await?;
            Ok(())
        })
    }

    fn works<'a>(&'a self, alerter: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.store.withdraw_system(SystemKind::DeliveryFailing, alerter, &self.srv).await?;
            Ok(())
        })
    }
}
