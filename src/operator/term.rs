//! One term: for as long as this replica holds its cluster's lease, objects are watched, looked at and fed.

use super::context::{Context, Guarded, Shared};
use super::feed::{Feed, Place};
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

/// Objects that are looked at at a time. Without a bound a start with thousands of them would be thousands at once.
const AT_A_TIME: u16 = 16;

/// Runs until it is dropped.
pub(super) async fn run(shared: Arc<Shared>, client: Client, leading: Leading) {
    let reporter = Reporter { controller: "gotel".into(), instance: Some(shared.replica.clone()) };
    let ctx = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        leading,
        deleted: Mutex::default(),
        sent: Mutex::new(HashMap::new()),
        shared,
    });
    let namespaces = &ctx.shared.config.namespaces;
    let apis: Vec<Api<Guarded>> = match namespaces.is_empty() {
        true => vec![Api::all(ctx.client.clone())],
        false => namespaces.iter().map(|name| Api::namespaced(ctx.client.clone(), name)).collect(),
    };
    let (mut places, mut controllers) = (Vec::new(), Vec::new());
    for api in apis {
        let (objects, writer) = reflector::store();
        let (look_at, asked) = mpsc::unbounded();
        let controller = Controller::for_stream(watch::stream(api, writer, &ctx), objects.clone())
            .with_config(controller::Config::default().concurrency(AT_A_TIME))
            .reconcile_on(asked)
            .run(reconcile, failed, Arc::clone(&ctx))
            .for_each(async |outcome| {
                if let Err(e) = outcome {
                    // Told where it was met.
                    tracing::trace!(error = %e, "an object was not looked at");
                }
            });
        places.push(Place { objects, look_at });
        controllers.push(controller);
    }
    tokio::select! {
        _ = join_all(controllers) => {}
        () = Feed::new(Arc::clone(&ctx), places).run() => {}
    }
}
