//! The commands of the examples' CronJobs and of `helm test`, in a real shell against a real GoTel.

use serde_json::{Value, json};

use super::{SOON, at, object, template};
use crate::docs::workshop::{Ran, Workshop};
use crate::util::cluster::Cluster;
use crate::util::process::Gotel;
use crate::util::wait::eventually;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A GoTel that asks for a token, and what the pod of a CronJob finds in its environment.
async fn gotel() -> (Workshop, Gotel, String) {
    let mut workshop = Workshop::new();
    let file = workshop.write("token", TOKEN).display().to_string();
    let config = format!("auth: {{tokens: [{{name: jobs, scopes: [admin], tokenFile: {file}}}]}}\n");
    workshop.write("gotel.yaml", &config);
    let (gotel, base) = workshop.serve("gotel serve --config gotel.yaml").await;
    workshop.env.push(("GOTEL_URL".into(), base.clone()));
    workshop.env.push(("GOTEL_TOKEN".into(), TOKEN.into()));
    workshop.env.push(("RUN".into(), "exchange-rates-1-abcde".into()));
    // The pauses between tries are not waited for.
    workshop.program("curl", "exec \"$(command -v -p curl)\" \"$@\" --retry 0");
    (workshop, gotel, base)
}

/// The script of an example's only container, with the job itself where the workshop has it.
fn script(workshop: &Workshop, example: &str, job: &str) -> String {
    let manifest = std::fs::read_to_string(at(&format!("examples/kubernetes/{example}"))).unwrap();
    let pod = object(&manifest, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"].clone();
    let container = &pod["containers"][0];
    assert_eq!(container["command"], json!(["/bin/sh", "-c"]));
    let names: Vec<_> =
        container["env"].as_array().unwrap().iter().map(|env| env["name"].as_str().unwrap()).collect();
    assert!(names.iter().all(|name| workshop.env.iter().any(|(known, _)| known == name)), "{names:?}");
    let path = format!("/usr/local/bin/{job}");
    let script = container["args"][0].as_str().unwrap();
    assert!(script.contains(&path), "{script}");
    script.replace(&path, &workshop.path().join("bin").join(job).display().to_string())
}

async fn reserve(base: &str, component: &str) {
    let body = json!({"app": "billing", "component": component, "every": "1d", "max_runtime": "1h"});
    let client = gotel::alert::client(None).expect("a client can be built");
    let answer =
        client.post(format!("{base}/reservation")).bearer_auth(TOKEN).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
}

/// What was told of a job, oldest first: kind, exit code and run.
async fn told(base: &str, component: &str) -> Vec<(String, Value, Value)> {
    let client = gotel::alert::client(None).expect("a client can be built");
    let url = format!("{base}/reservation/billing/{component}");
    let answer: Value = client.get(url).bearer_auth(TOKEN).send().await.unwrap().json().await.unwrap();
    let mut told: Vec<_> = answer["result"]["checkins"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["kind"].as_str().unwrap().to_owned(), c["exit_code"].clone(), c["rid"].clone()))
        .collect();
    told.reverse();
    told
}

#[tokio::test]
async fn the_cronjob_checks_in_after_a_good_run_and_only_then() {
    let (workshop, mut gotel, base) = gotel().await;
    reserve(&base, "nightly-invoices").await;
    let script = script(&workshop, "cronjob.yaml", "nightly-invoices");
    let run = async || -> Ran { workshop.run_in("sh", &script).await };

    workshop.program("nightly-invoices", "exit 3");
    assert_eq!(run().await.code, Some(3));
    assert_eq!(told(&base, "nightly-invoices").await, []);

    workshop.program("nightly-invoices", "exit 0");
    let ran = run().await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:#?}");
    assert_eq!(told(&base, "nightly-invoices").await, [("ok".to_owned(), Value::Null, Value::Null)]);

    gotel.kill9();
    let ran = run().await;
    assert_eq!(ran.code, Some(0), "a good run stays one: {ran:#?}");
    assert!(ran.err.contains("GoTel did not take the check-in"), "{}", ran.err);
    workshop.program("nightly-invoices", "exit 3");
    assert_eq!(run().await.code, Some(3));
}

#[tokio::test]
async fn the_cronjob_with_traps_tells_start_and_exit_code_of_each_run() {
    let (workshop, mut gotel, base) = gotel().await;
    reserve(&base, "exchange-rates").await;
    let script = script(&workshop, "cronjob-start-fail.yaml", "exchange-rates");
    let run = async || -> Ran { workshop.run_in("sh", &script).await };
    let rid = Value::from("exchange-rates-1-abcde");

    workshop.program("exchange-rates", "exit 0");
    assert_eq!(run().await.code, Some(0));
    workshop.program("exchange-rates", "exit 7");
    assert_eq!(run().await.code, Some(7));
    let expected = [("start", Value::Null), ("ok", 0.into()), ("start", Value::Null), ("fail", 7.into())];
    assert_eq!(
        told(&base, "exchange-rates").await,
        expected.map(|(kind, code)| (kind.to_owned(), code, rid.clone()))
    );

    // Kubernetes ends a pod with SIGTERM to its first process, which is the shell.
    workshop.program("exchange-rates", "echo $$ >\"$WORKSHOP/job\"; exec sleep 600");
    let kills = "sh -c \"$SCRIPT\" & shell=$!; until [ -s \"$WORKSHOP/job\" ]; do sleep 0.05; done; kill $shell; wait $shell";
    let mut asked = Workshop::new();
    asked.env = workshop.env.clone();
    asked.env.push(("SCRIPT".into(), script.clone()));
    asked.env.push(("WORKSHOP".into(), workshop.path().display().to_string()));
    assert_eq!(asked.run_in("sh", kills).await.code, Some(143));
    assert_eq!(told(&base, "exchange-rates").await.last().unwrap().1, 143);
    let job = std::fs::read_to_string(workshop.path().join("job")).unwrap();
    let proc = format!("/proc/{}", job.trim());
    eventually(SOON, "the job to have ended too", async || !std::path::Path::new(&proc).exists()).await;

    gotel.kill9();
    workshop.program("exchange-rates", "exit 4");
    let ran = run().await;
    assert_eq!(ran.code, Some(4), "{ran:#?}");
    assert!(
        ran.err.contains("GoTel did not take: start") && ran.err.contains("GoTel did not take: 4"),
        "{}",
        ran.err
    );
}

#[tokio::test]
async fn the_cronjob_controller_makes_jobs_of_the_examples() {
    let Some(cluster) = Cluster::shared() else { return };
    let namespace = cluster.namespace("cronjob").await;
    let examples = [("cronjob.yaml", "nightly-invoices"), ("cronjob-start-fail.yaml", "exchange-rates")];
    for (example, _) in examples {
        let manifest = std::fs::read_to_string(at(&format!("examples/kubernetes/{example}"))).unwrap();
        let mut cronjob = object(&manifest, "CronJob");
        // The next full minute, not the next night.
        cronjob["spec"]["schedule"] = "* * * * *".into();
        namespace.apply(&cronjob.to_string()).await.ok();
    }
    for (_, name) in examples {
        let made = format!("the controller to make a job of {name}");
        let job = eventually(SOON * 3, made, async || {
            let jobs = namespace.json(&["get", "jobs"]).await;
            let owned = |job: &&Value| job["metadata"]["ownerReferences"][0]["name"] == name;
            let job = jobs["items"].as_array().unwrap().iter().find(owned).cloned();
            job.map(|job| job["metadata"]["name"].as_str().unwrap().to_owned())
        })
        .await;
        let pods = namespace.pods(&format!("job-name={job}")).await;
        namespace.pod_becomes(&pods[0], "Succeeded").await;
        let args = ["wait", "--for=condition=Complete", "--timeout=60s", &format!("job/{job}")];
        namespace.kubectl(&args).await.ok();
    }
}

#[tokio::test]
async fn helm_test_finds_a_gotel_that_is_ready_and_no_other() {
    let Some(cluster) = Cluster::shared() else { return };
    let (mut workshop, mut gotel, base) = gotel().await;
    let rendered = template(&cluster, &["charts/gotel/ci/mysql-values.yaml"], &[]).await.ok();
    let script = object(&rendered, "Pod")["spec"]["containers"][0]["args"][0].as_str().unwrap().to_owned();
    let ran = workshop.run_in("sh", &script).await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    assert_eq!(ran.out, "GoTel is ready and takes check-ins.\n");
    gotel.kill9();
    assert_ne!(workshop.run_in("sh", &script).await.code, Some(0));

    let (_open, open) = workshop.serve("gotel serve").await;
    workshop.env.push(("GOTEL_URL".into(), open.clone()));
    assert_ne!(open, base);
    assert_ne!(workshop.run_in("sh", &script).await.code, Some(0), "one that asks for no token is another");
    let rendered = template(&cluster, &["charts/gotel/ci/sqlite-values.yaml"], &[]).await.ok();
    let script = object(&rendered, "Pod")["spec"]["containers"][0]["args"][0].as_str().unwrap().to_owned();
    let ran = workshop.run_in("sh", &script).await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
}
