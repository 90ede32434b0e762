//! `POST /checkin`: a check-in as JSON, as in GoTel 0.1.

use super::super::auth::Caller;
use super::super::error::Failure;
use super::super::json::Json;
use super::super::params::rid;
use super::super::{App, Error};
use super::Done;
use crate::reservation::{Invalid, SignalKind};
use crate::store::CheckIn;
use axum::extract::State;
use std::sync::Arc;

/// Notes kept of a check-in: the last bytes.
pub(super) const NOTE_MAX: usize = 10_000;

/// A check-in.
#[derive(Debug, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckInIn {
    /// The application.
    #[schema(example = "billing")]
    app: String,
    /// The part of it that is scheduled.
    #[schema(example = "nightly")]
    component: String,
    /// Notes or output; the last 10 kB are kept.
    #[schema(example = "all is well")]
    #[serde(default)]
    notes: Option<String>,
    /// `ok` (the default), `start`, `fail` or `log`.
    #[serde(default)]
    kind: Option<String>,
    /// 0 to 255; anything but 0 is a failure.
    #[serde(default)]
    exit_code: Option<i64>,
    /// Which of several runs at a time; at most 100 characters.
    #[serde(default)]
    rid: Option<String>,
}

/// What the kind and the exit code say together.
fn outcome(kind: Option<&str>, exit_code: Option<i64>) -> Result<(SignalKind, Option<u8>), Invalid> {
    let kind = match kind.filter(|k| !k.is_empty()) {
        None => None,
        Some(word) => Some(
            SignalKind::parse(word)
                .ok_or_else(|| Invalid::new("kind", "must be one of ok, start, fail, log"))?,
        ),
    };
    let Some(code) = exit_code else { return Ok((kind.unwrap_or(SignalKind::Ok), None)) };
    let code = exit(code)?;
    let told = if code == 0 { SignalKind::Ok } else { SignalKind::Fail };
    match kind {
        Some(kind) if kind != told => {
            let why = format!("{code} does not go with kind `{}`: leave one of the two out", kind.as_str());
            Err(Invalid::new("exit_code", why))
        }
        _ => Ok((told, Some(code))),
    }
}

/// An exit code as processes have them.
pub(super) fn exit(code: i64) -> Result<u8, Invalid> {
    u8::try_from(code)
        .map_err(|_| Invalid::new("exit_code", format!("{code} is out of range: give 0 to 255")))
}

/// The end of `text`, cut between characters.
fn tail(text: String) -> Vec<u8> {
    let mut from = text.len().saturating_sub(NOTE_MAX);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text.as_bytes()[from..].to_vec()
}

/// Checks in.
///
/// 200 means that the check-in is committed. The Content-Type does not matter.
#[utoipa::path(
    post, path = "/checkin", tag = "check-ins", request_body = CheckInIn,
    responses(
        (status = 200, description = "Stored.", body = Done,
         example = json!({"success": true, "message": "Application checked in: billing"})),
        (status = 400, description = "A field is wrong; the message names it.", body = Failure),
        (status = 401, description = "A token is needed.", body = Failure),
        (status = 403, description = "The token is not good for this.", body = Failure),
        (status = 404, description = "No such reservation, or it is checked out.", body = Failure),
        (status = 413, description = "The body is larger than 64 kB.", body = Failure),
        (status = 503, description = "Not known to be stored; safe to repeat.", body = Failure),
    )
)]
pub(super) async fn checkin(
    State(app): State<Arc<App>>,
    caller: Caller,
    Json(wish): Json<CheckInIn>,
) -> Result<axum::Json<Done>, Error> {
    let key = caller.job(&wish.app, &wish.component)?;
    let (kind, exit_code) = outcome(wish.kind.as_deref(), wish.exit_code)?;
    let rid = rid(wish.rid.as_deref())?;
    let note = wish.notes.filter(|n| !n.is_empty()).map(tail);
    app.checkins.submit(CheckIn { exit_code, rid, note, ..CheckIn::new(&key, kind) }).await?;
    Ok(Done::new(format!("Application checked in: {}", key.app.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(None, None, Some((SignalKind::Ok, None)))]
    #[case(Some(""), None, Some((SignalKind::Ok, None)))]
    #[case(Some("start"), None, Some((SignalKind::Start, None)))]
    #[case(None, Some(0), Some((SignalKind::Ok, Some(0))))]
    #[case(None, Some(255), Some((SignalKind::Fail, Some(255))))]
    #[case(Some("fail"), Some(1), Some((SignalKind::Fail, Some(1))))]
    #[case(Some("ok"), Some(1), None)]
    #[case(Some("start"), Some(0), None)]
    #[case(Some("OK"), None, None)]
    #[case(None, Some(256), None)]
    #[case(None, Some(-1), None)]
    fn kind_and_exit_code_agree_or_are_refused(
        #[case] kind: Option<&str>,
        #[case] code: Option<i64>,
        #[case] told: Option<(SignalKind, Option<u8>)>,
    ) {
        assert_eq!(outcome(kind, code).ok(), told);
    }

    #[test]
    fn the_end_of_long_notes_is_kept_and_no_character_is_cut() {
        let kept =
            String::from_utf8(tail(format!("{}é{}", "x".repeat(50), "y".repeat(NOTE_MAX - 1)))).unwrap();
        assert_eq!(kept, "y".repeat(NOTE_MAX - 1));
        assert_eq!(tail("short".into()), b"short");
    }
}
