//! The Kubernetes controller, wired: its lease, and itself.

use crate::config::Config;
use crate::coordinator::{self, Coordinator, Standing};
use crate::lifecycle::{Bar, Tasks};
use crate::operator::config::OperatorConfig;
use crate::operator::{Found, Operator, Parts, find as find_cluster};
use crate::reservation::Invalid;
use crate::reservation::routing::Routes;
use crate::store::controller_scope;
use std::sync::Arc;
use tokio::sync::watch;

/// The cluster to write for, if any.
pub(super) async fn find(config: &OperatorConfig) -> Result<Option<Box<kube::Config>>, Invalid> {
    match find_cluster(config).await? {
        Found::Cluster(cluster) => Ok(Some(cluster)),
        Found::Off(why) => {
            if let Some(why) = why {
                tracing::warn!("{why}");
            }
            Ok(None)
        }
    }
}

/// Starts the controller.
pub(super) async fn start(
    cluster: Box<kube::Config>,
    config: &Config,
    c: &Coordinator,
    routes: Routes,
    tasks: &mut Tasks,
) -> Result<(), super::StartError> {
    let name = config.kubernetes.cluster.clone().unwrap_or_default();
    let scope = controller_scope(&name);
    c.store.prepare_lease(scope).await?;
    let bar = Arc::new(Bar::default());
    let (publish, leads) = watch::channel(None);
    let parts = Parts {
        store: c.store.clone(),
        config: config.kubernetes.clone(),
        routes,
        replica: c.replica.clone(),
        metrics: Arc::clone(&c.metrics),
        loops: Arc::clone(&c.loops),
        bar: Arc::clone(&bar),
        leads,
    };
    let controller = Operator::new(parts, *cluster)?;
    coordinator::stand(scope, &Standing { bar, ..Standing::from(c) }, publish, tasks);
    tasks.spawn("controller", controller.run(tasks.stop()));
    tracing::info!(cluster = name, "reservations are kept as Kubernetes objects, too");
    Ok(())
}
