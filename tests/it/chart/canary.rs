//! The Secrets of an installation, every value of which is recognisable, and the places where none may be seen.

use std::collections::BTreeMap;

use reqwest::Client;
use serde_json::{Value, json};

use crate::faults::invariants::no_secret_in;
use crate::util::cluster::{Cluster, Namespace};
use crate::util::db::TestDb;
use crate::util::kubelet::{Journal, Started};
use crate::util::receiver::Receiver;

/// What both clusters' Secrets hold, and what they held.
pub struct Secrets {
    by_name: BTreeMap<&'static str, Value>,
    /// Every value of them that is secret.
    canaries: Vec<String>,
}

/// A value that nothing else contains.
fn canary(name: &str) -> String {
    format!("canary-{name}-{}", uuid::Uuid::new_v4().simple())
}

impl Secrets {
    /// For values-shared.yaml of the examples, with these two in the place of chat and of who watches GoTel.
    pub async fn new(db: &TestDb, chat: &Receiver, watcher: &Receiver) -> Self {
        let names = ["database", "peers", "jobs", "prometheus", "mail", "chat", "hmac", "heartbeat"];
        let [database, peers, jobs, prometheus, mail, path, hmac, heartbeat] = names.map(canary);
        // Of the form that PagerDuty gives it.
        let routing = uuid::Uuid::new_v4().simple().to_string();
        let by_name = BTreeMap::from([
            ("gotel-database", json!({"url": db.url_of_a_user(&database).await})),
            ("gotel-peers", json!({"secret": peers})),
            ("gotel-tokens", json!({"jobs": jobs, "prometheus": prometheus})),
            ("gotel-mail", json!({"password": mail})),
            ("gotel-pagerduty", json!({"routingKey": routing})),
            ("gotel-chat", json!({"url": chat.url(&format!("/{path}")), "hmac": hmac})),
            ("gotel-heartbeat", json!({"url": watcher.url(&format!("/{heartbeat}"))})),
        ]);
        let canaries = vec![database, peers, jobs, prometheus, mail, path, hmac, heartbeat, routing];
        Self { by_name, canaries }
    }

    /// Puts all of them into a namespace.
    pub async fn apply(&self, namespace: &Namespace) {
        for (name, data) in &self.by_name {
            let object = json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data,
            });
            namespace.apply(&object.to_string()).await.ok();
        }
    }

    /// Another address of chat from now on; made of `form` with a canary in place of `{}`, which is returned.
    pub fn renew_chat(&mut self, form: &str) -> String {
        let canary = canary("chat-renewed");
        self.canaries.push(canary.clone());
        self.by_name.get_mut("gotel-chat").expect("it is there")["url"] = form.replace("{}", &canary).into();
        canary
    }

    /// A token of scope `read`.
    pub fn reader(&self) -> &str {
        self.by_name["gotel-tokens"]["prometheus"].as_str().expect("it is text")
    }

    /// That none is seen in what the program prints or writes to a cluster. Returns all Reservations and events there.
    pub async fn are_not_told(&self, cluster: &Cluster, journal: &Journal) -> String {
        let written = cluster.kubectl(&["get", "rsv,events.events.k8s.io", "-A", "-o", "yaml"]).await.ok();
        for one in journal.started() {
            let hidden = self.hidden_from(&one);
            no_secret_in("objects and events", &written, &hidden);
            let log = one.log.text();
            assert!(log.contains("TRACE"), "it tells all it ever tells: {log}");
            no_secret_in("a pod's output", &log, &hidden);
        }
        written
    }

    /// That none is seen on any page, in any answer or figure of a replica.
    pub async fn are_not_served(&self, one: &Started) {
        let client: Client = gotel::alert::client(None).expect("a client can be built");
        for path in [
            "metrics",
            "nodes",
            "status",
            "badguests",
            "reservation",
            "reservation/billing/leaky",
            "reservation/billing/leaky/incidents",
            "status/billing/leaky",
            "livez",
            "readyz",
        ] {
            // As a program asks, and as a browser does.
            for accept in ["application/json", "text/html"] {
                let request = client.get(one.url.join(path).unwrap()).header("accept", accept);
                let answer = request.bearer_auth(self.reader()).send().await.expect("GoTel answers");
                assert!(answer.status().is_success(), "{path}: {}", answer.status());
                let text = answer.text().await.expect("with text");
                no_secret_in(&format!("/{path} as {accept}"), &text, &self.hidden_from(one));
            }
        }
    }

    fn hidden_from<'a>(&'a self, one: &'a Started) -> Vec<&'a str> {
        // What the kubelet brings is a secret, too.
        self.canaries.iter().map(String::as_str).chain([one.token.as_str()]).collect()
    }
}
