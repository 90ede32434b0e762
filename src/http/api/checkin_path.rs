//! `/checkin/{app}/{component}[/start|/fail|/log|/{0..255}]`: a check-in as an address, for `curl` and
//! whatever else can open one.
//!
//! Promises: the body is any bytes in any encoding; the last 10 kB of it are kept while it streams by, so
//! that a job that pipes its whole log neither loses its check-in nor costs us memory. Above 16 MB: 413.
//! Query parameters other than `rid` are ignored: a check-in weighs more than a stray parameter.

use super::super::error::Failure;
use super::super::params::{Named, Query, rid};
use super::super::{App, Error};
use super::checkin::{NOTE_MAX, exit};
use crate::reservation::{Invalid, SignalKind};
use crate::store::CheckIn;
use axum::body::Body;
use axum::extract::{OriginalUri, State};
use axum::http::Uri;
use futures::StreamExt;
use std::sync::Arc;

/// The largest body that is read.
const BODY_MAX: usize = 16 * 1024 * 1024;

/// What the last segment says.
fn signal_of(segment: &str) -> Result<(SignalKind, Option<u8>), Invalid> {
    const KNOWN: &str = "end the address in /start, /fail, /log or an exit code from 0 to 255";
    match segment {
        "start" => Ok((SignalKind::Start, None)),
        "fail" => Ok((SignalKind::Fail, None)),
        "log" => Ok((SignalKind::Log, None)),
        digits if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
            let code = exit(digits.parse().unwrap_or(i64::MAX))?;
            Ok((if code == 0 { SignalKind::Ok } else { SignalKind::Fail }, Some(code)))
        }
        _ => Err(Invalid::new("signal", format!("is none of ours: {KNOWN}"))),
    }
}

/// The last bytes of a body.
async fn tail(body: Body) -> Result<Option<Vec<u8>>, Error> {
    let (mut chunks, mut seen, mut kept) = (body.into_data_stream(), 0_usize, Vec::new());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Error::Bad("the body broke off: send it again".into()))?;
        seen += chunk.len();
        if seen > BODY_MAX {
            return Err(Error::TooLarge(BODY_MAX));
        }
        kept.extend_from_slice(&chunk[chunk.len().saturating_sub(NOTE_MAX)..]);
        if kept.len() > 2 * NOTE_MAX {
            kept.drain(..kept.len() - NOTE_MAX);
        }
    }
    kept.drain(..kept.len().saturating_sub(NOTE_MAX));
    Ok((!kept.is_empty()).then_some(kept))
}

async fn submit(app: &App, named: Named, uri: &Uri, body: Body) -> Result<&'static str, Error> {
    let (kind, exit_code) = match &named.rest {
        None => (SignalKind::Ok, None),
        Some(segment) => signal_of(segment)?,
    };
    let rid = rid(Query::any(uri).text("rid"))?;
    let note = tail(body).await?;
    app.checkins.submit(CheckIn { exit_code, rid, note, ..CheckIn::new(&named.key, kind) }).await?;
    Ok("OK")
}

/// Checks in: a run went well.
#[utoipa::path(
    method(get, head, post), path = "/checkin/{app}/{component}", tag = "check-ins",
    operation_id = "checkin_ok",
    params(
        ("app" = String, Path, description = "The application, percent-encoded UTF-8."),
        ("component" = String, Path, description = "The part of it that is scheduled."),
        ("rid" = Option<String>, Query, description = "Which of several runs at a time; at most 100 characters."),
    ),
    request_body(content = String, description = "Notes or output, in any encoding; the last 10 kB are kept.", content_type = "text/plain"),
    responses(
        (status = 200, description = "Stored.", body = String, content_type = "text/plain", example = "OK"),
        (status = 400, description = "A name, the signal or the run id is wrong.", body = Failure),
        (status = 401, description = "A token is needed.", body = Failure),
        (status = 403, description = "The token is not good for this.", body = Failure),
        (status = 404, description = "No such reservation, or it is checked out.", body = Failure),
        (status = 413, description = "The body is larger than 16 MB.", body = Failure),
        (status = 503, description = "Not known to be stored; safe to repeat.", body = Failure),
    )
)]
pub(super) async fn ok(
    State(app): State<Arc<App>>,
    named: Named,
    OriginalUri(uri): OriginalUri,
    body: Body,
) -> Result<&'static str, Error> {
    submit(&app, named, &uri, body).await
}

/// Checks in: a run began, failed, ended with an exit code, or has something to note.
#[utoipa::path(
    method(get, head, post), path = "/checkin/{app}/{component}/{signal}", tag = "check-ins",
    operation_id = "checkin_signal",
    params(
        ("app" = String, Path, description = "The application, percent-encoded UTF-8."),
        ("component" = String, Path, description = "The part of it that is scheduled."),
        ("signal" = String, Path, description = "`start`, `fail`, `log`, or an exit code from 0 to 255.", example = "start"),
        ("rid" = Option<String>, Query, description = "Which of several runs at a time; at most 100 characters."),
    ),
    request_body(content = String, description = "Notes or output, in any encoding; the last 10 kB are kept.", content_type = "text/plain"),
    responses(
        (status = 200, description = "Stored.", body = String, content_type = "text/plain", example = "OK"),
        (status = 400, description = "A name, the signal or the run id is wrong.", body = Failure),
        (status = 401, description = "A token is needed.", body = Failure),
        (status = 403, description = "The token is not good for this.", body = Failure),
        (status = 404, description = "No such reservation, or it is checked out.", body = Failure),
        (status = 413, description = "The body is larger than 16 MB.", body = Failure),
        (status = 503, description = "Not known to be stored; safe to repeat.", body = Failure),
    )
)]
pub(super) async fn signal(
    State(app): State<Arc<App>>,
    named: Named,
    OriginalUri(uri): OriginalUri,
    body: Body,
) -> Result<&'static str, Error> {
    submit(&app, named, &uri, body).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("start", Some((SignalKind::Start, None)))]
    #[case("fail", Some((SignalKind::Fail, None)))]
    #[case("log", Some((SignalKind::Log, None)))]
    #[case("0", Some((SignalKind::Ok, Some(0))))]
    #[case("255", Some((SignalKind::Fail, Some(255))))]
    #[case("256", None)]
    #[case("99999999999999999999999", None)]
    #[case("-1", None)]
    #[case("+1", None)]
    #[case("1.0", None)]
    #[case("strat", None)]
    #[case("", None)]
    fn a_signal_is_a_word_or_an_exit_code(
        #[case] segment: &str,
        #[case] told: Option<(SignalKind, Option<u8>)>,
    ) {
        assert_eq!(signal_of(segment).ok(), told);
    }

    #[tokio::test]
    async fn the_last_bytes_of_a_long_log_are_kept() {
        let chunks = (0..500_u32).map(|n| Ok::<_, std::io::Error>(format!("{n:0999}\n")));
        let kept = tail(Body::from_stream(futures::stream::iter(chunks))).await.unwrap().unwrap();
        assert_eq!(kept.len(), NOTE_MAX);
        assert!(kept.ends_with(b"499\n") && kept.starts_with(b"0"));
        let one = tail(Body::from(vec![7; 3 * NOTE_MAX])).await.unwrap().unwrap();
        assert_eq!(one.len(), NOTE_MAX);
        assert_eq!(tail(Body::empty()).await.unwrap(), None);
        assert!(tail(Body::from(vec![7; BODY_MAX + 1])).await.is_err());
    }
}
