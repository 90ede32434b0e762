//! Tests of [`crate::util::load`], against a receiver in GoTel's place.

use std::collections::BTreeSet;

use tokio::net::TcpStream;

use super::SOON;
use crate::util::load::{Doors, Load, Manners};
use crate::util::receiver::{Answer, Receiver};
use crate::util::wait::eventually;

#[tokio::test]
async fn the_report_holds_what_was_acknowledged_and_counts_the_rest() {
    let gotel = Receiver::webhook().await;
    gotel.next([Answer::Status(503), Answer::Status(503), Answer::CutMidBody]);
    let keys = [("app".to_owned(), "one".to_owned()), ("app".to_owned(), "two".to_owned())];
    let load = Load::start(&gotel.url("/").parse().unwrap(), &keys, 4, &[("authorization", "Bearer x")]);
    eventually(SOON, "a hundred check-ins", async || load.acknowledged() >= 100).await;
    let report = load.stop().await;

    assert_eq!((report.refused.get(&503), report.unanswered), (Some(&2), 1));
    let requests = gotel.requests();
    assert_eq!(requests.len(), report.acknowledged.len() + 3);
    let mark = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let sent: BTreeSet<_> = requests
        .iter()
        .map(|request| {
            assert_eq!((request.path.as_str(), request.header("authorization")), ("/checkin", "Bearer x"));
            let body = request.json();
            (mark(&body["app"]), mark(&body["component"]), mark(&body["notes"]))
        })
        .collect();
    let acknowledged = report.acknowledged.into_iter().map(|one| (one.app, one.component, one.note));
    let acknowledged: BTreeSet<_> = acknowledged.collect();
    assert_eq!(sent.difference(&acknowledged).count(), 3);
    assert!(acknowledged.is_subset(&sent));
    assert_eq!(sent.len(), requests.len(), "a note was used twice");
    assert_eq!(sent.iter().map(|(_, component, _)| component.as_str()).collect::<BTreeSet<_>>().len(), 2);
}

#[tokio::test]
async fn a_client_goes_to_the_next_door_when_one_does_not_acknowledge_and_to_none_that_is_shut() {
    let (good, bad) = (Receiver::webhook().await, Receiver::webhook().await);
    bad.always(Answer::Status(503));
    let url = |of: &Receiver| of.url("/").parse().unwrap();
    let doors = Doors::new(vec![url(&bad), url(&good)]);
    let keys = [("app".to_owned(), "one".to_owned())];
    let load = Load::among(&doors, &keys, 1, &[], Manners::EAGER);
    eventually(SOON, "check-ins", async || load.acknowledged() >= 20).await;
    assert_eq!(bad.requests().len(), 1, "it stays where it is served");
    doors.set(vec![url(&bad)]);
    bad.always(Answer::Usual);
    eventually(SOON, "check-ins at the other", async || bad.requests().len() >= 20).await;
    let report = load.stop().await;
    assert_eq!((report.refused.get(&503), report.unanswered), (Some(&1), 0));
    let in_order = report.acknowledged.windows(2).all(|pair| pair[0].answered <= pair[1].sent);
    assert!(in_order && report.acknowledged.iter().all(|one| one.sent <= one.answered));
}

#[tokio::test]
async fn a_dead_server_leaves_every_check_in_unanswered() {
    let gone = Receiver::webhook().await;
    let (addr, url) = (gone.addr(), gone.url("/").parse().unwrap());
    drop(gone);
    eventually(SOON, "the port to close", async || TcpStream::connect(addr).await.is_err()).await;
    let load = Load::start(&url, &[("app".to_owned(), "one".to_owned())], 2, &[]);
    eventually(SOON, "a few tries", async || load.unanswered() >= 5).await;
    let report = load.stop().await;
    assert!(report.unanswered >= 5 && report.refused.is_empty(), "{report:?}");
    assert_eq!(report.acknowledged, []);
}
