//! `GET /reservation`: all reservations, filtered and in pages.

use super::super::auth::Caller;
use super::super::error::Failure;
use super::super::params::Query;
use super::super::{App, Error};
use super::wire::ReservationOut;
use axum::Json;
use axum::extract::{OriginalUri, State};
use std::sync::Arc;

/// Most reservations in one answer, and as many as one that asks for no limit gets.
const MAX: usize = 1000;

/// Reservations.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub(super) struct ListOut {
    /// Always `true`.
    success: bool,
    /// The reservations, oldest first.
    result: Vec<ReservationOut>,
    /// The `cursor` of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// All reservations that are not checked out, oldest first; a token with a prefix sees its own.
#[utoipa::path(
    get, path = "/reservation", tag = "reservations",
    params(
        ("state" = Option<String>, Query, description = "`waiting`, `on_time`, `late`, `failed`, `overrun`, `snoozed`, or `bad` (late, failed, overrun, or with an open incident)."),
        ("app" = Option<String>, Query, description = "Exactly this application."),
        ("owner" = Option<String>, Query, description = "Exactly this owner."),
        ("q" = Option<String>, Query, description = "Part of application, component or owner."),
        ("cursor" = Option<String>, Query, description = "The `next` of the page before."),
        ("limit" = Option<u32>, Query, description = "1 to 1000, 1000 if left out."),
    ),
    responses(
        (status = 200, description = "A page of them.", body = ListOut),
        (status = 400, description = "A parameter is wrong; the message names it.", body = Failure),
        (status = 401, description = "A token is needed.", body = Failure),
        (status = 403, description = "The token is not good for this.", body = Failure),
        (status = 503, description = "The database does not answer.", body = Failure),
    )
)]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
) -> Result<Json<ListOut>, Error> {
    let query = Query::only(&uri, &["state", "app", "owner", "q", "cursor", "limit"])?;
    let page = app.store.list(&query.filter(&caller)?, query.cursor()?, query.limit(MAX, MAX)?).await?;
    let outages = app.store.outages().await?;
    let result = page.items.iter().map(|view| ReservationOut::new(view, &outages, page.now_ms)).collect();
    Ok(Json(ListOut { success: true, result, next: page.next.map(|id| id.to_string()) }))
}
