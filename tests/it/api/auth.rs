//! Who may call what, and what a stranger learns.

use std::io::Write;

use gotel::http::{Auth, AuthConfig};
use serde_json::json;

use crate::util::app::{Answer, TestApp};
use crate::util::db::{Backend, TestDb};

const TOKENS: [(&str, &str, Option<&str>); 6] = [
    ("checkin", "checkin", None),
    ("reserve", "reserve", None),
    ("read", "read", None),
    ("admin", "admin", None),
    ("team-read", "read", Some("team/")),
    ("team-all", "admin", Some("team/")),
];

fn secret(name: &str) -> String {
    format!("secret-of-{name}-0123456789")
}

/// A server that knows [`TOKENS`].
async fn guarded() -> TestApp {
    let dir = tempfile::tempdir().unwrap();
    let tokens: Vec<_> = TOKENS
        .iter()
        .map(|(name, scope, prefix)| {
            let path = dir.path().join(name);
            writeln!(std::fs::File::create(&path).unwrap(), "{}", secret(name)).unwrap();
            json!({"name": name, "scopes": [scope], "appPrefix": prefix, "tokenFile": path})
        })
        .collect();
    let config: AuthConfig = serde_json::from_value(json!({ "tokens": tokens })).unwrap();
    let auth = Auth::decide("0.0.0.0:8080".parse().unwrap(), None, &config).unwrap();
    let app = TestApp::with(TestDb::new(Backend::Sqlite).await.unwrap(), auth).await;
    for name in ["team/a", "other"] {
        let body = json!({"app": name, "component": "b", "frequency": 5, "time_units": "minutes"});
        assert_eq!(call(&app, Some("admin"), "POST", "/reservation", &body.to_string()).await.status, 200);
    }
    app
}

async fn call(app: &TestApp, token: Option<&str>, method: &str, path: &str, body: &str) -> Answer {
    let mut request = app.client.request(method.parse().unwrap(), app.url(path)).body(body.to_owned());
    if let Some(name) = token {
        request = request.bearer_auth(secret(name));
    }
    app.send(request).await
}

const JOB: &str = r#"{"app":"other","component":"b"}"#;
const RESERVATION: &str = r#"{"app":"other","component":"b","frequency":5,"time_units":"minutes"}"#;
const SNOOZE: &str = r#"{"app":"other","component":"b","duration":"1h"}"#;

#[tokio::test]
async fn every_route_asks_for_its_scope() {
    let app = guarded().await;
    // Scope that a route asks for; "" = none.
    let routes = [
        ("checkin", "POST", "/checkin", JOB),
        ("checkin", "GET", "/checkin/other/b", ""),
        ("checkin", "HEAD", "/checkin/other/b", ""),
        ("checkin", "POST", "/checkin/other/b/start", ""),
        ("reserve", "POST", "/reservation", RESERVATION),
        ("reserve", "POST", "/snooze", SNOOZE),
        ("reserve", "POST", "/unsnooze", JOB),
        ("read", "GET", "/reservation", ""),
        ("read", "GET", "/reservation/other/b", ""),
        ("read", "GET", "/reservation/other/b/checkins", ""),
        ("read", "GET", "/reservation/other/b/incidents", ""),
        ("read", "GET", "/status", ""),
        ("read", "GET", "/status/other/b", ""),
        ("read", "GET", "/badguests", ""),
        ("read", "GET", "/nodes", ""),
        ("read", "GET", "/metrics", ""),
        ("", "GET", "/livez", ""),
        ("", "GET", "/readyz", ""),
        ("", "GET", "/is-coordinator", ""),
        ("", "GET", "/openapi.json", ""),
    ];
    for (scope, method, path, body) in routes {
        for (token, good) in [
            (None, scope.is_empty()),
            (Some("nobody"), scope.is_empty()),
            (Some("checkin"), matches!(scope, "" | "checkin")),
            (Some("reserve"), matches!(scope, "" | "reserve")),
            (Some("read"), matches!(scope, "" | "read")),
            (Some("admin"), true),
        ] {
            let expected = match token {
                _ if good => 200,
                None | Some("nobody") => 401,
                _ => 403,
            };
            let answer = call(&app, token, method, path, body).await;
            assert_eq!(answer.status, expected, "{token:?} {method} {path}: {}", answer.body);
            assert_eq!(
                answer.headers.contains_key("www-authenticate"),
                expected == 401,
                "{token:?} {method} {path}"
            );
        }
    }
    assert_eq!(call(&app, Some("reserve"), "POST", "/checkout", JOB).await.status, 200);
    app.finish().await;
}

#[tokio::test]
async fn a_stranger_cannot_tell_what_exists() {
    let app = guarded().await;
    for token in [None, Some("nobody"), Some("read")] {
        let there = call(&app, token, "GET", "/checkin/other/b", "").await;
        let not_there = call(&app, token, "GET", "/checkin/nowhere/b", "").await;
        assert_eq!((there.status, &there.body), (not_there.status, &not_there.body));
    }
    let (there, not_there) = (r#"{"app":"other","component":"b"}"#, r#"{"app":"nowhere","component":"b"}"#);
    for path in ["/checkin", "/unsnooze", "/checkout"] {
        let there = call(&app, Some("team-all"), "POST", path, there).await;
        let not_there = call(&app, Some("team-all"), "POST", path, not_there).await;
        assert_eq!(there.status, 403, "{path}");
        assert_eq!((there.status, &there.body), (not_there.status, &not_there.body));
    }
    app.finish().await;
}

#[tokio::test]
async fn a_token_with_a_prefix_sees_and_uses_only_its_own() {
    let app = guarded().await;
    let apps = async |token, path: &str| {
        let answer = call(&app, Some(token), "GET", path, "").await.json();
        answer["result"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["app"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(apps("read", "/reservation").await, ["team/a", "other"]);
    assert_eq!(apps("team-read", "/reservation").await, ["team/a"]);
    assert_eq!(apps("team-read", "/reservation?app=other").await, [""; 0]);
    for (path, code) in [
        ("/reservation/team%2Fa/b", 200),
        ("/reservation/other/b", 403),
        ("/status/other/b", 403),
        ("/checkin/team%2Fa/b", 200),
        ("/checkin/other/b", 403),
        ("/metrics", 403),
        ("/nodes", 403),
    ] {
        assert_eq!(call(&app, Some("team-all"), "GET", path, "").await.status, code, "{path}");
    }
    for page in ["/status", "/badguests"] {
        let page = call(&app, Some("team-read"), "GET", page, "").await;
        assert!(page.status == 200 && !page.body.contains("other"), "{}", page.body);
    }
    assert!(call(&app, Some("team-read"), "GET", "/status", "").await.body.contains("The one guest behaves"));
    app.finish().await;
}

#[tokio::test]
async fn a_browser_shows_the_pages_with_the_token_as_password() {
    let app = guarded().await;
    let page =
        async |accept: &str| app.send(app.client.get(app.url("/status")).header("accept", accept)).await;
    let asked = page("text/html,application/xhtml+xml").await;
    assert_eq!(asked.status, 401);
    assert!(asked.header("www-authenticate").starts_with("Basic realm="));
    assert!(asked.header("content-type").starts_with("text/html"));
    assert_eq!(page("*/*").await.header("www-authenticate"), r#"Bearer realm="gotel""#);

    let basic = |path: &str| app.client.get(app.url(path)).basic_auth("anybody", Some(secret("read")));
    assert_eq!(app.send(basic("/status")).await.status, 200);
    let basic = app.client.get(app.url("/checkin/other/b")).basic_auth("x", Some(secret("checkin")));
    assert_eq!(app.send(basic).await.status, 401, "a browser's memory of a password changes nothing");
    app.finish().await;
}

#[tokio::test]
async fn another_sites_page_cannot_use_an_open_server() {
    let app = TestApp::new().await;
    app.reserve("a", "b", json!({})).await;
    for (name, value) in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")] {
        for (method, path) in [("POST", "/checkout"), ("GET", "/checkin/a/b"), ("POST", "/snooze")] {
            let request = app.client.request(method.parse().unwrap(), app.url(path)).header(name, value);
            let answer = app.send(request.body(r#"{"app":"a","component":"b"}"#)).await;
            assert_eq!(answer.status, 403, "{name} {path}");
        }
    }
    assert_eq!(app.get("/reservation/a/b").await.json()["result"]["number_of_checkins"], 0);
    app.finish().await;
}

#[tokio::test]
async fn the_tokens_name_stands_beside_its_snooze() {
    let app = guarded().await;
    assert_eq!(call(&app, Some("reserve"), "POST", "/snooze", SNOOZE).await.status, 200);
    let shown = call(&app, Some("read"), "GET", "/reservation/other/b", "").await.json();
    assert_eq!(shown["result"]["snooze_by"], "reserve");
    app.finish().await;
}
