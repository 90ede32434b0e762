//! The other commands, as a shell meets them: exit codes, and what is printed.

use std::path::Path;

use serde_json::{Value, json};

use super::SOON;
use super::world::{World, hook_yaml};
use crate::util::db::{Backend, TestDb, on_every_database};
use crate::util::process::Gotel;
use crate::util::receiver::{Answer, Receiver};

/// Runs `gotel ARGS…` to its end.
async fn gotel(args: &[&str], env: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut all = vec![("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")];
    all.extend(env);
    let mut program = Gotel::spawn(args, &all);
    let status = program.wait_exit(SOON).await;
    // The last lines may still be on their way.
    let output = crate::util::wait::eventually(SOON, "the program to print something", async || {
        Some(program.output()).filter(|output| !output.is_empty() || args[0] == "checkin")
    });
    (status.code(), output.await)
}

async fn on_sqlite(hook: &Receiver) -> World {
    World::start(TestDb::new(Backend::Sqlite).await.unwrap(), &hook_yaml(hook)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkin_ends_well_only_once_it_is_stored() {
    let hook = Receiver::webhook().await;
    let world = on_sqlite(&hook).await;
    world.reserve("billing", "nightly", Value::Null).await;
    let url = world.url.as_str();
    let (code, output) =
        gotel(&["checkin", "billing", "nightly", "--url", url, "--note", "42 invoices"], &[]).await;
    assert_eq!(code, Some(0), "{output}");
    let exit = ["checkin", "billing", "nightly", "--exit-code", "7", "--rid", "run 1"];
    let (code, output) = gotel(&exit, &[("GOTEL_URL", url)]).await;
    assert_eq!(code, Some(0), "{output}");
    let stored = world.json("/reservation/billing/nightly/checkins").await;
    let kinds: Vec<_> = stored["result"].as_array().unwrap().iter().map(|one| one["kind"].clone()).collect();
    assert_eq!(kinds, ["fail", "ok"], "{stored}");
    assert_eq!(stored["result"][0]["exit_code"], 7);
    assert_eq!(stored["result"][1]["notes"], "42 invoices");

    let (code, output) = gotel(&["checkin", "billing", "weekly", "--url", url], &[]).await;
    assert_eq!(code, Some(1));
    assert!(output.contains("404"), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkin_gives_up_at_once_where_trying_again_is_vain_and_after_five_tries_elsewhere() {
    let answers = Receiver::webhook().await;
    answers.always(Answer::Status(404));
    let url = answers.url("/");
    assert_eq!(gotel(&["checkin", "a", "b", "--url", &url], &[]).await.0, Some(1));
    assert_eq!(answers.requests().len(), 1, "nobody is there, however often it asks");
    answers.always(Answer::Status(503));
    let gone = Receiver::webhook().await.url("/");
    let (to_url, to_gone) = (["checkin", "a", "b", "--url", &url], ["checkin", "a", "b", "--url", &gone]);
    let (away, nobody) = tokio::join!(gotel(&to_url, &[]), gotel(&to_gone, &[]));
    assert_eq!((away.0, nobody.0), (Some(1), Some(1)));
    assert_eq!(answers.requests().len(), 1 + 5);
    assert!(away.1.contains("after 5 tries"), "{}", away.1);
    assert!(nobody.1.contains("not reached") && nobody.1.contains("after 5 tries"), "{}", nobody.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alerter_test_says_whether_a_message_was_taken() {
    let hook = Receiver::webhook().await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gotel.yaml");
    std::fs::write(&config, hook_yaml(&hook)).unwrap();
    let test =
        async |name| gotel(&["alerter", "test", name, "--config", config.to_str().unwrap()], &[]).await;
    let (code, output) = test("hook").await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("hook: accepted"), "{output}");
    assert_eq!(hook.requests()[0].json()["event"], "test");
    hook.always(Answer::Status(400));
    let (code, output) = test("hook").await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("400"), "{output}");
    let (code, output) = test("hok").await;
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("hook"), "it says which there are: {output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn config_check_names_file_line_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("gotel.yaml");
    let check = async |yaml: &str| {
        std::fs::write(&config, yaml).unwrap();
        gotel(&["config", "check", "--config", config.to_str().unwrap()], &[]).await
    };
    let (code, output) = check("listen: 127.0.0.1:8080\n").await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("gotel.yaml: ok"), "{output}");
    let wrong = [
        ("listen: 127.0.0.1:8080\nalerter: []\n", "gotel.yaml:2", "alerter"),
        ("alerters:\n  - {name: a, type: webhook}\n", "gotel.yaml:2", "url"),
        ("listen: nowhere\n", "gotel.yaml:1", "listen"),
        ("alerters: [\n", "gotel.yaml:", ""),
        ("listen: 0.0.0.0:8080\n", "", "token"),
    ];
    for (yaml, place, field) in wrong {
        let (code, output) = check(yaml).await;
        assert_eq!(code, Some(1), "{yaml}: {output}");
        assert!(output.contains(place) && output.contains(field), "{yaml}: {output}");
        assert!(!output.contains("panicked"), "{output}");
    }
    let (code, output) = gotel(&["config", "check", "--config", "/nowhere/gotel.yaml"], &[]).await;
    assert_eq!(code, Some(1));
    assert!(output.contains("/nowhere/gotel.yaml"), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_shipped_examples_of_configuration_pass_the_check() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["gotel.minimal.yaml", "gotel.full.yaml"] {
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
        let mut text = std::fs::read_to_string(&example).unwrap();
        // The secrets that the example expects under /run/secrets.
        for file in ["jobs", "billing", "smtp", "pagerduty", "hmac", "peers"] {
            std::fs::write(folder.path().join(file), format!("{file}-0123456789abcdef0123456789abcdef"))
                .unwrap();
        }
        text = text.replace("/run/secrets/gotel", folder.path().to_str().unwrap());
        std::fs::write(folder.path().join("pagerduty"), "0123456789abcdef0123456789abcdef").unwrap();
        let config = folder.path().join(name);
        std::fs::write(&config, text).unwrap();
        let env = [("GOTEL_DB", "mysql://u:p@h/d"), ("CHAT_WEBHOOK", "https://chat.example.org/hook/x")];
        let (code, output) = gotel(&["config", "check", "--config", config.to_str().unwrap()], &env).await;
        assert_eq!(code, Some(0), "{name}: {output}");
    }
}

on_every_database!(migrate_says_what_it_did_and_does_it_once);
async fn migrate_says_what_it_did_and_does_it_once(db: TestDb) {
    let env = [("GOTEL_DATABASE_URL", db.url())];
    let (code, output) = gotel(&["migrate"], &env).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("applied"), "{output}");
    let (code, output) = gotel(&["migrate"], &env).await;
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("nothing to do"), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openapi_and_version_print_what_they_say() {
    let (code, output) = gotel(&["openapi"], &[]).await;
    assert_eq!(code, Some(0));
    let document: Value = serde_json::from_str(&output).expect("the document is JSON");
    assert!(document["paths"]["/checkin"].is_object());
    let (code, output) = gotel(&["version"], &[]).await;
    assert_eq!((code, output.trim()), (Some(0), concat!("gotel ", env!("CARGO_PKG_VERSION"))));
    assert_eq!(gotel(&["nonsense"], &[]).await.0, Some(2));
}

/// Runs the wrapper of `examples/` around a shell's script.
async fn wrapped(url: &str, script: &str) -> (Option<i32>, String) {
    let wrapper = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/run-with-checkin.sh");
    let args = ["billing", "nightly", "sh", "-c", script];
    let env = [("GOTEL_URL", url), ("NO_PROXY", "127.0.0.1"), ("no_proxy", "127.0.0.1")];
    let mut program = Gotel::spawn_program(&wrapper, &args, &env);
    let status = program.wait_exit(SOON).await;
    (status.code(), program.output())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrapper_tells_start_and_end_and_keeps_the_jobs_own_exit_code() {
    let hook = Receiver::webhook().await;
    let world = on_sqlite(&hook).await;
    world.reserve("billing", "nightly", json!({ "max_runtime": "1h" })).await;
    let base = world.url.as_str().trim_end_matches('/').to_owned();
    let (code, output) = wrapped(&base, "echo all is well").await;
    assert_eq!(code, Some(0), "{output}");
    let shown = world.json("/reservation/billing/nightly").await;
    let run = &shown["result"]["runs"][0];
    assert_eq!((&run["outcome"], &run["exit_code"]), (&json!("ok"), &json!(0)), "{shown}");
    world.becomes("SELECT COUNT(*) FROM reservation WHERE state = 'on_time'", 1).await;

    let (code, output) = wrapped(&base, "echo the disk is full >&2; exit 3").await;
    assert_eq!(code, Some(3), "{output}");
    let notice = hook.received(1, SOON).await[0].json();
    assert_eq!((&notice["reason"], &notice["exit_code"]), (&json!("failed"), &json!(3)), "{notice}");
    assert!(notice["output"].as_str().unwrap().contains("the disk is full"), "{notice}");
    let shown = world.json("/reservation/billing/nightly").await;
    assert_eq!(shown["result"]["checkins"][0]["exit_code"], 3);
    assert!(shown["result"]["checkins"][0]["notes"].as_str().unwrap().contains("the disk is full"));
    assert_eq!(world.number("SELECT COUNT(*) FROM run WHERE ended_ms IS NULL").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrapper_runs_the_job_also_when_nobody_watches() {
    let gone = Receiver::webhook().await.url("");
    for wanted in [0, 7] {
        let (code, output) = wrapped(&gone, &format!("echo done; exit {wanted}")).await;
        assert_eq!(code, Some(wanted), "{output}");
    }
}
