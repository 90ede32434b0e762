//! Two replicas with different alerters on one database: each delivers over its own, and what nobody has goes to
//! the default alerters.

use serde_json::json;

use super::SOON;
use super::world::World;
use crate::util::db::{Backend, TestDb};
use crate::util::process::Gotel;
use crate::util::receiver::Receiver;
use crate::util::smtp::{Encryption, SmtpSink};
use crate::util::wait::eventually;

fn webhook(name: &str, hook: &Receiver) -> String {
    format!("  - {{name: {name}, type: webhook, url: \"{}\"}}\n", hook.url("/hook"))
}

async fn any_replica_delivers(backend: Backend) {
    let Some(db) = TestDb::new(backend).await else { return };
    let (chat, pager) = (Receiver::webhook().await, Receiver::webhook().await);
    let mail = SmtpSink::start(Encryption::None, None).await;
    let database = db.url().to_owned();
    // This one leads: it has neither the pager nor the mail.
    let yaml = format!("replica: one\nalerters:\n{}", webhook("chat", &chat));
    let world = World::start(db, &yaml).await;
    world.becomes("SELECT COUNT(*) FROM lease WHERE holder = 'one'", 1).await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("two.yaml");
    let post = format!(
        "  - {{name: post, type: smtp, host: 127.0.0.1, port: {}, tls: none, from: gotel@example.org, to: [ops@example.org], default: false}}\n",
        mail.addr().port()
    );
    let with_pager =
        format!("replica: two\nalerters:\n{}{post}{}", webhook("pager", &pager), webhook("old", &pager));
    std::fs::write(&config, with_pager).unwrap();
    let spawn = || {
        let env =
            [("GOTEL_DATABASE_URL", database.as_str()), ("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")];
        Gotel::spawn(&["serve", "--listen", "127.0.0.1:0", "--config", config.to_str().unwrap()], &env)
    };
    let mut two = spawn();
    let two_at = two.url().await;
    let reserve_at_two = async |app: &str, alerter: &str| {
        let wish = json!({
            "app": app, "component": "job", "frequency": 1, "time_units": "hours",
            "owner": "ops", "notify": ["ada@example.org", "bob@example.org"], "alerters": [alerter],
        });
        let answer = world.http.post(two_at.join("/reservation").unwrap()).json(&wish).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
    };
    reserve_at_two("paged", "pager").await;
    reserve_at_two("mailed", "post").await;
    reserve_at_two("moved", "old").await;
    world.reserve("chatted", "job", json!({ "alerters": ["chat"] })).await;
    for app in ["paged", "mailed", "chatted"] {
        world.signal(app, "job", "/fail").await;
    }
    let apps = |hook: &Receiver| hook.requests().iter().map(|r| r.json()["app"].clone()).collect::<Vec<_>>();
    pager.received(1, SOON).await;
    chat.received(1, SOON).await;
    mail.received(2, SOON).await;
    let mut to: Vec<_> = mail.mails().iter().flat_map(|m| m.to.clone()).collect();
    to.sort();
    assert_eq!(
        to,
        ["ada@example.org", "bob@example.org"],
        "the replica without mail did not know of addresses"
    );
    assert_eq!((apps(&pager), apps(&chat)), (vec![json!("paged")], vec![json!("chatted")]));

    // The alerter goes away with its replica's next life.
    two.sigterm();
    assert!(two.wait_exit(super::EXIT).await.success());
    std::fs::write(&config, format!("replica: two\nalerters:\n{}{post}", webhook("pager", &pager))).unwrap();
    let mut two = spawn();
    two.url().await;
    world.signal("moved", "job", "/fail").await;
    world.becomes("SELECT COUNT(*) FROM delivery WHERE alerter = 'old' AND state = 'pending'", 1).await;
    // The minute that the rest of this test would wait for.
    world.sql("UPDATE delivery SET next_ms = next_ms - 61000 WHERE alerter = 'old'").await;
    let told = eventually(SOON, "a default alerter to tell it", async || {
        let heard = [chat.requests(), pager.requests()].concat();
        heard.into_iter().map(|r| r.json()).find(|body| body["app"] == "moved")
    })
    .await;
    let remarks = told["remarks"].to_string();
    assert!(remarks.contains("no replica has the alerter old"), "{told:#}");
    world.becomes("SELECT COUNT(*) FROM delivery WHERE state IN ('pending', 'inflight')", 0).await;
    let moved = [apps(&chat), apps(&pager)].concat().iter().filter(|app| **app == "moved").count();
    assert_eq!(moved, 1, "by one of the two replicas");
    assert_eq!(world.number("SELECT COUNT(*) FROM delivery WHERE state = 'dead'").await, 0);
    assert!(two.running());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mariadb_each_replica_delivers_over_its_own_alerters_and_the_defaults_tell_what_nobody_has() {
    any_replica_delivers(Backend::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_mysql_each_replica_delivers_over_its_own_alerters_and_the_defaults_tell_what_nobody_has() {
    any_replica_delivers(Backend::MySql).await;
}
