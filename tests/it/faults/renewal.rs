//! Secrets that change while the program runs: as mounted Kubernetes Secrets do.

use super::SOON;
use super::invariants::no_secret_in;
use super::world::World;
use crate::util::db::{Backend, TestDb};
use crate::util::mounted::Mounted;
use crate::util::node::{Node, metric};
use crate::util::receiver::Receiver;
use crate::util::smtp::{Encryption, SmtpSink};
use crate::util::wait::eventually;
use serde_json::Value;

/// Waits until a metric has this value.
async fn measured(node: &Node, name: &str, wanted: f64) {
    eventually(SOON, format!("{name} to be {wanted}"), async || {
        let page = node.get("/metrics").await.1;
        if metric(&page, name) == wanted { Ok(()) } else { Err(page) }
    })
    .await;
}

/// Waits until all secrets of these alerters are as they should be.
async fn stale(node: &Node, wanted: f64) {
    for name in ["hook", "pager", "mail"] {
        measured(node, &format!(r#"gotel_secret_stale{{secret="alerter/{name}"}}"#), wanted).await;
    }
}

/// The folders that the alerters' Secrets are mounted at, and what they hold.
struct Secrets {
    hook: Mounted,
    pager: Mounted,
    mail: Mounted,
    heartbeat: Mounted,
}

/// A routing key is 32 characters long.
fn key(n: u32) -> String {
    format!("routing-key-{n:020}")
}

/// A version of the files of one Secret.
type Files = Vec<(&'static str, String)>;

/// The `n`th version of the hook's, the pager's, the mail's and the heartbeat's.
fn version(n: u32, hook: &Receiver, watcher: &Receiver) -> [Files; 4] {
    let (url, auth) = (hook.url(&format!("/secret-path-{n}")), format!("Bearer secret-token-{n}"));
    [
        vec![("url", url), ("auth", auth), ("signing", format!("secret-key-{n}"))],
        vec![("routing-key", key(n))],
        vec![("username", format!("gotel-{n}")), ("password", format!("secret-password-{n}"))],
        vec![("url", watcher.url(&format!("/watch-{n}")))],
    ]
}

impl Secrets {
    fn new([hook, pager, mail, heartbeat]: [Files; 4]) -> Self {
        let [hook, pager, mail, heartbeat] = [hook, pager, mail, heartbeat].map(|files| Mounted::new(&files));
        Self { hook, pager, mail, heartbeat }
    }

    fn swap(&mut self, [hook, pager, mail, heartbeat]: [Files; 4]) {
        self.hook.swap(&hook);
        self.pager.swap(&pager);
        self.mail.swap(&mail);
        self.heartbeat.swap(&heartbeat);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mounted_secret_is_replaced_without_a_restart_and_a_broken_one_keeps_the_old_value() {
    let Some(db) = TestDb::new(Backend::Sqlite).await else { return };
    let (hook, pagerduty, watcher) =
        (Receiver::webhook().await, Receiver::pagerduty().await, Receiver::webhook().await);
    let sink = SmtpSink::start(Encryption::StartTls, Some(("gotel-1", "secret-password-1"))).await;
    let mut secrets = Secrets::new(version(1, &hook, &watcher));
    let yaml = format!(
        "heartbeatUrlFile: {}\nalerters:\n  - {{name: mail, type: smtp, host: 127.0.0.1, port: {}, tls: starttls, \
         caFile: {}, usernameFile: {}, passwordFile: {}, from: gotel@example.org, to: [ops@example.org]}}\n  \
         - {{name: hook, type: webhook, urlFile: {}, secretFile: {}, headerFiles: {{Authorization: {}}}}}\n  \
         - {{name: pager, type: pagerduty, url: \"{}\", routingKeyFile: {}}}\n",
        secrets.heartbeat.path("url"),
        sink.addr().port(),
        sink.ca_file().display(),
        secrets.mail.path("username"),
        secrets.mail.path("password"),
        secrets.hook.path("url"),
        secrets.hook.path("signing"),
        secrets.hook.path("auth"),
        pagerduty.url("/v2/enqueue"),
        secrets.pager.path("routing-key"),
    );
    let world = World::start(db, &yaml).await;
    let mut told = 0;
    // One more job fails, and all are told of it by the `n`th version of their secrets.
    let mut tells = async |n: u32| {
        told += 1;
        let job = format!("job-{told}");
        world.reserve("billing", &job, Value::Null).await;
        world.signal("billing", &job, "/fail").await;
        let heard = hook.received(told, SOON).await.remove(told - 1);
        assert_eq!(heard.path, format!("/secret-path-{n}"));
        assert_eq!(heard.header("authorization"), format!("Bearer secret-token-{n}"));
        let event = pagerduty.received(told, SOON).await.remove(told - 1).json();
        assert_eq!(event["routing_key"], key(n));
        let mail = sink.received(told, SOON).await.remove(told - 1);
        assert_eq!(mail.login, Some(format!("gotel-{n}")));
    };
    tells(1).await;

    secrets.swap(version(2, &hook, &watcher));
    sink.insist("gotel-2", "secret-password-2");
    for name in ["alerter/hook", "alerter/pager", "alerter/mail", "heartbeatUrl"] {
        let replaced = format!(r#"gotel_secret_reload_total{{secret="{name}",result="replaced"}}"#);
        measured(&world, &replaced, 1.0).await;
    }
    tells(2).await;
    assert!(!world.get("/nodes").await.1.contains("Old value"));

    // A URL that is none, an empty key, a password that is not there.
    secrets.hook.swap(&[("url", "ftp://h/secret-broken"), ("auth", "x"), ("signing", "secret-broken")]);
    secrets.pager.swap(&[("routing-key", "\n")]);
    secrets.mail.swap(&[("username", "gotel-3")]);
    stale(&world, 1.0).await;
    let page = world.get("/nodes").await.1;
    assert_eq!(page.matches("Old value").count(), 3, "{page}");
    for part in [
        "3 secrets cannot be read again",
        "alerter/hook",
        &secrets.hook.path("url"),
        "alerters[1].urlFile: is neither http:// nor https://: write https://example.org/hook",
        "alerters[2].routingKeyFile: the file",
        "is empty: write the secret there",
        "alerters[0].passwordFile: cannot read the file",
    ] {
        assert!(page.contains(part), "{part}\n{page}");
    }
    tells(2).await;
    let warnings = || world.output().matches("a secret cannot be read again").count();
    assert_eq!(warnings(), 3, "each is said once");

    secrets.swap(version(3, &hook, &watcher));
    sink.insist("gotel-3", "secret-password-3");
    stale(&world, 0.0).await;
    assert!(!world.get("/nodes").await.1.contains("Old value"));
    tells(3).await;
    assert_eq!(warnings(), 3);
    assert_eq!(world.output().matches("what its files hold is in use again").count(), 3);
    eventually(SOON, "the new heartbeat URL to be called", async || {
        watcher.requests().iter().any(|one| one.path == "/watch-2" || one.path == "/watch-3")
    })
    .await;
    let parts =
        ["secret-path", "secret-token", "secret-key", "secret-password", "secret-broken", "routing-key-0"];
    no_secret_in("the log", &world.output(), &parts);
    no_secret_in("/nodes", &world.get("/nodes").await.1, &parts);
    no_secret_in("/metrics", &world.get("/metrics").await.1, &parts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alerter_with_a_wrong_password_is_tried_again_as_soon_as_it_has_the_right_one() {
    let Some(db) = TestDb::new(Backend::Sqlite).await else { return };
    let sink = SmtpSink::start(Encryption::None, Some(("gotel", "right"))).await;
    let mut secret = Mounted::new(&[("password", "wrong")]);
    let yaml = format!(
        "alerters:\n  - {{name: mail, type: smtp, host: 127.0.0.1, port: {}, tls: none, username: gotel, passwordFile: {}, \
         from: gotel@example.org, to: [ops@example.org]}}\n",
        sink.addr().port(),
        secret.path("password"),
    );
    let world = World::start(db, &yaml).await;
    world.reserve("billing", "nightly", Value::Null).await;
    world.signal("billing", "nightly", "/fail").await;
    // The next try would be in ten minutes, and none is made in five.
    let waits = "SELECT COUNT(*) FROM delivery WHERE attempts = 1 AND state = 'pending'";
    world.becomes(waits, 1).await;
    measured(&world, r#"gotel_breaker_open{channel="mail"}"#, 1.0).await;
    secret.swap(&[("password", "right")]);
    sink.received(1, SOON).await;
    measured(&world, r#"gotel_breaker_open{channel="mail"}"#, 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_change_their_token_one_after_the_other() {
    let Some(db) = TestDb::new(Backend::Sqlite).await else { return };
    let mut secret = Mounted::new(&[("token", "old-token-of-all-jobs\n")]);
    let yaml =
        format!("auth: {{tokens: [{{name: jobs, scopes: [admin], tokenFile: {}}}]}}\n", secret.path("token"));
    let mut world = World::start(db, &yaml).await;
    let good = async |world: &mut World, token: &str, wanted: u16| {
        world.use_token(token);
        let what = format!("{token} to be answered {wanted}");
        eventually(SOON, what, async || {
            let answer = world.get("/reservation").await;
            if answer.0 == wanted { Ok(()) } else { Err(answer.1) }
        })
        .await;
    };
    good(&mut world, "old-token-of-all-jobs", 200).await;
    good(&mut world, "new-token-of-all-jobs", 401).await;
    secret.swap(&[("token", "old-token-of-all-jobs\nnew-token-of-all-jobs\n")]);
    good(&mut world, "new-token-of-all-jobs", 200).await;
    good(&mut world, "old-token-of-all-jobs", 200).await;
    secret.swap(&[("token", "new-token-of-all-jobs\n")]);
    good(&mut world, "old-token-of-all-jobs", 401).await;
    good(&mut world, "new-token-of-all-jobs", 200).await;
    secret.swap(&[("token", "short")]);
    measured(&world, r#"gotel_secret_stale{secret="token/jobs"}"#, 1.0).await;
    good(&mut world, "new-token-of-all-jobs", 200).await;
    good(&mut world, "short", 401).await;
}

async fn the_database_password_is_changed(backend: Backend) {
    let Some(db) = TestDb::new(backend).await else { return };
    let user = format!("renewal_{}", &uuid::Uuid::new_v4().simple().to_string()[..16]);
    let mut admin = db.admin().await;
    let mut run = async |statement: String| {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut admin).await.unwrap();
    };
    let mut url = url::Url::parse(db.url()).unwrap();
    let database = url.path().trim_start_matches('/').to_owned();
    url.set_username(&user).unwrap();
    let mut with = |password: &str| {
        url.set_password(Some(password)).unwrap();
        url.to_string()
    };
    // The program starts with a password that is not right yet, and waits.
    let mut secret = Mounted::new(&[("url", &with("secret-wrong"))]);
    run(format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'secret-first'")).await;
    run(format!("GRANT ALL ON {database}.* TO '{user}'@'%'")).await;
    let yaml = format!("databaseUrlFile: {}\n", secret.path("url"));
    let world = World::start_at(db, String::new(), &yaml, &[]).await;
    assert_eq!(world.get("/readyz").await.0, 503);
    secret.swap(&[("url", &with("secret-first"))]);
    eventually(SOON, "the database to be reached", async || world.get("/readyz").await.0 == 200).await;
    world.reserve("billing", "nightly", Value::Null).await;

    run(format!("ALTER USER '{user}'@'%' IDENTIFIED BY 'secret-second'")).await;
    secret.swap(&[("url", &with("secret-second"))]);
    measured(&world, r#"gotel_secret_reload_total{secret="database",result="replaced"}"#, 2.0).await;
    // All its connections end, and the next ones need the new password.
    let list = format!("SELECT CAST(id AS SIGNED) FROM information_schema.processlist WHERE user = '{user}'");
    let mut other = world.db.admin().await;
    let ids: Vec<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(list)).fetch_all(&mut other).await.unwrap();
    assert!(!ids.is_empty());
    for id in ids {
        // One that has ended meanwhile is an error here, and none.
        let _ = sqlx::query(sqlx::AssertSqlSafe(format!("KILL {id}"))).execute(&mut other).await;
    }
    eventually(SOON, "a check-in to be stored", async || world.try_check_in("billing", "nightly").await)
        .await;

    // Another place is no new password.
    let elsewhere = with("secret-second").replace(&database, "elsewhere");
    secret.swap(&[("url", &elsewhere)]);
    measured(&world, r#"gotel_secret_stale{secret="database"}"#, 1.0).await;
    let page = world.get("/nodes").await.1;
    assert!(page.contains("databaseUrlFile: names another server or database than at the start"), "{page}");
    assert!(world.try_check_in("billing", "nightly").await.is_ok());
    let secrets = ["secret-wrong", "secret-first", "secret-second"];
    no_secret_in("the log", &world.output(), &secrets);
    no_secret_in("/nodes", &page, &secrets);
    run(format!("DROP USER '{user}'@'%'")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_password_is_changed_on_mariadb() {
    the_database_password_is_changed(Backend::MariaDb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_database_password_is_changed_on_mysql() {
    the_database_password_is_changed(Backend::MySql).await;
}
