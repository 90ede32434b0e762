//! `gotel crd`.

/// Print the definition of the Kubernetes resource `reservations.gotel.dev` (YAML)
///
/// Example:
///   gotel crd | kubectl apply --server-side -f -
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Crd {}

impl Crd {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        print!("{}", crate::operator::crd::yaml()?);
        Ok(())
    }
}
