//! `gotel alerter test`.

use super::Source;
use crate::alert::{self, Outcome};
use crate::clock;
use anyhow::{Context as _, bail};

/// Try an alerter
///
/// Example:
///   gotel alerter test ops-mail --config gotel.yaml
#[derive(Debug, clap::Subcommand)]
#[command(verbatim_doc_comment)]
pub enum Alerter {
    /// Send one test message over an alerter and say whether it was accepted
    ///
    /// Example:
    ///   gotel alerter test ops-mail --config gotel.yaml
    #[command(verbatim_doc_comment)]
    Test {
        /// The alerter's name in the configuration
        name: String,
        #[command(flatten)]
        source: Source,
    },
}

impl Alerter {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let Self::Test { name, source } = self;
        let config = source.load()?;
        let known: Vec<_> = config.alerters.iter().map(|a| a.name.as_str()).collect();
        let chosen = config
            .alerters
            .iter()
            .find(|a| a.name == *name)
            .with_context(|| format!("no alerter is called {name:?}; there are: {}", known.join(", ")))?;
        let context = alert::Context { external_url: config.external_url.clone() };
        let alerter = alert::build(chosen, &context)?;
        let id = uuid::Uuid::new_v4().to_string();
        let notice =
            alert::test_notice(name, &id, clock::wall_ms(), &config.replica, config.external_url.clone());
        let outcomes =
            super::runtime()?.block_on(alert::send_now(&*alerter, &chosen.test_recipients(), &notice));
        let mut failed = 0;
        for (recipient, outcome) in &outcomes {
            let to = if recipient.is_empty() { String::new() } else { format!(" to {recipient}") };
            match outcome {
                Outcome::Accepted => println!("{name}{to}: accepted"),
                other => {
                    failed += 1;
                    println!("{name}{to}: {}: {}", other.as_str(), other.why().unwrap_or_default());
                }
            }
        }
        if failed > 0 {
            bail!("{failed} of {} test messages were not accepted", outcomes.len());
        }
        Ok(())
    }
}
