//! `GET /reservation/{app}/{component}/incidents`: the history of incidents, in pages.

use super::super::error::Failure;
use super::super::params::{Named, Query, bad_cursor};
use super::super::{App, Error};
use super::wire::IncidentOut;
use axum::Json;
use axum::extract::{OriginalUri, State};
use std::sync::Arc;

/// Incidents.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub(super) struct IncidentsOut {
    /// Always `true`.
    success: bool,
    /// The incidents, newest first, with their deliveries.
    result: Vec<IncidentOut>,
    /// The `cursor` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Incidents of a reservation, newest first: what was missed, whom we told, and whether it arrived.
#[utoipa::path(
    get, path = "/reservation/{app}/{component}/incidents", tag = "reservations",
    params(
        ("app" = String, Path, description = "The application, percent-encoded UTF-8."),
        ("component" = String, Path, description = "The part of it that is scheduled."),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before."),
        ("limit" = Option<u32>, Query, description = "1 to 100, 20 if left out."),
    ),
    responses(
        (status = 200, description = "A page of them.", body = IncidentsOut),
        (status = 400, description = "A name or a parameter is wrong.", body = Failure),
        (status = 401, description = "A token is needed.", body = Failure),
        (status = 403, description = "The token is not good for this.", body = Failure),
        (status = 404, description = "No such reservation, or it is checked out.", body = Failure),
        (status = 503, description = "The database does not answer.", body = Failure),
    )
)]
pub(super) async fn incidents(
    State(app): State<Arc<App>>,
    named: Named,
    OriginalUri(uri): OriginalUri,
) -> Result<Json<IncidentsOut>, Error> {
    let query = Query::only(&uri, &["cursor", "limit"])?;
    let (before, limit) = (query.text("cursor").map(parse).transpose()?, query.limit(20, 100)?);
    let (view, _) = app.store.reservation(&named.key).await?.ok_or(Error::NotFound)?;
    let (page, more) = app.store.incidents_before(view.id, before, limit).await?;
    let next = page.last().filter(|_| more).map(|last| format!("{}_{}", last.opened_ms, last.id));
    Ok(Json(IncidentsOut { success: true, result: page.iter().map(IncidentOut::from).collect(), next }))
}

fn parse(cursor: &str) -> Result<(i64, String), Error> {
    let (opened, id) = cursor.split_once('_').ok_or_else(bad_cursor)?;
    Ok((opened.parse().map_err(|_| bad_cursor())?, id.to_owned()))
}
