//! JSON bodies, and refusals that say which field is wrong and what would be right.
//!
//! Promises: whatever the Content-Type says, the body is read as JSON (curl's default says it is a form).
//! At most [`super::App::max_body`] bytes are kept; what exceeds it is read and thrown away for a while,
//! so that the client hears 413 and not a reset. A field that is not known is refused: a misspelt
//! `tolerence` would otherwise be a promise that nobody keeps.

use super::{App, Error};
use crate::reservation::Invalid;
use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// How much of a body that is too large is read all the same.
const DISCARD: usize = 16 * 1024 * 1024;

/// Longest quotation of a client's value.
const QUOTE: usize = 60;

/// A JSON body of type `T`.
#[derive(Debug, Clone)]
pub(super) struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Error> {
        let bytes = whole(request.into_body(), app.max_body).await?;
        parse(&bytes).map(Self)
    }
}

/// The body, if it has at most `limit` bytes.
async fn whole(body: Body, limit: usize) -> Result<Vec<u8>, Error> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > DISCARD {
        return Err(Error::TooLarge(limit));
    }
    let mut bytes = Vec::with_capacity(announced.min(limit));
    let (mut chunks, mut seen) = (body.into_data_stream(), 0);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Error::Bad("the body broke off: send it again".into()))?;
        seen += chunk.len();
        if seen > DISCARD {
            break;
        }
        if seen <= limit {
            bytes.extend_from_slice(&chunk);
        }
    }
    if seen > limit { Err(Error::TooLarge(limit)) } else { Ok(bytes) }
}

/// Parses an object; the straight way first, the explaining way only for what is wrong.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    // A struct could also be read from a list: never what a client means.
    if bytes.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{')
        && let Ok(value) = serde_json::from_slice(bytes)
    {
        return Ok(value);
    }
    Err(explain::<T>(bytes))
}

fn explain<T: DeserializeOwned>(bytes: &[u8]) -> Error {
    const EXAMPLE: &str = r#"send a JSON object such as {"app":"billing","component":"nightly"}"#;
    let text = match std::str::from_utf8(bytes) {
        Ok(text) if text.trim().is_empty() => return Error::Bad(format!("the body is empty: {EXAMPLE}")),
        Ok(text) => text,
        Err(e) => {
            let at = e.valid_up_to();
            return Error::Bad(format!("the body is not UTF-8 at byte {at}: send JSON encoded as UTF-8"));
        }
    };
    if !text.trim_start().starts_with('{') {
        return match serde_json::from_str::<serde_json::Value>(text) {
            Ok(value) => Error::Bad(format!("the body is {}, not an object: {EXAMPLE}", kind(&value))),
            Err(e) => Error::Bad(format!("the body is not JSON ({}): {EXAMPLE}", shorten(&e.to_string()))),
        };
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let error = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Ok(_) => match deserializer.end() {
            Ok(()) => return Error::Broken("a body was refused without a reason".into()),
            Err(e) => {
                return Error::Bad(format!("there is more after the JSON object ({e}): send one object"));
            }
        },
        Err(error) => error,
    };
    let path = error.path().to_string();
    let inner = error.into_inner();
    let message = inner.to_string();
    if !inner.is_data() {
        return Error::Bad(syntax(&message));
    }
    let message = message.split(" at line ").next().unwrap_or(&message);
    let (field, why) = data(&path, message);
    Error::Invalid(Invalid::new(field, why))
}

fn kind(value: &serde_json::Value) -> &'static str {
    match value {
        serde_json::Value::Null => "null",
        serde_json::Value::Bool(_) => "a boolean",
        serde_json::Value::Number(_) => "a number",
        serde_json::Value::String(_) => "a string",
        serde_json::Value::Array(_) => "a list",
        serde_json::Value::Object(_) => "an object",
    }
}

/// What is wrong with text that is not JSON.
fn syntax(message: &str) -> String {
    let remedy = if message.starts_with("recursion limit") {
        "it is nested too deeply; a request here is flat"
    } else if message.contains("surrogate") {
        "an escape such as \\ud800 is half a character; write the character itself, in UTF-8"
    } else if message.contains("control character") {
        "write control characters as escapes, such as \\n"
    } else if message.contains("EOF") {
        "it ends too early; check quotes and braces"
    } else {
        "check quotes, commas and braces"
    };
    format!("the body is not JSON ({message}): {remedy}")
}

/// serde's sentence about a field, as a person would say it.
fn data(path: &str, message: &str) -> (String, String) {
    let quoted = |rest: &str| rest.split('`').nth(1).unwrap_or_default().to_owned();
    let inside = |name: String| match path.rsplit_once('.') {
        Some((parent, last)) if last == name => format!("{parent}.{name}"),
        _ if path == "." || path == name => name,
        _ => format!("{path}.{name}"),
    };
    if let Some(rest) = message.strip_prefix("missing field ") {
        return (inside(quoted(rest)), "is missing: give it in the JSON object".into());
    }
    if let Some(rest) = message.strip_prefix("duplicate field ") {
        return (inside(quoted(rest)), "is given twice: keep one".into());
    }
    if let Some(rest) = message.strip_prefix("unknown field ") {
        let name = quoted(rest);
        let known: Vec<&str> = rest.split('`').skip(3).step_by(2).collect();
        let near = known.iter().map(|k| (distance(&name.to_lowercase(), k), k)).min();
        let guess = match near {
            Some((d, k)) if d <= 3 && d < k.len() => format!("did you mean `{k}`? "),
            _ => String::new(),
        };
        let why = format!("is not a field here; {guess}known are {}", known.join(", "));
        return (inside(shorten(&name)), why);
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let known: Vec<&str> = rest.split('`').skip(3).step_by(2).collect();
        return (path.to_owned(), format!("`{}` is none of {}", shorten(&quoted(rest)), known.join(", ")));
    }
    let wrong = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    match wrong.and_then(|w| w.rsplit_once(", expected ")) {
        Some((got, expected)) => (path.to_owned(), mismatch(got, expected)),
        None => (path.to_owned(), shorten(message)),
    }
}

fn mismatch(got: &str, expected: &str) -> String {
    let number = matches!(expected, "i64" | "u32" | "u8");
    let expected = match expected {
        "i64" | "u32" | "u8" => "a whole number",
        "a sequence" => "a list",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    let (shown, remedy) = if let Some(text) = got.strip_prefix("string ") {
        let bare = text.trim_matches('"');
        let remedy = match bare.parse::<i64>() {
            Ok(n) if number => format!("write {n} without quotes"),
            _ => format!("write {expected}"),
        };
        (format!("the string {}", shorten(text)), remedy)
    } else if let Some(n) = got.strip_prefix("integer ").or_else(|| got.strip_prefix("floating point ")) {
        let n = n.trim_matches('`');
        let remedy = match number {
            true => "write a whole number that fits 64 bits".into(),
            false => format!("write {expected}, such as \"{n}\""),
        };
        (format!("the number {n}"), remedy)
    } else {
        match got {
            "null" | "unit value" => {
                ("null".into(), "give a value, or leave the field out if it is optional".into())
            }
            "sequence" => ("a list".into(), format!("write {expected}")),
            "map" => ("an object".into(), format!("write {expected}")),
            other => (shorten(other).replace('`', ""), format!("write {expected}")),
        }
    };
    format!("expected {expected}, got {shown}; {remedy}")
}

/// `text`, cut to a length that fits a sentence.
fn shorten(text: &str) -> String {
    if text.chars().count() <= QUOTE {
        return text.to_owned();
    }
    text.chars().take(QUOTE).chain(['…']).collect()
}

/// How many letters to change, add or drop to get from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(QUOTE).enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let kept = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = kept.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;
    use rstest::rstest;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its parsing is looked at")]
    struct Sample {
        app: String,
        #[serde(default)]
        frequency: Option<i64>,
        #[serde(default)]
        tolerance: Option<i64>,
        #[serde(default)]
        steps: Option<Vec<Step>>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its parsing is looked at")]
    struct Step {
        after: String,
    }

    fn message(bytes: &[u8]) -> String {
        let response = parse::<Sample>(bytes).unwrap_err().into_response();
        assert_eq!(response.status(), 400);
        response.extensions().get::<super::super::error::Told>().unwrap().message.clone()
    }

    #[rstest]
    #[case(b"", r#"the body is empty: send a JSON object such as {"app":"billing","component":"nightly"}"#)]
    #[case(b"null", r#"the body is null, not an object: send a JSON object such as {"app":"billing","component":"nightly"}"#)]
    #[case(b"[\"x\"]", r#"the body is a list, not an object: send a JSON object such as {"app":"billing","component":"nightly"}"#)]
    #[case(b"app=x", r#"the body is not JSON (expected value at line 1 column 1): send a JSON object such as {"app":"billing","component":"nightly"}"#)]
    #[case(b"{}", "app: is missing: give it in the JSON object")]
    #[case(
        br#"{"app":null}"#,
        "app: expected a string, got null; give a value, or leave the field out if it is optional"
    )]
    #[case(br#"{"app":5}"#, r#"app: expected a string, got the number 5; write a string, such as "5""#)]
    #[case(br#"{"app":["x"]}"#, "app: expected a string, got a list; write a string")]
    #[case(br#"{"app":{}}"#, "app: expected a string, got an object; write a string")]
    #[case(br#"{"app":true}"#, "app: expected a string, got boolean true; write a string")]
    #[case(
        br#"{"app":"x","frequency":"5"}"#,
        r#"frequency: expected a whole number, got the string "5"; write 5 without quotes"#
    )]
    #[case(
        br#"{"app":"x","frequency":"five"}"#,
        r#"frequency: expected a whole number, got the string "five"; write a whole number"#
    )]
    #[case(
        br#"{"app":"x","frequency":5.5}"#,
        "frequency: expected a whole number, got the number 5.5; write a whole number that fits 64 bits"
    )]
    #[case(
        br#"{"app":"x","frequency":1e18}"#,
        "frequency: expected a whole number, got the number 1e+18; write a whole number that fits 64 bits"
    )]
    #[case(
        br#"{"app":"x","frequency":99999999999999999999}"#,
        "frequency: expected a whole number, got the number 1e+20; write a whole number that fits 64 bits"
    )]
    #[case(
        br#"{"app":"x","tolerence":2}"#,
        "tolerence: is not a field here; did you mean `tolerance`? known are app, frequency, tolerance, steps"
    )]
    #[case(
        br#"{"app":"x","color":"red"}"#,
        "color: is not a field here; known are app, frequency, tolerance, steps"
    )]
    #[case(
        br#"{"App":"x"}"#,
        "App: is not a field here; did you mean `app`? known are app, frequency, tolerance, steps"
    )]
    #[case(br#"{"app":"x","app":"y"}"#, "app: is given twice: keep one")]
    #[case(br#"{"app":"x","steps":[{}]}"#, "steps[0].after: is missing: give it in the JSON object")]
    #[case(
        br#"{"app":"x","steps":[{"after":5}]}"#,
        r#"steps[0].after: expected a string, got the number 5; write a string, such as "5""#
    )]
    #[case(
        br#"{"app":"x"#,
        "the body is not JSON (EOF while parsing a string at line 1 column 9): it ends too early; check quotes and braces"
    )]
    #[case(
        br#"{"app":"x"} {}"#,
        "there is more after the JSON object (trailing characters at line 1 column 13): send one object"
    )]
    #[case(
        br#"{"app":"\ud800"}"#,
        "the body is not JSON (unexpected end of hex escape at line 1 column 15): check quotes, commas and braces"
    )]
    #[case(
        b"{\"app\":\"a\nb\"}",
        "the body is not JSON (control character (\\u0000-\\u001F) found while parsing a string at line 2 column 0): write control characters as escapes, such as \\n"
    )]
    #[case(b"{\"app\":\"\xff\"}", "the body is not UTF-8 at byte 8: send JSON encoded as UTF-8")]
    fn a_wrong_body_is_told_by_field_and_remedy(#[case] body: &[u8], #[case] told: &str) {
        assert_eq!(message(body), told);
    }

    #[rstest]
    #[case::lists(format!("{{\"app\":{}", "[".repeat(100_000)))]
    #[case::objects("{\"app\":".repeat(100_000))]
    #[case::bare("[".repeat(100_000))]
    fn deep_nesting_is_refused_without_a_crash(#[case] body: String) {
        assert!(!message(body.as_bytes()).is_empty());
    }

    #[test]
    fn a_long_value_is_quoted_shortened() {
        let body = format!("{{\"app\":\"x\",\"frequency\":\"{}\"}}", "9".repeat(1000));
        assert!(message(body.as_bytes()).len() < 250);
    }
}
