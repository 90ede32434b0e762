//! One `gotel serve` of a test: the real program, its configuration file, and a client that talks to it.
//!
//! Promises: [`Node::kill9`] and [`Node::start_again`] keep data folder and configuration; what every life of the
//! program printed is kept.
//! Does not promise: that it listens on the same port in its next life; [`Node::url`] is always the present one.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde_json::{Value, json};
use url::Url;

use super::process::Gotel;

/// How long a client waits for an answer: longer than GoTel may think about it.
const PATIENCE: Duration = Duration::from_secs(40);

/// How long ending may take (reliability, 4d).
const EXIT: Duration = Duration::from_secs(30);

/// The running program.
pub struct Node {
    pub gotel: Gotel,
    pub url: Url,
    pub http: reqwest::Client,
    folder: tempfile::TempDir,
    database_url: String,
    env: Vec<(String, String)>,
    earlier: String,
}

/// An answer: its status and its text.
pub type Answer = (u16, String);

impl Node {
    /// `gotel serve` on this database with this YAML and further variables in its environment; returns when it
    /// listens.
    pub async fn start(database_url: String, yaml: &str, env: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        std::fs::write(folder.path().join("gotel.yaml"), yaml).expect("the folder can be written");
        let env: Vec<_> = env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let mut gotel = spawn(folder.path(), &database_url, &env);
        let url = gotel.url().await;
        let http = client(None);
        Self { gotel, url, http, folder, database_url, env, earlier: String::new() }
    }

    /// From now on the client shows this token.
    pub fn use_token(&mut self, token: &str) {
        self.http = client(Some(token));
    }

    /// A file in the data folder.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("the folder's name is text").to_owned()
    }

    /// SIGKILL.
    pub fn kill9(&mut self) {
        self.gotel.kill9();
    }

    /// SIGTERM, and its end awaited.
    pub async fn end(&mut self) {
        self.gotel.sigterm();
        let status = self.gotel.wait_exit(EXIT).await;
        assert!(status.success(), "it ended with {status}:\n{}", self.gotel.output());
    }

    /// The next life of an ended program; returns when it listens.
    pub async fn start_again(&mut self) {
        self.gotel.kill9();
        self.earlier.push_str(&self.gotel.output());
        self.gotel = spawn(self.folder.path(), &self.database_url, &self.env);
        self.url = self.gotel.url().await;
    }

    /// A life beside the present one, or after it, that is not expected to listen.
    pub fn try_again(&self) -> Gotel {
        spawn(self.folder.path(), &self.database_url, &self.env)
    }

    /// From its next life on, these are the further variables in its environment.
    pub fn set_env(&mut self, env: &[(&str, &str)]) {
        self.env = env.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    }

    /// From its next life on, this is its configuration.
    pub fn configure(&self, yaml: &str) {
        std::fs::write(self.path("gotel.yaml"), yaml).expect("the folder can be written");
    }

    /// What all lives of the program printed.
    pub fn output(&self) -> String {
        format!("{}{}", self.earlier, self.gotel.output())
    }

    /// One request; Err: no answer.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer, String> {
        let url = self.url.join(path).expect("the path is one");
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.map_err(|e| format!("{path}: {e:?}"))?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(|e| format!("{path}: {e:?}"))?;
        Ok((status, text))
    }

    /// GET, answered whatever the status.
    pub async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, None).await.expect("GoTel answers")
    }

    /// GET of JSON.
    pub async fn json(&self, path: &str) -> Value {
        let (status, text) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).expect("the answer is JSON")
    }

    /// POST, answered whatever the status.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.ask(Method::POST, path, Some(body)).await.expect("GoTel answers")
    }

    /// A reservation of an hour, with these fields changed.
    pub async fn reserve(&self, app: &str, component: &str, changes: Value) {
        let mut wish = json!({
            "app": app, "component": component, "frequency": 1, "time_units": "hours",
            "owner": "ops", "notify": "ops@example.org",
        });
        for (field, value) in changes.as_object().into_iter().flatten() {
            wish[field] = value.clone();
        }
        let answer = self.post("/reservation", wish).await;
        assert_eq!(answer.0, 200, "{}", answer.1);
    }

    /// A signal by path: "" for a good run, `/fail`, `/start`, an exit code.
    pub async fn signal(&self, app: &str, component: &str, signal: &str) {
        let path = format!("/checkin/{app}/{component}{signal}");
        let answer = self.ask(Method::POST, &path, None).await.expect("GoTel answers");
        assert_eq!(answer.0, 200, "{}", answer.1);
    }

    /// Tries one check-in; Ok once it is answered 2xx.
    pub async fn try_check_in(&self, app: &str, component: &str) -> Result<(), String> {
        match self.ask(Method::POST, &format!("/checkin/{app}/{component}"), None).await? {
            (200, _) => Ok(()),
            (status, text) => Err(format!("{status}: {text}")),
        }
    }
}

/// The sum of all lines of a metrics page that begin with `name`.
pub fn metric(page: &str, name: &str) -> f64 {
    let lines = page.lines().filter(|line| line.starts_with(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn client(token: Option<&str>) -> reqwest::Client {
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().expect("the token is text"));
    }
    let builder = reqwest::Client::builder().timeout(PATIENCE).no_proxy().default_headers(headers);
    builder.build().expect("a client can be built")
}

fn spawn(folder: &std::path::Path, database_url: &str, env: &[(String, String)]) -> Gotel {
    let config = folder.join("gotel.yaml");
    let config = config.to_str().expect("the folder's name is text");
    let mut all = vec![
        ("GOTEL_DATABASE_URL", database_url),
        ("GOTEL_DATA_DIR", folder.to_str().expect("the folder's name is text")),
        ("GOTEL_LOG", "debug"),
        ("NO_PROXY", "127.0.0.1,localhost"),
        ("no_proxy", "127.0.0.1,localhost"),
    ];
    // An empty one leaves the word to the configuration.
    all.retain(|(_, value)| !value.is_empty());
    all.extend(env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    Gotel::spawn(&["serve", "--listen", "127.0.0.1:0", "--config", config], &all)
}
