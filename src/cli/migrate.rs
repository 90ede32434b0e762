//! `gotel migrate`.

use super::Source;
use crate::metrics::Metrics;
use crate::store::Store;
use std::sync::Arc;

/// Bring the database's schema to this version (`serve` does it too)
///
/// Needed by itself only where `serve` runs as a database user that may not create tables.
///
/// Example:
///   gotel migrate --database-url "$ADMIN_DATABASE_URL"
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Migrate {
    #[command(flatten)]
    source: Source,
}

impl Migrate {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let config = self.source.load()?;
        super::runtime()?.block_on(async {
            let store = Store::open_any(&config.database_urls(), Arc::new(Metrics::new()))?;
            let migrated = store.migrate().await?;
            match migrated.applied {
                0 => println!("The schema is version {}: nothing to do.", migrated.version),
                n => println!("The schema is version {} now: {n} migration(s) applied.", migrated.version),
            }
            Ok(())
        })
    }
}
