//! Whether objects that are gone may be believed to be gone: is the definition still the one they were made under?
//!
//! A definition is marked as going before the first of its objects goes. So a look at it *after* a deletion was seen
//! tells one from the other.

use super::connect::{CallError, call};
use super::context::Context;
use crate::store::StoreError;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, CustomResourceExt, Resource};

/// How the definition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Definition {
    /// As it was.
    Stands,
    /// It is gone, or going.
    Gone,
    /// It was made anew; this is its uid.
    Replaced(String),
    /// This process may not look.
    Hidden,
}

/// Why that is not known.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unknown {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Looks.
pub(super) async fn look(ctx: &Context) -> Result<Definition, Unknown> {
    let api: Api<CustomResourceDefinition> = Api::all(ctx.client.clone());
    let found = match call(api.get_metadata_opt(super::crd::Reservation::crd_name())).await {
        Ok(found) => found,
        Err(e) if e.is_forbidden() => return Ok(Definition::Hidden),
        Err(e) => return Err(e.into()),
    };
    let Some(found) = found.filter(|found| found.meta().deletion_timestamp.is_none()) else {
        return Ok(Definition::Gone);
    };
    let uid = found.meta().uid.clone().unwrap_or_default();
    let shared = &ctx.shared;
    match shared.store.definition(&shared.cluster).await? {
        Some(known) if known == uid => Ok(Definition::Stands),
        Some(_) => Ok(Definition::Replaced(uid)),
        None => {
            shared.store.set_definition(&shared.cluster, &uid).await?;
            Ok(Definition::Stands)
        }
    }
}
