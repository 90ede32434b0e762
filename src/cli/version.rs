//! `gotel version`.

/// Print the version
///
/// Example:
///   gotel version
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Version {}

impl Version {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        println!("gotel {}", env!("CARGO_PKG_VERSION"));
        Ok(())
    }
}
