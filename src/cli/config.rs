//! `gotel config check`.

use super::Source;
use crate::alert;
use crate::http::auth::Auth;

/// Look at a configuration without running it
///
/// Example:
///   gotel config check --config gotel.yaml
#[derive(Debug, clap::Subcommand)]
#[command(verbatim_doc_comment)]
pub enum ConfigCommand {
    /// Say whether a configuration can be run, or which file, line and field is wrong
    ///
    /// Example:
    ///   gotel config check --config gotel.yaml
    #[command(verbatim_doc_comment)]
    Check(Source),
}

impl ConfigCommand {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let Self::Check(source) = self;
        let config = source.load()?;
        Auth::decide(config.listen, config.auth_mode, &config.auth)?;
        let context = alert::Context { external_url: config.external_url.clone() };
        for alerter in &config.alerters {
            alert::build(alerter, &context)?;
        }
        let names: Vec<_> = config.alerters.iter().map(|a| a.name.as_str()).collect();
        let place =
            source.config.as_ref().map_or_else(|| "defaults".to_owned(), |path| path.display().to_string());
        println!(
            "{place}: ok. Listens on {}; alerters: {}; tokens: {}.",
            config.listen,
            names.join(", "),
            config.auth.tokens.len()
        );
        Ok(())
    }
}
