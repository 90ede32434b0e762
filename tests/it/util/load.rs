//! Check-ins from many keep-alive clients at once, and a record of those that were acknowledged.
//!
//! Promises: every 2xx answer is in the report, under the note that its check-in carried, and nothing else is;
//! no note is used twice, also not by another [`Load`]. Each client has one request on its way at a time.
//! Does not promise: that a check-in which was *not* acknowledged is not stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::wait::slowness;

/// How long one request may take: longer than any answer GoTel may think about.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a client pauses after a request that got no answer, so that a dead server is not hammered.
const BREATH: Duration = Duration::from_millis(20);

/// A check-in that was answered 2xx.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acknowledged {
    /// The reservation's app.
    pub app: String,
    /// The reservation's component.
    pub component: String,
    /// The notes sent with it: its mark, unlike any other.
    pub note: String,
}

/// What came of a load.
#[derive(Debug, Default)]
pub struct Report {
    /// What was answered 2xx.
    pub acknowledged: Vec<Acknowledged>,
    /// How often each other status was answered.
    pub refused: BTreeMap<u16, u64>,
    /// Requests that got no answer: refused, reset, timed out.
    pub unanswered: u64,
}

/// A load that is going on.
pub struct Load {
    stop: CancellationToken,
    clients: JoinSet<Report>,
    progress: Arc<Progress>,
}

#[derive(Default)]
struct Progress {
    acknowledged: AtomicU64,
    unanswered: AtomicU64,
}

impl Load {
    /// `clients` clients begin to check in for these `(app, component)` reservations in turn, at `base`, with
    /// these further headers.
    pub fn start(base: &Url, keys: &[(String, String)], clients: usize, headers: &[(&str, &str)]) -> Self {
        let stop = CancellationToken::new();
        let progress = Arc::new(Progress::default());
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let load = uuid::Uuid::new_v4().simple().to_string();
        let mut set = JoinSet::new();
        // Building one costs more than many check-ins; each client keeps a connection of its own all the same.
        let http = reqwest::Client::builder().timeout(PATIENCE).no_proxy().build();
        let http = http.expect("a client can be built");
        for number in 0..clients {
            let client = Client {
                http: http.clone(),
                url: base.join("/checkin").expect("the base is a URL"),
                headers: headers.clone(),
                keys: keys.to_vec(),
                mark: format!("{load}-{number}"),
                first: number,
            };
            set.spawn(client.run(stop.clone(), progress.clone()));
        }
        Self { stop, clients: set, progress }
    }

    /// How many check-ins were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.progress.acknowledged.load(Ordering::Relaxed)
    }

    /// How many requests got no answer so far.
    pub fn unanswered(&self) -> u64 {
        self.progress.unanswered.load(Ordering::Relaxed)
    }

    /// Lets each client finish its request, and tells what came of them all.
    pub async fn stop(mut self) -> Report {
        self.stop.cancel();
        let mut all = Report::default();
        while let Some(one) = self.clients.join_next().await {
            let one = one.expect("a load client does not panic");
            all.acknowledged.extend(one.acknowledged);
            all.unanswered += one.unanswered;
            for (status, times) in one.refused {
                *all.refused.entry(status).or_default() += times;
            }
        }
        all
    }
}

struct Client {
    http: reqwest::Client,
    url: Url,
    headers: Vec<(String, String)>,
    keys: Vec<(String, String)>,
    mark: String,
    first: usize,
}

impl Client {
    async fn run(self, stop: CancellationToken, progress: Arc<Progress>) -> Report {
        let mut report = Report::default();
        for (sequence, (app, component)) in
            self.keys.iter().cycle().skip(self.first % self.keys.len()).enumerate()
        {
            if stop.is_cancelled() {
                break;
            }
            let note = format!("{}-{sequence}", self.mark);
            match self.check_in(app, component, &note).await {
                Ok(status) if (200..300).contains(&status) => {
                    progress.acknowledged.fetch_add(1, Ordering::Relaxed);
                    report.acknowledged.push(Acknowledged {
                        app: app.clone(),
                        component: component.clone(),
                        note,
                    });
                }
                Ok(status) => *report.refused.entry(status).or_default() += 1,
                Err(_) => {
                    progress.unanswered.fetch_add(1, Ordering::Relaxed);
                    report.unanswered += 1;
                    slowness(BREATH).await;
                }
            }
        }
        report
    }

    /// The status, once the whole answer has arrived.
    async fn check_in(&self, app: &str, component: &str, note: &str) -> reqwest::Result<u16> {
        let body = json!({ "app": app, "component": component, "notes": note });
        let mut request = self.http.post(self.url.clone()).json(&body);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        answer.bytes().await?;
        Ok(status)
    }
}
