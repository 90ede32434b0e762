//! `gotel cluster release`.

use super::Source;
use crate::metrics::Metrics;
use crate::store::Store;
use clap::Subcommand;
use std::sync::Arc;

/// The Kubernetes clusters whose objects are reservations
#[derive(Debug, Subcommand)]
pub enum Cluster {
    Release(Release),
}

/// Take the reservations of a cluster that is gone from its objects
///
/// They stay watched, and can be changed and checked out over HTTP again, or
/// adopted by other objects. The name of the cluster becomes free.
///
/// Example:
///   gotel cluster release eu-1 --config gotel.yaml
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Release {
    /// The cluster's name
    #[arg(value_name = "NAME")]
    name: String,

    #[command(flatten)]
    source: Source,
}

impl Cluster {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let Self::Release(release) = self;
        let config = release.source.load()?;
        super::runtime()?.block_on(async {
            let store = Store::open_any(&config.database_urls(), Arc::new(Metrics::new()))?;
            let freed = store.release_cluster(&release.name).await?;
            println!("{freed} reservations of cluster {} belong to the API now.", release.name);
            Ok(())
        })
    }
}
