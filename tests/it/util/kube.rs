//! A Kubernetes API inside this process, as far as the controller uses one, and a controller at work on it.
//!
//! Promises: a watch first replays what happened since its list; a write that changes nothing makes no event and no
//! version; a patch that names another uid is refused; a list keeps to a selector `label=value`; every request is on
//! record. Does not promise: rights, validation, defaults, selectors of a watch; those are asked of a real API server.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::Bytes;
use futures::StreamExt;
use futures::channel::mpsc;
use gotel::coordinator::{self, Standing, Timers};
use gotel::lifecycle::{LoopAge, Loops, Tasks};
use gotel::metrics::Metrics;
use gotel::operator::config::{Flags, OperatorConfig, Written};
use gotel::operator::{Operator, Parts};
use gotel::reservation::routing::{Card, Routes};
use gotel::store::{Store, controller_scope};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use super::wait::eventually;

type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// What a request was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub method: Method,
    pub path: String,
    pub body: Value,
}

#[derive(Default)]
struct State {
    version: u64,
    uids: u64,
    /// `namespace/name` → the object.
    objects: BTreeMap<String, Value>,
    history: Vec<(u64, Value)>,
    watches: Vec<(String, mpsc::UnboundedSender<Value>)>,
    asked: Vec<Asked>,
    definition: Option<String>,
    kube_system: String,
    /// Requests are not answered at all.
    frozen: bool,
    /// Nor are those with this in their path.
    hanging: Option<&'static str>,
    /// Status code for everything.
    failing: Option<u16>,
    /// Paths with this in them are forbidden.
    forbidden: Vec<&'static str>,
}

/// The API.
#[derive(Clone)]
pub struct KubeApi(Arc<Mutex<State>>);

impl KubeApi {
    /// With the definition, and no objects.
    pub fn new() -> Self {
        let state =
            State { definition: Some("crd-1".into()), kube_system: "cluster-1".into(), ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let bytes = body.collect().await.unwrap().to_bytes();
                let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                let path = parts.uri.path_and_query().unwrap().to_string();
                let hangs =
                    |state: &State| state.frozen || state.hanging.is_some_and(|part| path.contains(part));
                if hangs(&api.state()) {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Infallible>(api.answer(parts.method, &path, body))
            }
        });
        Client::new(service, "gotel-system")
    }

    /// Applies an object: a new one, or another spec for one that is there.
    pub fn apply(&self, namespace: &str, name: &str, spec: Value) {
        self.apply_with(namespace, name, spec, json!({}));
    }

    /// The same with annotations.
    pub fn apply_with(&self, namespace: &str, name: &str, spec: Value, annotations: Value) {
        let mut state = self.state();
        let key = format!("{namespace}/{name}");
        let mut object = state.objects.get(&key).cloned().unwrap_or_else(|| {
            json!({
                "apiVersion": "gotel.dev/v1alpha1", "kind": "Reservation",
                "metadata": {
                    "namespace": namespace, "name": name, "generation": 0,
                    "creationTimestamp": "2026-01-02T03:04:05Z", "managedFields": [{"manager": "kubectl"}],
                },
            })
        });
        if object["metadata"]["uid"].is_null() {
            state.uids += 1;
            object["metadata"]["uid"] = json!(format!("uid-{}", state.uids));
        }
        if object["spec"] != spec {
            object["spec"] = spec;
            let generation = object["metadata"]["generation"].as_i64().unwrap() + 1;
            object["metadata"]["generation"] = json!(generation);
        }
        object["metadata"]["annotations"] = annotations;
        state.put(&key, object);
    }

    /// Gives an object this label and no other. (As it is a test's own to say, no watch tells of it.)
    pub fn label(&self, namespace: &str, name: &str, key: &str, value: &str) {
        let mut state = self.state();
        let object = state.objects.get_mut(&format!("{namespace}/{name}")).expect("it is there");
        object["metadata"]["labels"] = json!({ key: value });
    }

    /// Deletes an object, as `kubectl delete` does.
    pub fn delete(&self, namespace: &str, name: &str) {
        let mut state = self.state();
        state.remove(&format!("{namespace}/{name}"));
    }

    /// Lets an object vanish without an event, as while nobody watches.
    pub fn lose(&self, namespace: &str, name: &str) {
        self.state().objects.remove(&format!("{namespace}/{name}"));
    }

    /// Deletes the definition, and so all objects; `again`: the uid of the one made afterwards.
    pub fn delete_definition(&self, again: Option<&str>) {
        let mut state = self.state();
        state.definition = None;
        for key in state.objects.keys().cloned().collect::<Vec<_>>() {
            state.remove(&key);
        }
        state.watches.clear();
        state.definition = again.map(str::to_owned);
    }

    /// Makes the definition, under this uid.
    pub fn define(&self, uid: &str) {
        self.state().definition = Some(uid.into());
    }

    /// Ends every watch and forgets what happened: the next one has to list again (410 Gone).
    pub fn compact(&self) {
        let mut state = self.state();
        state.history.clear();
        state.version += 1000;
        let gone = json!({"type": "ERROR", "object": status(410, "Expired", "too old resource version")});
        for (_, watch) in std::mem::take(&mut state.watches) {
            let _ = watch.unbounded_send(gone.clone());
        }
    }

    /// Requests hang from now on, and watches are silent; or no longer.
    pub fn freeze(&self, frozen: bool) {
        self.state().frozen = frozen;
    }

    /// Requests with this in their path hang from now on; None: no longer.
    pub fn hang(&self, part: Option<&'static str>) {
        self.state().hanging = part;
    }

    /// Every request gets this code; None: they are served.
    pub fn fail(&self, code: Option<u16>) {
        let mut state = self.state();
        state.failing = code;
        state.watches.clear();
    }

    /// Whatever has this in its path is forbidden.
    pub fn forbid(&self, part: &'static str) {
        self.state().forbidden.push(part);
    }

    /// Nothing is forbidden any more.
    pub fn allow(&self) {
        self.state().forbidden.clear();
    }

    /// The uid of the namespace kube-system.
    pub fn set_kube_system(&self, uid: &str) {
        self.state().kube_system = uid.into();
    }

    /// The object; null if there is none.
    pub fn object(&self, namespace: &str, name: &str) -> Value {
        self.state().objects.get(&format!("{namespace}/{name}")).cloned().unwrap_or_default()
    }

    /// `True/Watching` and the like; "" when it is not said.
    pub fn says(&self, namespace: &str, name: &str, type_: &str) -> String {
        let object = self.object(namespace, name);
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = conditions.iter().find(|c| c["type"] == type_);
        found.map_or_else(String::new, |c| {
            format!("{}/{}", c["status"].as_str().unwrap(), c["reason"].as_str().unwrap())
        })
    }

    /// Waits until a condition says this.
    pub async fn until_says(&self, namespace: &str, name: &str, type_: &str, right: &str) {
        let what = format!("{namespace}/{name} says {type_}={right}");
        eventually(Duration::from_secs(60), what, async || self.says(namespace, name, type_) == right).await;
    }

    /// Every write so far, as `PATCH …/status` or `POST …/events`.
    pub fn writes(&self) -> Vec<Asked> {
        self.state().asked.iter().filter(|asked| asked.method != Method::GET).cloned().collect()
    }

    /// Reasons of the events so far.
    pub fn events(&self) -> Vec<String> {
        let writes = self.writes();
        let events = writes.iter().filter(|asked| asked.path.contains("/events"));
        events.map(|asked| asked.body["reason"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Forgets what was asked.
    pub fn forget(&self) {
        self.state().asked.clear();
    }

    fn answer(&self, method: Method, path: &str, body: Value) -> Reply {
        let mut state = self.state();
        let (plain, query) = path.split_once('?').unwrap_or((path, ""));
        if !query.contains("watch=true") {
            state.asked.push(Asked { method: method.clone(), path: plain.into(), body: body.clone() });
        }
        if let Some(code) = state.failing {
            return refuse(code, "ServiceUnavailable", "failing");
        }
        if state.forbidden.iter().any(|part| plain.contains(part)) {
            return refuse(403, "Forbidden", "forbidden");
        }
        match plain {
            "/version" => {
                return ok(&json!({"major": "1", "minor": "37", "gitVersion": "v1.37.0",
                "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}));
            }
            "/api/v1/namespaces/kube-system" => {
                return ok(&json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                    "metadata": {"name": "kube-system", "uid": state.kube_system}}));
            }
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/reservations.gotel.dev" => {
                return match &state.definition {
                    Some(uid) => ok(&json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
                        "metadata": {"name": "reservations.gotel.dev", "uid": uid}})),
                    None => refuse(404, "NotFound", "no such definition"),
                };
            }
            _ if plain.starts_with("/apis/events.k8s.io/v1/") => return ok(&body),
            _ => {}
        }
        let Some(rest) =
            plain.strip_prefix("/apis/gotel.dev/v1alpha1/").filter(|_| state.definition.is_some())
        else {
            // Of what is not defined the real one says so in plain text.
            let mut reply = Response::new(Full::new(Bytes::from("404 page not found\n")).boxed_unsync());
            *reply.status_mut() = StatusCode::NOT_FOUND;
            return reply;
        };
        let parts: Vec<&str> = rest.split('/').collect();
        match parts.as_slice() {
            ["reservations"] => state.collection("", query),
            ["namespaces", namespace, "reservations"] => state.collection(namespace, query),
            ["namespaces", namespace, "reservations", name] => {
                match state.objects.get(&format!("{namespace}/{name}")) {
                    Some(object) => ok(object),
                    None => refuse(404, "NotFound", "no such object"),
                }
            }
            ["namespaces", namespace, "reservations", name, "status"] => {
                let key = format!("{namespace}/{name}");
                let Some(mut object) = state.objects.get(&key).cloned() else {
                    return refuse(404, "NotFound", "no such object");
                };
                if object["metadata"]["uid"] != body["metadata"]["uid"] {
                    return refuse(409, "Conflict", "another uid");
                }
                object["status"] = body["status"].clone();
                state.put(&key, object.clone());
                ok(&object)
            }
            _ => refuse(404, "NotFound", "no such path"),
        }
    }
}

impl State {
    fn put(&mut self, key: &str, mut object: Value) {
        let before = self.objects.get(key).cloned();
        if before.as_ref() == Some(&object) {
            return;
        }
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let kind = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.objects.insert(key.to_owned(), object.clone());
        self.tell(kind, object);
    }

    fn remove(&mut self, key: &str) {
        let Some(mut object) = self.objects.remove(key) else { return };
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.tell("DELETED", object);
    }

    fn tell(&mut self, kind: &str, object: Value) {
        let event = json!({"type": kind, "object": object});
        self.history.push((self.version, event.clone()));
        self.watches.retain(|(namespace, watch)| {
            !concerns(namespace, &event) || watch.unbounded_send(event.clone()).is_ok()
        });
    }

    fn collection(&mut self, namespace: &str, query: &str) -> Reply {
        let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        let selector = value("labelSelector").and_then(|text| text.split_once("%3D"));
        if value("watch") == Some("true") {
            let since: u64 = value("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0);
            let (send, receive) = mpsc::unbounded();
            for (version, event) in &self.history {
                if *version > since && concerns(namespace, event) {
                    send.unbounded_send(event.clone()).unwrap();
                }
            }
            self.watches.push((namespace.to_owned(), send));
            let frames = receive.map(|event: Value| {
                let mut line = serde_json::to_vec(&event).unwrap();
                line.push(b'\n');
                Ok::<_, Infallible>(Frame::data(Bytes::from(line)))
            });
            return Response::new(StreamBody::new(frames).boxed_unsync());
        }
        let items: Vec<_> = self
            .objects
            .values()
            .filter(|object| namespace.is_empty() || object["metadata"]["namespace"] == namespace)
            .filter(|object| selector.is_none_or(|(key, value)| object["metadata"]["labels"][key] == value))
            .cloned()
            .collect();
        ok(&json!({"apiVersion": "gotel.dev/v1alpha1", "kind": "ReservationList",
            "metadata": {"resourceVersion": self.version.to_string()}, "items": items}))
    }
}

fn concerns(namespace: &str, event: &Value) -> bool {
    namespace.is_empty() || event["object"]["metadata"]["namespace"] == namespace
}

fn ok(value: &Value) -> Reply {
    Response::new(Full::new(Bytes::from(serde_json::to_vec(value).unwrap())).boxed_unsync())
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code})
}

fn refuse(code: u16, reason: &str, message: &str) -> Reply {
    let mut reply = ok(&status(code, reason, message));
    *reply.status_mut() = StatusCode::from_u16(code).unwrap();
    reply
}

/// The configuration `yaml`, for cluster `eu-1` unless it names another.
pub fn configuration(yaml: &str) -> OperatorConfig {
    let mut config = serde_yaml::from_str::<Written>(yaml).unwrap().parse(&Flags::default()).unwrap();
    config.cluster.get_or_insert_with(|| "eu-1".into());
    config
}

/// A controller at work.
pub struct Controller {
    pub metrics: Arc<Metrics>,
    loops: Arc<Loops>,
    tasks: Tasks,
}

impl Controller {
    /// For cluster `eu-1`, or the one that `yaml`, the further configuration, names.
    pub async fn start(store: &Store, api: &KubeApi, yaml: &str) -> Self {
        Self::configured(store, api, configuration(yaml), "gotel-0").await
    }

    /// As one of several replicas of a cluster.
    pub async fn configured(store: &Store, api: &KubeApi, config: OperatorConfig, replica: &str) -> Self {
        let (metrics, loops, bar) = (Arc::new(Metrics::new()), Arc::<Loops>::default(), Arc::default());
        let (publish, leads) = tokio::sync::watch::channel(None);
        let scope = controller_scope(config.cluster.as_deref().unwrap());
        store.prepare_lease(scope).await.unwrap();
        let card = |name: &str| Card {
            name: name.into(),
            default: true,
            per_address: false,
            folds: false,
            fallback: Vec::new(),
        };
        let mut tasks = Tasks::default();
        let parts = Parts {
            store: store.clone(),
            config,
            routes: Routes::new(vec![card("chat")]),
            replica: replica.into(),
            metrics: Arc::clone(&metrics),
            loops: Arc::clone(&loops),
            bar: Arc::clone(&bar),
            leads,
        };
        let operator = Operator::with_client(parts, api.client());
        let standing = Standing {
            store: store.clone(),
            replica: replica.into(),
            timers: Timers::SHARED.on(store.dialect()),
            metrics: Arc::clone(&metrics),
            loops: Arc::clone(&loops),
            bar,
        };
        coordinator::stand(scope, &standing, publish, &mut tasks);
        tasks.spawn("controller", operator.run(tasks.stop()));
        Self { metrics, loops, tasks }
    }

    /// The controller's loop: its age, and what it came to.
    pub fn pulse(&self) -> LoopAge {
        let found = self.loops.ages().into_iter().find(|age| age.name == "controller");
        found.expect("it is registered")
    }

    /// The value of a figure; None: it has no series.
    pub fn figure(&self, name: &str) -> Option<f64> {
        let page = self.metrics.render();
        let line = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let of_a_cluster = rest.strip_prefix("{cluster=\"").and_then(|rest| rest.split_once("\"}"));
            of_a_cluster.map_or(rest, |(_, rest)| rest).trim().parse().ok()
        };
        page.lines().find_map(line)
    }

    /// Waits until a figure has this value.
    pub async fn until_figure(&self, name: &str, right: f64) {
        let what = format!("{name} is {right}");
        eventually(Duration::from_secs(60), what, async || self.figure(name) == Some(right)).await;
    }

    /// Ends it in order.
    pub async fn stop(self) {
        assert!(self.tasks.finish(Duration::from_secs(10)).await, "it ends in time");
    }
}
