//! The files in `examples/`, used as they are meant to be.

use serde_json::Value;

use super::compare;
use super::markdown::blocks;
use super::workshop::{Ran, Workshop, file};

fn client() -> reqwest::Client {
    gotel::alert::client(None).expect("a client can be built")
}

const BOOK: &str = "http://127.0.0.1:8080";

async fn get(base: &str, job: &str) -> Value {
    let answer = client().get(format!("{base}/reservation/{job}")).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    answer.json::<Value>().await.unwrap()["result"].clone()
}

async fn reserve(base: &str, app: &str, component: &str) {
    let body = format!(r#"{{"app":"{app}","component":"{component}","every":"1h","max_runtime":"10m"}}"#);
    let answer = client().post(format!("{base}/reservation")).body(body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
}

/// What was told of a job, oldest first: kind and exit code.
async fn told(base: &str, job: &str) -> Vec<(String, Value)> {
    let mut checkins: Vec<_> = get(base, job).await["checkins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|checkin| (checkin["kind"].as_str().unwrap().to_owned(), checkin["exit_code"].clone()))
        .collect();
    checkins.reverse();
    checkins
}

#[tokio::test]
async fn the_minimal_and_the_full_configuration_can_be_run() {
    let mut workshop = Workshop::new();
    let minimal = workshop.run("gotel config check --config examples/gotel.minimal.yaml").await;
    assert_eq!(minimal.code, Some(0), "{minimal:#?}");

    let secrets = workshop.path().join("secrets").display().to_string();
    workshop.change("examples/gotel.full.yaml", "/run/secrets/gotel", &secrets);
    for name in ["jobs", "billing", "smtp", "pagerduty", "hmac", "peers"] {
        workshop.write(&format!("secrets/{name}"), &format!("a-secret-that-is-long-{name}\n"));
    }
    workshop.env.push(("GOTEL_DB".into(), "mysql://gotel:secret@db.example.org/gotel".into()));
    workshop.env.push(("CHAT_WEBHOOK".into(), "https://chat.example.org/hooks/1".into()));
    let full = workshop.run("gotel config check --config examples/gotel.full.yaml").await;
    assert_eq!(full.code, Some(0), "{full:#?}");
    assert!(full.out.contains("alerters: ops-mail, pager, chat; tokens: 2"), "{}", full.out);
}

#[tokio::test]
async fn the_crontab_line_checks_in_after_a_good_run_and_only_then() {
    let workshop = Workshop::new();
    let (_gotel, base) = workshop.serve("gotel serve").await;
    let crontab = std::fs::read_to_string(workshop.path().join("examples/crontab")).unwrap();
    let comments: Vec<_> = crontab.lines().filter_map(|line| line.strip_prefix('#')).collect();
    let from = comments.iter().position(|line| line.trim().starts_with("curl")).expect("how to reserve");
    let reservation = comments[from..].join("\n").replace(BOOK, &base);
    let ran = workshop.run(&reservation).await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");

    let line = crontab.lines().find(|line| !line.is_empty() && !line.starts_with('#')).expect("the line");
    let mut fields = line.split_whitespace();
    let times: Vec<_> = fields.by_ref().take(5).collect();
    let command = &line[line.find(" /").expect("a path begins the command") + 1..];
    assert_eq!(times.join(" "), "30 2 * * *");
    assert!(!command.contains('%'), "cron takes a percent sign as the end of the line");
    let job = workshop.path().join("bin/nightly-invoices").display().to_string();
    let command = command.replace(BOOK, &base).replace("/usr/local/bin/nightly-invoices", &job);

    workshop.program("nightly-invoices", "exit 3");
    assert_eq!(workshop.run_in("sh", &command).await.code, Some(3));
    assert_eq!(told(&base, "billing/nightly-invoices").await, []);
    workshop.program("nightly-invoices", "exit 0");
    let ran = workshop.run_in("sh", &command).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "cron would mail the output");
    assert_eq!(told(&base, "billing/nightly-invoices").await, [("ok".to_owned(), Value::Null)]);
}

async fn wrapped(workshop: &Workshop, base: &str, command: &str) -> Ran {
    workshop
        .run_in("sh", &format!("GOTEL_URL={base} examples/run-with-checkin.sh nightly job {command}"))
        .await
}

#[tokio::test]
async fn the_wrapper_tells_start_end_exit_code_and_output_and_passes_the_code_on() {
    let workshop = Workshop::new();
    let (_gotel, base) = workshop.serve("gotel serve").await;
    reserve(&base, "nightly", "job").await;

    let good = wrapped(&workshop, &base, "echo 42 invoices").await;
    assert_eq!((good.code, good.out.as_str()), (Some(0), "42 invoices\n"), "{good:#?}");
    workshop.program("breaks", "echo no more paper\nexit 7");
    let bad = wrapped(&workshop, &base, "breaks").await;
    assert_eq!((bad.code, bad.out.as_str()), (Some(7), "no more paper\n"), "{bad:#?}");

    let expected = [("start", Value::Null), ("ok", 0.into()), ("start", Value::Null), ("fail", 7.into())];
    assert_eq!(told(&base, "nightly/job").await, expected.map(|(kind, code)| (kind.to_owned(), code)));
    let job = get(&base, "nightly/job").await;
    assert_eq!(job["checkins"][0]["notes"], "no more paper\n");
    assert_eq!(job["runs"].as_array().unwrap().len(), 2);
    assert_ne!(job["runs"][0]["rid"], job["runs"][1]["rid"]);
}

#[tokio::test]
async fn the_wrapper_runs_the_job_all_the_same_while_gotel_is_down() {
    let workshop = Workshop::new();
    // Nobody listens there; the pauses between tries are not waited for.
    workshop.program("curl", "exec /usr/bin/env -u BASH_ENV \"$(command -v -p curl)\" \"$@\" --retry 0");
    let ran = wrapped(&workshop, "http://127.0.0.1:9", "sh -c 'echo done; exit 4'").await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(4), "done\n"), "{ran:#?}");
    assert!(ran.err.contains("GoTel did not take the start of nightly/job"), "{}", ran.err);
    let usage = workshop.run_in("sh", "examples/run-with-checkin.sh only-one").await;
    assert_eq!(usage.code, Some(64));
}

#[tokio::test]
async fn the_pair_takes_over_and_tells_of_the_dead() {
    use crate::util::db::{Backend, TestDb};
    let Some(db) = TestDb::new(Backend::MariaDb).await else { return };
    let mut workshop = Workshop::new();
    // Addresses that no other test uses.
    let net = format!("127.{}.{}.1:", fastrand::u8(1..), fastrand::u8(1..));
    for file in ["eu.yaml", "us.yaml", "run.sh"] {
        workshop.change(&format!("examples/pair/{file}"), "127.0.0.1:", &net);
    }
    workshop.env.push(("DATABASE_URL".into(), db.url().into()));
    workshop.env.push(("NO_PROXY".into(), "127.0.0.0/8".into()));
    workshop.env.push(("no_proxy".into(), "127.0.0.0/8".into()));
    let ran = workshop.run("examples/pair/run.sh").await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let readme = blocks(&file("README.md"));
    let block = |words: &str| readme.iter().find(|block| block.words == words).expect("README shows it");
    assert_eq!(block("sh pair").text.trim(), "examples/pair/run.sh");
    compare::text(&block("text pair").text, &ran.out.replace(&net, "127.0.0.1:")).unwrap();
}
