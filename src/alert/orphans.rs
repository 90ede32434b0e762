//! Notices for an alerter that no replica has (renamed, removed): told by the default alerters instead, saying so.
//! A miss is never silent because of a name. An alerter that some live replica has is that replica's matter, also
//! while its receiver fails and nothing of it is claimed.
//!
//! One loop of one replica calls [`step`] every now and then; that two do is harmless, as a row is taken
//! over once.

use crate::reservation::Notice;
use crate::reservation::routing::Routes;
use crate::store::{NewDelivery, Result, Session};

/// Hands over what has waited for a minute (`store::ORPHAN_AFTER_MS`). `elsewhere`: the alerters that the other
/// live replicas have; empty for a replica that is alone. Returns the names of the missing alerters, for a log line.
///
/// # Errors
/// The store's; the next step tries again.
pub async fn step(session: &mut Session, routes: &Routes, elsewhere: &[String]) -> Result<Vec<String>> {
    let mut known = routes.names();
    known.extend_from_slice(elsewhere);
    session.adopt_orphans(&known, |missing, notice| replacements(routes, missing, notice)).await
}

fn replacements(routes: &Routes, missing: &str, notice: &Notice) -> Vec<NewDelivery> {
    let mut notice = notice.clone();
    notice
        .remarks
        .push(format!("Sent by the default alerters because no replica has the alerter {missing}."));
    let addresses: Vec<_> = notice.notify.iter().filter(|entry| entry.contains('@')).cloned().collect();
    routes
        .defaults(&addresses, None)
        .into_iter()
        .map(|target| NewDelivery {
            alerter: target.alerter,
            recipient: target.recipient,
            notice: notice.clone(),
            not_before_ms: 0,
            group: None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reservation::routing::Card;

    #[test]
    fn a_notice_without_an_alerter_goes_to_the_defaults_and_says_why() {
        let card = |name: &str, default, per_address| Card {
            name: name.into(),
            default,
            per_address,
            folds: false,
            fallback: vec!["ops@example.org".into()],
        };
        let routes = Routes::new(vec![
            card("mail", true, true),
            card("hook", true, false),
            card("other", false, false),
        ]);
        let mut notice = crate::alert::test_notice("x", "id", 0, "srv", None);
        notice.notify = vec!["ada".into(), "ada@example.org".into()];
        let rows = replacements(&routes, "gone", &notice);
        let targets: Vec<_> = rows.iter().map(|r| (r.alerter.as_str(), r.recipient.as_str())).collect();
        assert_eq!(targets, [("mail", "ada@example.org"), ("hook", "")]);
        assert_eq!(
            rows[0].notice.remarks,
            ["Sent by the default alerters because no replica has the alerter gone."]
        );
    }
}
