//! The clusters that share this database, told apart by an identity that nobody chose.

use crate::store::error::{Result, StoreError};
use crate::store::incidents;
use crate::store::session::{Rule, Tx, sql, transact};
use crate::store::{Store, SystemKind};
use sqlx::Row;
use sqlx::any::AnyRow;
use std::collections::{BTreeMap, BTreeSet};

/// Whether a cluster is the one that its name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// It is, or the name is new.
    Ours,
    /// Another cluster has the name; this is its uid.
    Other(String),
}

/// What such a scope begins with.
const SCOPE: &str = "controller/";

/// Scope of the lease under which one replica of a cluster writes for its objects. Lives as long as the process,
/// which has one.
pub fn controller_scope(cluster: &str) -> &'static str {
    format!("{SCOPE}{cluster}").leak()
}

/// When the controllers of these clusters last held their leases, by name.
pub(in crate::store) async fn last_heard(
    tx: &mut Tx,
    clusters: impl Iterator<Item = &String>,
) -> Result<BTreeMap<String, i64>> {
    let dialect = tx.inner().dialect;
    let scopes: BTreeSet<String> = clusters.map(|name| dialect.word(&format!("{SCOPE}{name}"))).collect();
    if scopes.is_empty() {
        return Ok(BTreeMap::new());
    }
    let scopes = scopes.into_iter().collect::<Vec<_>>().join(", ");
    let rows = tx.all_plain(format!("SELECT scope, renewed_ms FROM lease WHERE scope IN ({scopes})")).await?;
    let heard = |row: &AnyRow| {
        let scope: String = row.try_get(0)?;
        Ok((scope.strip_prefix(SCOPE).unwrap_or_default().to_owned(), row.try_get(1)?))
    };
    rows.iter().map(heard).collect()
}

impl Store {
    /// Makes the lease's row, if this is the first start in this cluster.
    pub async fn prepare_lease(&self, scope: &'static str) -> Result<()> {
        transact!(self.pooled().await?, Rule::named("lease_prepare"), |tx| {
            let known = tx.inner().dialect.or_nothing("scope");
            let text = format!(
                "INSERT INTO lease (scope, term, beat, holder, token, lease_ms, renewed_ms, acquired_ms, eval_ms) \
                 VALUES (?, 0, 0, '', '', 0, 0, 0, 0){known}"
            );
            tx.run(sql(text).bind(scope)).await?;
            Ok(())
        })
    }

    /// Whether `name` is the cluster with this uid; the first to say so has the name.
    pub async fn identify_cluster(&self, name: &str, uid: &str) -> Result<Identity> {
        transact!(self.pooled().await?, Rule::named("cluster"), |tx| {
            let (now_ms, known) = (tx.now_ms().await?, tx.inner().dialect.or_nothing("name"));
            let text = format!("INSERT INTO kube_cluster (name, uid, seen_ms) VALUES (?, ?, ?){known}");
            tx.run(sql(text).bind(name.to_owned()).bind(uid.to_owned()).bind(now_ms)).await?;
            let seen = "UPDATE kube_cluster SET seen_ms = ? WHERE name = ? AND uid = ?";
            tx.run(sql(seen).bind(now_ms).bind(name.to_owned()).bind(uid.to_owned())).await?;
            let text = "SELECT uid FROM kube_cluster WHERE name = ?";
            let Some(row) = tx.maybe(sql(text).bind(name.to_owned())).await? else {
                return Err(StoreError::Contended("another replica writes the cluster".into()));
            };
            let theirs: String = row.try_get(0)?;
            if theirs == uid {
                return Ok(Identity::Ours);
            }
            let claimed = "UPDATE kube_cluster SET conflict_ms = ? WHERE name = ?";
            tx.run(sql(claimed).bind(now_ms).bind(name.to_owned())).await?;
            Ok(Identity::Other(theirs))
        })
    }

    /// Tells that a cluster has its name to itself again, once nobody else has claimed it for `quiet_ms`. Whoever
    /// claimed it cannot tell: it was started anew, by another name or with another cluster's address, or is gone.
    pub async fn settle_cluster(&self, name: &str, quiet_ms: i64) -> Result<bool> {
        let over = "conflict_ms < ? AND name = ?";
        let is_over = transact!(self.pooled().await?, Rule::reading("cluster_quiet"), |tx| {
            let now_ms = tx.now_ms().await?;
            let text = format!("SELECT name FROM kube_cluster WHERE {over}");
            Ok(tx.maybe(sql(text).bind(now_ms - quiet_ms).bind(name.to_owned())).await?.is_some())
        })?;
        if !is_over {
            return Ok(false);
        }
        transact!(self.pooled().await?, Rule::named("cluster_settle"), |tx| {
            let now_ms = tx.now_ms().await?;
            let text = format!("UPDATE kube_cluster SET conflict_ms = NULL WHERE {over}");
            let settled = tx.run(sql(text).bind(now_ms - quiet_ms).bind(name.to_owned())).await?;
            if settled.rows_affected() == 0 {
                return Ok(false);
            }
            incidents::withdraw(tx, now_ms, SystemKind::ClusterConflict, name, None).await
        })
    }

    /// The definition that the cluster's objects were made under; None: not noted yet.
    pub async fn definition(&self, name: &str) -> Result<Option<String>> {
        transact!(self.pooled().await?, Rule::reading("definition"), |tx| {
            let text = "SELECT definition FROM kube_cluster WHERE name = ?";
            Ok(tx
                .maybe(sql(text).bind(name.to_owned()))
                .await?
                .map(|row| row.try_get(0))
                .transpose()?
                .flatten())
        })
    }

    /// Notes the definition that the cluster's objects are made under from now on.
    pub async fn set_definition(&self, name: &str, uid: &str) -> Result<()> {
        transact!(self.pooled().await?, Rule::named("definition_set"), |tx| {
            let text = "UPDATE kube_cluster SET definition = ? WHERE name = ?";
            tx.run(sql(text).bind(uid.to_owned()).bind(name.to_owned())).await?;
            Ok(())
        })
    }

    /// Forgets a cluster that is gone: what its objects held stays watched, and belongs to the API. Says how many. Its
    /// name is free: whoever else claimed it has it now.
    pub async fn release_cluster(&self, name: &str) -> Result<u64> {
        transact!(self.pooled().await?, Rule::named("cluster_release"), |tx| {
            let now_ms = tx.now_ms().await?;
            tx.run(sql("DELETE FROM kube_cluster WHERE name = ?").bind(name.to_owned())).await?;
            incidents::withdraw(tx, now_ms, SystemKind::ClusterConflict, name, None).await?;
            let freed = "DELETE FROM kube_object WHERE cluster = ?";
            Ok(tx.run(sql(freed).bind(name.to_owned())).await?.rows_affected())
        })
    }
}
