//! `GET /reservation/{app}/{component}/checkins`: the history of check-ins, in pages.

use super::super::error::Failure;
use super::super::params::{Named, Query};
use super::super::{App, Error};
use super::wire::CheckInOut;
use axum::Json;
use axum::extract::{OriginalUri, State};
use std::sync::Arc;

/// Check-ins.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub(super) struct CheckInsOut {
    /// Always `true`.
    success: bool,
    /// The check-ins, newest first.
    result: Vec<CheckInOut>,
    /// The `cursor` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Check-ins of a reservation, newest first.
#[utoipa::path(
    get, path = "/reservation/{app}/{component}/checkins", tag = "reservations",
    params(
        ("app" = String, Path, description = "The application, percent-encoded UTF-8."),
        ("component" = String, Path, description = "The part of it that is scheduled."),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before."),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 100 if left out."),
    ),
    responses(
        (status = 200, description = "A page of them.", body = CheckInsOut),
        (status = 400, description = "A name or a parameter is wrong.", body = Failure),
        (status = 401, description = "A token is needed.", body = Failure),
        (status = 403, description = "The token is not good for this.", body = Failure),
        (status = 404, description = "No such reservation, or it is checked out.", body = Failure),
        (status = 503, description = "The database does not answer.", body = Failure),
    )
)]
pub(super) async fn checkins(
    State(app): State<Arc<App>>,
    named: Named,
    OriginalUri(uri): OriginalUri,
) -> Result<Json<CheckInsOut>, Error> {
    let query = Query::only(&uri, &["cursor", "limit"])?;
    let (before, limit) = (query.cursor()?, query.limit(100, 1000)?);
    let (view, _) = app.store.reservation(&named.key).await?.ok_or(Error::NotFound)?;
    let page = app.store.checkins(view.id, before, limit).await?;
    let result = page.items.iter().map(CheckInOut::from).collect();
    Ok(Json(CheckInsOut { success: true, result, next: page.next.map(|id| id.to_string()) }))
}
