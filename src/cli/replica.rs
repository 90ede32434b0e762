//! `gotel replica list` and `gotel replica forget`.

use super::Source;
use crate::metrics::Metrics;
use crate::reservation::duration::human;
use crate::store::{ReplicaRow, Store};
use clap::Subcommand;
use std::sync::Arc;

/// The replicas that share the database
#[derive(Debug, Subcommand)]
pub enum Replica {
    List(List),
    Forget(Forget),
}

/// List the replicas that have a row in the database
///
/// Example:
///   gotel replica list --config gotel.yaml
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct List {
    #[command(flatten)]
    source: Source,
}

/// Forget a replica that is gone for good, so that nobody misses it
///
/// One that ends in order (SIGTERM) is forgotten by itself. Take its id out of
/// peers.replicas of the others, too.
///
/// Example:
///   gotel replica forget us-1 --config gotel.yaml
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Forget {
    /// The replica's id
    #[arg(value_name = "ID")]
    id: String,

    #[command(flatten)]
    source: Source,
}

impl Replica {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run(),
            Self::Forget(forget) => forget.run(),
        }
    }
}

impl List {
    fn run(&self) -> anyhow::Result<()> {
        let config = self.source.load()?;
        super::runtime()?.block_on(async {
            let store = Store::open_any(&config.database_urls(), Arc::new(Metrics::new()))?;
            let rows = store.replicas().await?;
            if rows.is_empty() {
                println!("No replica has a row: none runs with `peers`, or all ended in order.");
            }
            for row in rows {
                println!("{}", line(&row));
            }
            Ok(())
        })
    }
}

fn line(row: &ReplicaRow) -> String {
    let rival = match row.rival_age_ms {
        Some(age) if age < 10_000 => "; a second process uses this id",
        _ => "",
    };
    format!(
        "{}: beat {} ago, up for {}, version {}{rival}",
        row.id,
        human(row.beat_age_ms),
        human(row.started_age_ms),
        row.version
    )
}

impl Forget {
    fn run(&self) -> anyhow::Result<()> {
        let config = self.source.load()?;
        super::runtime()?.block_on(async {
            let store = Store::open_any(&config.database_urls(), Arc::new(Metrics::new()))?;
            let rows = store.replicas().await?;
            let Some(row) = rows.iter().find(|row| row.id == self.id) else {
                let known: Vec<_> = rows.iter().map(|row| row.id.as_str()).collect();
                let known = if known.is_empty() { "there is none".into() } else { known.join(", ") };
                anyhow::bail!("there is no replica {:?}: {known}", self.id);
            };
            if row.beat_age_ms < 5_000 {
                anyhow::bail!(
                    "{} lives (its last beat is {} old) and would be back at once: end it with SIGTERM, which forgets it",
                    self.id,
                    human(row.beat_age_ms)
                );
            }
            store.forget(&self.id).await?;
            println!("Forgotten: {}. Take it out of peers.replicas of the others.", self.id);
            Ok(())
        })
    }
}
