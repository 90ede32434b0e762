//! Check-ins from many keep-alive clients at once, and a record of those that were acknowledged.
//!
//! Promises: every 2xx answer is in the report, under the note that its check-in carried, and nothing else is;
//! no note is used twice, also not by another [`Load`]. Each client has one request on its way at a time.
//! Does not promise: that a check-in which was *not* acknowledged is not stored.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::wait::{now, slowness};

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
    /// When the request began.
    pub sent: Instant,
    /// When the answer was there.
    pub answered: Instant,
}

/// How a client behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// How long one request may take.
    pub patience: Duration,
    /// Between two requests of one client.
    pub pause: Duration,
}

impl Manners {
    /// As fast as it goes, and more patient than any answer GoTel may think about.
    pub const EAGER: Self = Self { patience: Duration::from_secs(30), pause: Duration::ZERO };

    /// A job's: it goes elsewhere when it is not answered soon.
    pub const CIVIL: Self = Self { patience: Duration::from_secs(6), pause: Duration::from_millis(100) };
}

/// Where a load goes: the replicas that are open at the moment, as a load balancer knows them.
#[derive(Clone, Debug)]
pub struct Doors(Arc<Mutex<Vec<Url>>>);

impl Doors {
    /// These.
    pub fn new(open: Vec<Url>) -> Self {
        Self(Arc::new(Mutex::new(open)))
    }

    /// From now on these; requests on their way go on.
    pub fn set(&self, open: Vec<Url>) {
        *self.0.lock().unwrap() = open;
    }

    /// The `turn`th, counting round; None: all are shut.
    fn pick(&self, turn: usize) -> Option<Url> {
        let open = self.0.lock().unwrap();
        let door = open.get(turn % open.len().max(1))?;
        Some(door.join("/checkin").expect("a door is a URL"))
    }
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
        Self::among(&Doors::new(vec![base.clone()]), keys, clients, headers, Manners::EAGER)
    }

    /// The same among several replicas in turn; after each request that was not acknowledged, a client goes to
    /// the next one.
    pub fn among(
        doors: &Doors,
        keys: &[(String, String)],
        clients: usize,
        headers: &[(&str, &str)],
        manners: Manners,
    ) -> Self {
        let stop = CancellationToken::new();
        let progress = Arc::new(Progress::default());
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let load = uuid::Uuid::new_v4().simple().to_string();
        let mut set = JoinSet::new();
        // Building one costs more than many check-ins; each client keeps a connection of its own all the same.
        let http = reqwest::Client::builder().timeout(manners.patience).no_proxy().build();
        let http = http.expect("a client can be built");
        for number in 0..clients {
            let client = Client {
                http: http.clone(),
                doors: doors.clone(),
                pause: manners.pause,
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
    doors: Doors,
    pause: Duration,
    headers: Vec<(String, String)>,
    keys: Vec<(String, String)>,
    mark: String,
    first: usize,
}

impl Client {
    async fn run(self, stop: CancellationToken, progress: Arc<Progress>) -> Report {
        let mut report = Report::default();
        let mut turn = self.first;
        for (sequence, (app, component)) in
            self.keys.iter().cycle().skip(self.first % self.keys.len()).enumerate()
        {
            if stop.is_cancelled() {
                break;
            }
            let Some(door) = self.doors.pick(turn) else {
                slowness(BREATH).await;
                continue;
            };
            let note = format!("{}-{sequence}", self.mark);
            let sent = now();
            let outcome = self.check_in(door, app, component, &note).await;
            if !matches!(outcome, Ok(200..300)) {
                turn += 1;
            }
            match outcome {
                Ok(status) if (200..300).contains(&status) => {
                    progress.acknowledged.fetch_add(1, Ordering::Relaxed);
                    report.acknowledged.push(Acknowledged {
                        app: app.clone(),
                        component: component.clone(),
                        note,
                        sent,
                        answered: now(),
                    });
                }
                Ok(status) => *report.refused.entry(status).or_default() += 1,
                Err(_) => {
                    progress.unanswered.fetch_add(1, Ordering::Relaxed);
                    report.unanswered += 1;
                    slowness(BREATH).await;
                }
            }
            slowness(self.pause).await;
        }
        report
    }

    /// The status, once the whole answer has arrived.
    async fn check_in(&self, door: Url, app: &str, component: &str, note: &str) -> reqwest::Result<u16> {
        let body = json!({ "app": app, "component": component, "notes": note });
        let mut request = self.http.post(door).json(&body);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        answer.bytes().await?;
        Ok(status)
    }
}
