//! Invariant 10: secrets from every source they may come from are seen nowhere.

use serde_json::Value;

use super::SOON;
use super::invariants::{Known, hold};
use super::world::World;
use crate::util::db::{Backend, TestDb, on_every_database};
use crate::util::process::Gotel;
use crate::util::receiver::{Answer, Receiver, Request};
use crate::util::smtp::{Encryption, Fault, SmtpSink};
use crate::util::wait::eventually;

/// A value that nothing else contains.
fn canary(name: &str) -> String {
    format!("canary-{name}-{}", uuid::Uuid::new_v4().simple())
}

/// Waits until `count` requests have come to this path, and returns all.
async fn told_of(hook: &Receiver, path: &str, count: usize) -> Vec<Request> {
    eventually(SOON, format!("{count} requests to a secret path"), async || {
        let mut heard = hook.requests();
        heard.retain(|one| one.path == format!("/{path}"));
        if heard.len() >= count { Ok(heard) } else { Err(heard.len()) }
    })
    .await
}

/// Waits until all of these keep their old values, or none does.
async fn stale(world: &World, groups: &[&str], value: u32) {
    eventually(SOON, format!("all secrets to be stale: {value}"), async || {
        let page = world.get("/metrics").await.1;
        let is = |group: &&str| page.contains(&format!("gotel_secret_stale{{secret=\"{group}\"}} {value}\n"));
        if groups.iter().all(is) { Ok(()) } else { Err(page) }
    })
    .await;
}

/// What other subcommands print of the same configuration.
async fn commands_say_nothing(world: &World, env: &[(&str, &str)], database_url: &str, secrets: &[&str]) {
    let config = world.path("gotel.yaml");
    let mut env = env.to_vec();
    env.extend([("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1"), ("GOTEL_DATABASE_URL", database_url)]);
    env.retain(|(_, value)| !value.is_empty());
    for args in [&["config", "check"][..], &["alerter", "test", "am"]] {
        let mut gotel = Gotel::spawn(&[args, &["--config", &config]].concat(), &env);
        gotel.wait_exit(SOON).await;
        gotel.printed(if args[0] == "config" { ": ok." } else { "am: accepted" }, SOON).await;
        super::invariants::no_secret_in(&format!("what {args:?} printed"), &gotel.output(), secrets);
    }
}

on_every_database!(no_secret_is_seen_in_log_page_answer_metric_or_notice);
async fn no_secret_is_seen_in_log_page_answer_metric_or_notice(db: TestDb) {
    let [database, user, mail, path, signing, header, other] =
        ["database", "user", "mail", "path", "signing", "header", "other"].map(canary);
    let [token, bearer, bearing, peers, watch, watch_here, renewed, broken] =
        ["token", "bearer", "bearing", "peers", "watch", "watch-here", "renewed", "broken"].map(canary);
    let routing = uuid::Uuid::new_v4().simple().to_string();
    let shared = db.backend() != Backend::Sqlite;
    let (sink, hook, pagerduty) = (
        SmtpSink::start(Encryption::StartTls, Some((&user, &mail))).await,
        Receiver::webhook().await,
        Receiver::pagerduty().await,
    );
    let watcher = Receiver::webhook().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let url = db.url_of_a_user(&database).await;
    let mut yaml = format!(
        "heartbeatUrlFile: {}\nreplicaHeartbeatUrlFile: {}\nalerters:\n  - {{name: mail, type: smtp, host: 127.0.0.1, port: {}, tls: starttls, caFile: {}, \
         usernameFile: {}, passwordFile: {}, from: gotel@example.org, to: [ops@example.org]}}\n  \
         - {{name: hook, type: webhook, urlFile: {}, secretFile: {}, headers: {{X-Key: \"${{HEADER}}\"}}, \
         headerFiles: {{Authorization: {}}}}}\n  \
         - {{name: am, type: webhook, default: false, format: alertmanager, urlFile: {}, headerFiles: {{Authorization: {}}}}}\n  \
         - {{name: pager, type: pagerduty, url: \"{}\", routingKeyFile: {}}}\nauth:\n  tokens:\n    \
         - {{name: all, scopes: [admin], tokenFile: {}}}\n",
        file("watch", &watcher.url(&format!("/{watch}"))),
        file("watch-here", &watcher.url(&format!("/{watch_here}"))),
        sink.addr().port(),
        sink.ca_file().display(),
        file("user", &user),
        file("mail", &mail),
        file("url", &hook.url(&format!("/{path}"))),
        file("signing", &signing),
        file("bearer", &format!("Bearer {bearer}")),
        file("am", &watcher.url(&format!("/am/{path}"))),
        file("bearing", &format!("Bearer {bearing}")),
        pagerduty.url("/v2/enqueue"),
        file("routing", &routing),
        file("token", &token),
    );
    if shared {
        let own = format!("127.{}.{}.1:8081", fastrand::u8(1..), fastrand::u8(..));
        yaml.push_str(&format!(
            "replica: eu-1\ndatabaseUrlFile: {}\npeers:\n  page: 10m\n  listen: {own}\n  secretFile: {}\n  replicas: \
             [{{id: eu-1, url: \"http://{own}\"}}, {{id: us-1, url: \"http://127.0.0.1:9\"}}]\n",
            file("database", &url),
            file("peers", &peers),
        ));
    }
    let env = [("HEADER", header.as_str()), ("GOTEL_LOG", "trace")];
    let by_flag = if shared { String::new() } else { url.clone() };
    let mut world = World::start_at(db, by_flag.clone(), &yaml, &env).await;
    let secrets = [
        &database,
        &user,
        &mail,
        &path,
        &signing,
        &header,
        &token,
        &other,
        &routing,
        &bearer,
        &bearing,
        &peers,
        &watch,
        &watch_here,
        &renewed,
        &broken,
    ]
    .map(String::as_str);
    // A wrong token is a secret, too: of another place.
    world.use_token(&other);
    assert_eq!(world.get("/reservation").await.0, 401);
    world.use_token(&token);

    // Everything works once, and everything fails once.
    world.reserve("billing", "nightly", Value::Null).await;
    world.signal("billing", "nightly", "/fail").await;
    told_of(&hook, &path, 1).await;
    sink.received(1, SOON).await;
    pagerduty.received(1, SOON).await;
    hook.next([Answer::Status(500), Answer::Status(410), Answer::Redirect(hook.url(&format!("/{path}")))]);
    pagerduty.next([Answer::Status(500), Answer::Status(400)]);
    sink.fault_times(Fault::RefuseLogin, 2);
    for component in ["a", "b", "c"] {
        world.reserve("billing", component, Value::Null).await;
        world.signal("billing", component, "/fail").await;
    }
    let heard = told_of(&hook, &path, 4).await;
    pagerduty.received(4, SOON).await;
    assert_eq!(heard[0].header("x-key"), header);
    assert_eq!(heard[0].header("authorization"), format!("Bearer {bearer}"));
    assert_eq!(sink.mails()[0].login.as_deref(), Some(&*user));
    // The address that is called while all is well, by a replica that leads.
    told_of(&watcher, &watch_here, 1).await;
    commands_say_nothing(&world, &env, &by_flag, &secrets).await;
    sink.heal();
    world.sql("UPDATE delivery SET next_ms = 0 WHERE state = 'pending'").await;
    let waiting = "UPDATE delivery SET state = 'dead' WHERE state = 'pending' AND alerter <> 'hook'";
    eventually(SOON, "the webhook's notices to be told", async || {
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
    // Every file is broken, then it holds something new; what is looked at below comes after that.
    let mut kept =
        vec!["user", "mail", "url", "signing", "bearer", "am", "bearing", "routing", "watch", "watch-here"];
    let mut groups = vec!["alerter/mail", "alerter/hook", "alerter/am", "alerter/pager", "token/all"];
    groups.extend(["heartbeatUrl", "replicaHeartbeatUrl"]);
    if shared {
        kept.extend(["database", "peers"]);
        groups.extend(["database", "peers"]);
    }
    for name in &kept {
        file(name, &format!("{broken}\n{broken}"));
    }
    file("token", &format!("{broken}\n{broken}-2\n{broken}-3"));
    stale(&world, &groups, 1).await;
    let secrets_now = world.get("/nodes").await.1;
    super::invariants::no_secret_in("/nodes with every file broken", &secrets_now, &secrets);
    assert_eq!(secrets_now.matches("Old value").count(), groups.len(), "{secrets_now}");
    for name in &kept {
        file(name, &renewed);
    }
    for name in ["url", "am", "watch", "watch-here"] {
        file(name, &hook.url(&format!("/{renewed}")));
    }
    if shared {
        // Another user, too, is a matter of this file; a wrong one would end this test.
        file("database", &url);
    }
    file("token", &format!("{token}\n{renewed}"));
    stale(&world, &groups, 0).await;
    world.use_token(&renewed);
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
