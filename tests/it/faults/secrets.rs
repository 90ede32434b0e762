//! Invariant 10: secrets from every source they may come from are seen nowhere.

use serde_json::Value;

use super::SOON;
use super::invariants::{Known, hold};
use super::world::World;
use crate::util::db::{Backend, TestDb, on_every_database};
use crate::util::process::Gotel;
use crate::util::receiver::{Answer, Receiver};
use crate::util::smtp::{Encryption, Fault, SmtpSink};

/// A value that nothing else contains.
fn canary(name: &str) -> String {
    format!("canary-{name}-{}", uuid::Uuid::new_v4().simple())
}

/// The database by a user of the test's own, whose password is a canary.
async fn by_a_user(db: &TestDb, password: &str) -> String {
    if db.backend() == Backend::Sqlite {
        return db.url().to_owned();
    }
    let mut url = url::Url::parse(db.url()).unwrap();
    let user = format!("canary_{}", &uuid::Uuid::new_v4().simple().to_string()[..16]);
    let mut admin = db.admin().await;
    for statement in [
        format!("CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'"),
        format!("GRANT ALL ON {}.* TO '{user}'@'%'", url.path().trim_start_matches('/')),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
    }
    url.set_username(&user).unwrap();
    url.set_password(Some(password)).unwrap();
    url.into()
}

on_every_database!(no_secret_is_seen_in_log_page_answer_metric_or_notice);
async fn no_secret_is_seen_in_log_page_answer_metric_or_notice(db: TestDb) {
    let [database, mail, path, signing, header, token, other] =
        ["database", "mail", "path", "signing", "header", "token", "other"].map(canary);
    let routing = uuid::Uuid::new_v4().simple().to_string();
    let (sink, hook, pagerduty) = (
        SmtpSink::start(Encryption::StartTls, Some(("gotel", &mail))).await,
        Receiver::webhook().await,
        Receiver::pagerduty().await,
    );
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let yaml = format!(
        "alerters:\n  - {{name: mail, type: smtp, host: 127.0.0.1, port: {}, tls: starttls, caFile: {}, \
         username: gotel, passwordFile: {}, from: gotel@example.org, to: [ops@example.org]}}\n  \
         - {{name: hook, type: webhook, urlFile: {}, secretFile: {}, headers: {{X-Key: \"${{HEADER}}\"}}}}\n  \
         - {{name: pager, type: pagerduty, url: \"{}\", routingKeyFile: {}}}\nauth:\n  tokens:\n    \
         - {{name: all, scopes: [admin], tokenFile: {}}}\n",
        sink.addr().port(),
        sink.ca_file().display(),
        file("mail", &mail),
        file("url", &hook.url(&format!("/{path}"))),
        file("signing", &signing),
        pagerduty.url("/v2/enqueue"),
        file("routing", &routing),
        file("token", &token),
    );
    let url = by_a_user(&db, &database).await;
    let env = [("HEADER", header.as_str()), ("GOTEL_LOG", "trace")];
    let mut world = World::start_at(db, url, &yaml, &env).await;
    // A wrong token is a secret, too: of another place.
    world.use_token(&other);
    assert_eq!(world.get("/reservation").await.0, 401);
    world.use_token(&token);

    // Everything works once, and everything fails once.
    world.reserve("billing", "nightly", Value::Null).await;
    world.signal("billing", "nightly", "/fail").await;
    hook.received(1, SOON).await;
    sink.received(1, SOON).await;
    pagerduty.received(1, SOON).await;
    hook.next([Answer::Status(500), Answer::Status(410), Answer::Redirect(hook.url(&format!("/{path}")))]);
    pagerduty.next([Answer::Status(500), Answer::Status(400)]);
    sink.fault_times(Fault::RefuseLogin, 2);
    for component in ["a", "b", "c"] {
        world.reserve("billing", component, Value::Null).await;
        world.signal("billing", component, "/fail").await;
    }
    hook.received(4, SOON).await;
    pagerduty.received(4, SOON).await;
    let path_is_right = hook.requests().iter().all(|one| one.path == format!("/{path}"));
    assert!(path_is_right && hook.requests()[0].header("x-key") == header);
    assert_eq!(sink.mails()[0].login.as_deref(), Some("gotel"));
    sink.heal();
    world.sql("UPDATE delivery SET next_ms = 0 WHERE state = 'pending'").await;
    let secrets = [&database, &mail, &path, &signing, &header, &token, &other, &routing].map(String::as_str);
    let waiting = "UPDATE delivery SET state = 'dead' WHERE state = 'pending' AND alerter <> 'hook'";
    crate::util::wait::eventually(SOON, "the webhook's notices to be told", async || {
        world.sql("UPDATE delivery SET next_ms = 0 WHERE state = 'pending'").await;
        world
            .number(
                "SELECT COUNT(*) FROM delivery WHERE alerter = 'hook' AND state IN ('pending', 'inflight')",
            )
            .await
            == 0
    })
    .await;
    world.sql(waiting).await;
    for page in ["/reservation/billing/nightly", "/reservation/billing/a/incidents", "/badguests"] {
        let (status, text) = world.get(page).await;
        assert_eq!(status, 200, "{text}");
        assert!(secrets.iter().all(|secret| !text.contains(secret)), "{page} holds a secret");
    }
    hold(&world, &Known { hooks: &[("hook", &hook)], secrets: &secrets, ..Known::default() }).await;
    world.end().await;
    super::invariants::no_secret_in("the log", &world.output(), &secrets);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_seen_when_a_start_or_a_check_fails() {
    let secret = canary("wrong");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gotel.yaml");
    let config = config.to_str().unwrap();
    let database = |host: &str| format!("databaseUrl: \"mysql://gotel:{secret}@{host}/gotel\"\n");
    let yamls = [
        database("127.0.0.1"),
        format!(
            "alerters:\n  - {{name: mail, type: smtp, host: h, from: a@b.c, to: [a@b.c], password: {secret}}}\n"
        ),
        format!("alerters:\n  - {{name: h, type: webhook, url: \"ftp://h/{secret}\"}}\n"),
        format!("alerters:\n  - {{name: h, type: webhook, url: \"http://u:{secret}@h/\"}}\n"),
        format!("alerters:\n  - {{name: p, type: pagerduty, routingKey: {secret}}}\n"),
        format!("auth:\n  tokens:\n    - {{name: a, scopes: [read], token: {secret}}}\n"),
        format!("alerters: [{secret}\n"),
        format!("auth: {secret}\n"),
    ];
    for yaml in yamls {
        std::fs::write(config, &yaml).unwrap();
        for args in [&["config", "check", "--config", config][..], &["serve", "--config", config]] {
            let mut gotel = Gotel::spawn(args, &[("GOTEL_LOG", "trace")]);
            assert_eq!(gotel.wait_exit(SOON).await.code(), Some(1), "{yaml}: {}", gotel.output());
            gotel.printed("gotel:", SOON).await;
            super::invariants::no_secret_in(
                &format!("what was printed of {yaml}"),
                &gotel.output(),
                &[&secret],
            );
        }
    }
    // A database that is not there, or not ours, or not a URL.
    for url in [format!("mysql://gotel:{secret}@[::1"), format!("postgres://gotel:{secret}@h/d")] {
        let env = [("GOTEL_DATABASE_URL", url.as_str()), ("GOTEL_LOG", "trace")];
        let mut gotel = Gotel::spawn(&["serve", "--listen", "127.0.0.1:0"], &env);
        assert_eq!(gotel.wait_exit(SOON).await.code(), Some(1), "{}", gotel.output());
        super::invariants::no_secret_in("what was printed", &gotel.output(), &[&secret]);
    }
}
