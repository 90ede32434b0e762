//! Fake HTTP receivers: PagerDuty's Events API v2, judging events as the real one does, and a plain webhook.
//!
//! Promises: every request that arrived whole is recorded before it is answered, in order, also one that the
//! script then leaves hanging; scripted answers are used up one a request, then the usual one returns.
//! Does not promise: TLS, or to record a request that broke off.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::wait::{eventually, now};

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    /// GET, POST, …
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// When it had arrived whole.
    pub at: Instant,
}

impl Request {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("the body is not JSON: {error}: {:?}", self.body))
    }

    /// A header's text, empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("the header is text"))
    }
}

/// How to answer one request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// As if nothing had been scripted.
    Usual,
    /// This status and an empty body.
    Status(u16),
    /// This status, and a body that repeats the whole request, as frameworks do while they are set up.
    Echo(u16),
    /// This status with a `Retry-After` header.
    RetryAfter(u16, &'static str),
    /// Never.
    Hang,
    /// 200 and the beginning of a body, then the connection breaks.
    CutMidBody,
    /// 200 and a body of this many bytes.
    Huge(usize),
    /// 307 to this address.
    Redirect(String),
}

/// A receiver on a port of its own. Dropping it closes the port.
pub struct Receiver {
    addr: SocketAddr,
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Webhook,
    PagerDuty,
}

struct Shared {
    kind: Kind,
    seen: Mutex<Vec<Request>>,
    script: Mutex<Script>,
    incidents: Mutex<BTreeSet<String>>,
}

struct Script {
    next: VecDeque<Answer>,
    then: Answer,
    by_path: BTreeMap<String, Answer>,
}

impl Receiver {
    /// Answers 200 to everything.
    pub async fn webhook() -> Self {
        Self::start(Kind::Webhook).await
    }

    /// Answers `POST /v2/enqueue` as PagerDuty does: 202, or 400 with what is wrong with the event.
    pub async fn pagerduty() -> Self {
        Self::start(Kind::PagerDuty).await
    }

    async fn start(kind: Kind) -> Self {
        let script = Script { next: VecDeque::new(), then: Answer::Usual, by_path: BTreeMap::new() };
        let shared = Arc::new(Shared {
            kind,
            seen: Mutex::default(),
            script: Mutex::new(script),
            incidents: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let addr = listener.local_addr().unwrap();
        let app = Router::new().fallback(receive).with_state(shared.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.expect("serving goes on") });
        Self { addr, shared, serving }
    }

    /// The address of a path on it, such as `/v2/enqueue`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers the next requests so, one each.
    pub fn next(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.script.lock().unwrap().next.extend(answers);
    }

    /// Answers every request so from now on, once the answers of [`Receiver::next`] are used up.
    pub fn always(&self, answer: Answer) {
        self.shared.script.lock().unwrap().then = answer;
    }

    /// Answers requests for this path so, before any other script.
    pub fn at(&self, path: &str, answer: Answer) {
        self.shared.script.lock().unwrap().by_path.insert(path.into(), answer);
    }

    /// What arrived so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Waits until at least `count` requests have arrived, and returns all.
    #[track_caller]
    pub fn received(&self, count: usize, deadline: Duration) -> impl Future<Output = Vec<Request>> {
        let what = format!("{count} requests at {}", self.addr);
        eventually(deadline, what, async move || {
            let requests = self.requests();
            if requests.len() >= count { Ok(requests) } else { Err(format!("{} requests", requests.len())) }
        })
    }

    /// PagerDuty's open incidents: the dedup keys triggered and not resolved.
    pub fn open_incidents(&self) -> BTreeSet<String> {
        self.shared.incidents.lock().unwrap().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn receive(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let request = Request { method, path, headers, body, at: now() };
    shared.seen.lock().unwrap().push(request.clone());
    let answer = shared.script.lock().unwrap().answer(uri.path());
    match answer {
        Answer::Usual if shared.kind == Kind::PagerDuty => shared.judge(&request),
        Answer::Usual => StatusCode::OK.into_response(),
        Answer::Status(status) => code(status).into_response(),
        Answer::Echo(status) => (code(status), format!("{request:?}")).into_response(),
        Answer::RetryAfter(status, after) => (code(status), [(header::RETRY_AFTER, after)]).into_response(),
        Answer::Hang => std::future::pending().await,
        Answer::CutMidBody => {
            let beginning = stream::iter([Ok(Bytes::from_static(b"{\"status\":\"suc"))]);
            let end = stream::once(async {
                // The pause lets the server send the beginning.
                tokio::task::yield_now().await;
                Err("the connection breaks here")
            });
            Response::new(Body::from_stream(beginning.chain(end)))
        }
        Answer::Huge(size) => {
            const PIECE: &[u8] = &[b'x'; 64 * 1024];
            let pieces = (0..size).step_by(PIECE.len()).map(move |from| {
                Ok::<_, Infallible>(Bytes::from_static(&PIECE[..PIECE.len().min(size - from)]))
            });
            Response::new(Body::from_stream(stream::iter(pieces)))
        }
        Answer::Redirect(to) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, to)]).into_response(),
    }
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("the script names a real status")
}

impl Script {
    fn answer(&mut self, path: &str) -> Answer {
        let here = self.by_path.get(path).cloned();
        here.or_else(|| self.next.pop_front()).unwrap_or_else(|| self.then.clone())
    }
}

impl Shared {
    /// What PagerDuty answers to an event.
    fn judge(&self, request: &Request) -> Response {
        if request.path != "/v2/enqueue" {
            return StatusCode::NOT_FOUND.into_response();
        }
        if request.method != Method::POST {
            return StatusCode::METHOD_NOT_ALLOWED.into_response();
        }
        let event = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
        let errors = faults_of(&event);
        if !errors.is_empty() {
            let reply =
                json!({ "status": "invalid event", "message": "Event object is invalid", "errors": errors });
            return (StatusCode::BAD_REQUEST, axum::Json(reply)).into_response();
        }
        let given = event["dedup_key"].as_str().map(str::to_owned);
        let dedup_key = given.unwrap_or_else(|| uuid::Uuid::new_v4().simple().to_string());
        let mut incidents = self.incidents.lock().unwrap();
        match event["event_action"].as_str() {
            Some("trigger") => incidents.insert(dedup_key.clone()),
            Some("resolve") => incidents.remove(&dedup_key),
            _ => false,
        };
        let reply = json!({ "status": "success", "message": "Event processed", "dedup_key": dedup_key });
        (StatusCode::ACCEPTED, axum::Json(reply)).into_response()
    }
}

/// What is wrong with an event, in PagerDuty's words; nothing for a good one.
fn faults_of(event: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let blank = |value: &Value| value.as_str().is_none_or(|text| text.trim().is_empty());
    let too_long = |value: &Value, most| value.as_str().is_some_and(|text| text.chars().count() > most);
    if !event.is_object() {
        return vec!["Event object is not a JSON object".into()];
    }
    if event["routing_key"].as_str().is_none_or(|key| key.len() != 32) {
        faults.push("'routing_key' is missing or not 32 characters long".into());
    }
    if too_long(&event["dedup_key"], 255) {
        faults.push("Length of 'dedup_key' exceeds 255 characters".into());
    }
    let payload = &event["payload"];
    match event["event_action"].as_str() {
        Some("trigger") => {
            for field in ["summary", "source", "severity"] {
                if blank(&payload[field]) {
                    faults.push(format!("'payload.{field}' is missing or blank"));
                }
            }
            if too_long(&payload["summary"], 1024) {
                faults.push("Length of 'payload.summary' exceeds 1024 characters".into());
            }
            let severity = payload["severity"].as_str().unwrap_or("info");
            if !["critical", "error", "warning", "info"].contains(&severity) {
                faults.push("'payload.severity' is not one of critical, error, warning, info".into());
            }
        }
        Some("acknowledge" | "resolve") if blank(&event["dedup_key"]) => {
            faults.push("'dedup_key' is missing or blank".into());
        }
        Some("acknowledge" | "resolve") => {}
        _ => faults.push("'event_action' is not one of trigger, acknowledge, resolve".into()),
    }
    faults
}
