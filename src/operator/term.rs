//! One term: for as long as this replica holds its cluster's lease, objects are watched, looked at and fed.

use super::context::{AT_A_TIME, Context, Guarded, Shared};
use super::feed::Feed;
use super::place::{Health, Place};
use super::reconcile::{failed, reconcile};
use super::watch;
use crate::store::Leading;
use futures::StreamExt;
use futures::channel::mpsc;
use futures::future::join_all;
use kube::{Api, Client};
use kube_runtime::controller::{self, Controller};
use kube_runtime::events::{Recorder, Reporter};
use kube_runtime::reflector;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::Notify;

/// Runs until it is dropped.
pub(super) async fn run(shared: Arc<Shared>, client: Client, leading: Leading) {
    let reporter = Reporter { controller: "gotel".into(), instance: Some(shared.pod.clone()) };
    let ctx = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        leading,
        deleted: Mutex::default(),
        sent: Mutex::new(HashMap::new()),
        listed: Notify::new(),
        room: Notify::new(),
        shared,
    });
    let namespaces = &ctx.shared.config.namespaces;
    let scopes: Vec<Option<String>> = match namespaces.is_empty() {
        true => vec![None],
        false => namespaces.iter().cloned().map(Some).collect(),
    };
    let (mut places, mut controllers) = (Vec::new(), Vec::new());
    for namespace in scopes {
        let api: Api<Guarded> = match &namespace {
            None => Api::all(ctx.client.clone()),
            Some(name) => Api::namespaced(ctx.client.clone(), name),
        };
        let (objects, writer) = reflector::store();
        let (look_at, asked) = mpsc::unbounded();
        let health = Arc::new(Health::default());
        let controller = Controller::for_stream(watch::stream(api, writer, &ctx, &health), objects.clone())
            .with_config(controller::Config::default().concurrency(AT_A_TIME))
            .reconcile_on(asked)
            .run(reconcile, failed, Arc::clone(&ctx))
            .for_each(async |outcome| {
                if let Err(e) = outcome {
                    // Told where it was met.
                    tracing::trace!(error = %e, "an object was not looked at");
                }
            });
        places.push(Place { namespace, objects, look_at, health });
        controllers.push(controller);
    }
    tokio::select! {
        _ = join_all(controllers) => {}
        () = Feed::new(Arc::clone(&ctx), places).run() => {}
    }
}
