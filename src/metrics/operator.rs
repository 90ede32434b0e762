//! Figures of the Kubernetes controller. None has a series before its first value: without a cluster there are none.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::OnceLock;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ready {
    ready: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Came {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Write {
    kind: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Single {
    cluster: String,
}

/// See the module.
#[derive(Debug, Default)]
pub struct OperatorFigures {
    cluster: OnceLock<String>,
    leads: Family<Single, Gauge>,
    api_up: Family<Single, Gauge>,
    cluster_conflict: Family<Single, Gauge>,
    objects: Family<Ready, Gauge>,
    reconciliations: Family<Came, Counter>,
    writes: Family<Write, Counter>,
    watches: Family<State, Gauge>,
    watch_restarts: Family<Single, Counter>,
    watch_told: Family<Single, Gauge>,
    backlog: Family<Single, Gauge>,
    orphans: Family<Single, Gauge>,
    braked: Family<Single, Gauge>,
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl OperatorFigures {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let f = Self::default();
        let mut gauge =
            |name: &str, help: &str, g: &Family<Single, Gauge>| registry.register(name, help, g.clone());
        gauge("operator_leads", "Whether this replica writes for its cluster", &f.leads);
        gauge("operator_api_up", "Whether the Kubernetes API answers", &f.api_up);
        gauge(
            "operator_cluster_conflict",
            "Whether another cluster has this one's name",
            &f.cluster_conflict,
        );
        gauge(
            "operator_watch_last_event_timestamp_seconds",
            "When a watch last brought anything, in seconds since 1970",
            &f.watch_told,
        );
        gauge("operator_status_backlog", "Objects whose status waits to be refreshed", &f.backlog);
        gauge("operator_orphans", "Reservations whose object is missing", &f.orphans);
        gauge("operator_sweep_braked", "Missing objects that are not believed to be gone", &f.braked);
        registry.register("operator_objects", "Reservation objects by readiness", f.objects.clone());
        registry.register(
            "operator_reconciliations",
            "Objects looked at, by outcome",
            f.reconciliations.clone(),
        );
        registry.register("operator_api_writes", "Writes to the Kubernetes API", f.writes.clone());
        registry.register("operator_watches", "Watches of objects, by how they stand", f.watches.clone());
        registry.register("operator_watch_restarts", "Complete lists of objects", f.watch_restarts.clone());
        f
    }

    /// Names the cluster; the first name stays.
    pub fn of(&self, cluster: &str) {
        let _ = self.cluster.set(cluster.to_owned());
    }

    fn single(&self) -> Single {
        Single { cluster: self.cluster.get().cloned().unwrap_or_default() }
    }

    /// Whether this replica writes for its cluster. One that does not knows nothing of the objects.
    pub fn leads(&self, leads: bool) {
        self.leads.get_or_create(&self.single()).set(i64::from(leads));
        if !leads {
            self.objects.clear();
            self.watches.clear();
            for of_the_cluster in [&self.backlog, &self.orphans, &self.braked] {
                of_the_cluster.clear();
            }
        }
    }

    /// Whether the Kubernetes API answers.
    pub fn api_up(&self, up: bool) {
        self.api_up.get_or_create(&self.single()).set(i64::from(up));
    }

    /// Whether another cluster has this one's name.
    pub fn cluster_conflict(&self, conflict: bool) {
        self.cluster_conflict.get_or_create(&self.single()).set(i64::from(conflict));
    }

    /// Objects by their condition `Ready`.
    pub fn objects(&self, ready: &'static str, n: usize) {
        self.objects.get_or_create(&Ready { ready }).set(count(n));
    }

    /// An object was looked at.
    pub fn reconciled(&self, result: &'static str) {
        self.reconciliations.get_or_create(&Came { result }).inc();
    }

    /// A write to the Kubernetes API.
    pub fn wrote(&self, kind: &'static str, ok: bool) {
        self.writes.get_or_create(&Write { kind, result: if ok { "ok" } else { "failed" } }).inc();
    }

    /// So many watches stand so.
    pub fn watches(&self, state: &'static str, n: usize) {
        self.watches.get_or_create(&State { state }).set(count(n));
    }

    /// A watch brought something just now.
    pub fn watch_told(&self, wall_ms: i64) {
        self.watch_told.get_or_create(&self.single()).set(wall_ms / 1000);
    }

    /// All objects were listed.
    pub fn watch_restarted(&self) {
        self.watch_restarts.get_or_create(&self.single()).inc();
    }

    /// Objects whose status waits to be refreshed.
    pub fn backlog(&self, n: usize) {
        self.backlog.get_or_create(&self.single()).set(count(n));
    }

    /// Reservations whose object is missing, and how many of them are not believed to be gone.
    pub fn missing(&self, orphans: usize, braked: usize) {
        self.orphans.get_or_create(&self.single()).set(count(orphans));
        self.braked.get_or_create(&self.single()).set(count(braked));
    }
}
