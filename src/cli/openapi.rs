//! `gotel openapi`.

/// Print the description of the HTTP API (OpenAPI 3.1, JSON)
///
/// Example:
///   gotel openapi > openapi.json
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Openapi {}

impl Openapi {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        print!("{}", crate::http::openapi::document());
        Ok(())
    }
}
