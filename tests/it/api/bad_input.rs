//! What clients get wrong: a 4xx that names the field and the remedy, and nothing half-written.

use rstest::rstest;
use serde_json::{Value, json};

use crate::util::app::TestApp;

/// A reservation that is right, but for `wrong`.
fn reservation(wrong: Value) -> Vec<u8> {
    let mut body = json!({"app": "a", "component": "b", "frequency": 5, "time_units": "minutes"});
    let target = body.as_object_mut().unwrap();
    for (field, value) in wrong.as_object().unwrap() {
        if value == "(none)" {
            target.remove(field);
        } else {
            target.insert(field.clone(), value.clone());
        }
    }
    body.to_string().into_bytes()
}

fn many(n: usize) -> Vec<String> {
    (0..n).map(|n| format!("p{n}@example.org")).collect()
}

#[rstest]
#[case::empty(vec![], "the body is empty")]
#[case::null(b"null".to_vec(), "the body is null")]
#[case::no_fields(b"{}".to_vec(), "app: is missing")]
#[case::a_list(b"[]".to_vec(), "the body is a list")]
#[case::a_list_of_fields(br#"["a","b","5","minutes"]"#.to_vec(), "the body is a list")]
#[case::a_form(b"app=a&component=b".to_vec(), "the body is not JSON")]
#[case::wrong_type(reservation(json!({"frequency": "5"})), "write 5 without quotes")]
#[case::name_of_wrong_type(reservation(json!({"app": 5})), "app: expected a string")]
#[case::deep_nesting("[".repeat(60_000).into_bytes(), "nested too deeply|recursion")]
#[case::deep_field(format!(r#"{{"app":"a","labels":{}"#, r#"{"x":"#.repeat(5_000)).into_bytes(), "labels")]
#[case::nul(reservation(json!({"app": "a\0b"})), "app: ")]
#[case::lone_surrogate(br#"{"app":"\ud800","component":"b"}"#.to_vec(), "not JSON")]
#[case::not_utf8(b"{\"app\":\"\xff\",\"component\":\"b\"}".to_vec(), "not UTF-8 at byte 8")]
#[case::long_name(reservation(json!({"app": "x".repeat(151)})), "app: has 151 characters")]
#[case::long_component(reservation(json!({"component": "é".repeat(151)})), "component: has 151 characters")]
#[case::empty_name(reservation(json!({"app": ""})), "app: is empty")]
#[case::control_in_name(reservation(json!({"component": "a\u{7f}"})), "component: ")]
#[case::c1_control_in_name(reservation(json!({"component": "a\u{85}b"})), "component: ")]
#[case::space_at_the_end(reservation(json!({"app": "a "})), "app: ")]
#[case::reserved(reservation(json!({"app": "gotel"})), "app: ")]
#[case::negative(reservation(json!({"frequency": -5})), "frequency: ")]
#[case::zero(reservation(json!({"frequency": 0})), "frequency: ")]
#[case::too_often(reservation(json!({"frequency": 9, "time_units": "seconds"})), "frequency: ")]
#[case::huge(reservation(json!({"frequency": 1_000_000_000_000_000_000_i64})), "frequency: ")]
#[case::beyond_64_bits(br#"{"app":"a","component":"b","frequency":1e18,"time_units":"hours"}"#.to_vec(), "frequency: ")]
#[case::unknown_units(reservation(json!({"time_units": "fortnights"})), "time_units: ")]
#[case::no_units(reservation(json!({"time_units": "(none)"})), "time_units: is missing")]
#[case::no_schedule(reservation(json!({"time_units": "(none)", "frequency": "(none)"})), "frequency: is missing")]
#[case::two_schedules(reservation(json!({"cron": "0 2 * * *"})), "exclude each other")]
#[case::impossible_date(reservation(json!({"frequency": "(none)", "time_units": "(none)", "cron": "0 0 30 2 *"})), "cron: ")]
#[case::no_cron(reservation(json!({"frequency": "(none)", "time_units": "(none)", "cron": "every day"})), "cron: ")]
#[case::unknown_zone(reservation(json!({"frequency": "(none)", "time_units": "(none)", "cron": "0 2 * * *", "time_zone": "Mars/Olympus"})), "time_zone: ")]
#[case::grace_without_unit(reservation(json!({"grace": "5"})), "grace: ")]
#[case::grace_of_wrong_type(reservation(json!({"grace": 5})), r#"grace: expected a string, got the number 5; write a string, such as "5""#)]
#[case::line_break_in_address(reservation(json!({"notify": "a@example.org\r\nBcc: b@example.org"})), "notify: ")]
#[case::line_break_in_list(reservation(json!({"notify": ["a@example.org", "b@example.org\n"]})), "notify[1]: ")]
#[case::line_break_in_owner(reservation(json!({"owner": "jane\r\nBcc: x@example.org"})), "owner: ")]
#[case::a_thousand_recipients(reservation(json!({"notify": many(1000)})), "notify: ")]
#[case::a_thousand_in_a_string(reservation(json!({"notify": many(1000).join(",")})), "notify: ")]
#[case::no_address(reservation(json!({"notify": "a@@b"})), "notify: ")]
#[case::unknown_alerter(reservation(json!({"alerters": ["pager"]})), "alerters")]
#[case::typo_in_an_optional_field(reservation(json!({"tolerence": 2})), "tolerence: is not a field here; did you mean `tolerance`?")]
#[case::twice(br#"{"app":"a","app":"b","component":"b","frequency":5,"time_units":"minutes"}"#.to_vec(), "app: is given twice")]
#[case::cut_off(br#"{"app":"a","component":"b","#.to_vec(), "ends too early")]
#[case::two_objects(br#"{"app":"a","component":"b","frequency":5,"time_units":"minutes"}{}"#.to_vec(), "more after the JSON object")]
#[tokio::test]
async fn a_wrong_reservation_is_400_with_field_and_remedy_and_is_not_stored(
    #[case] body: Vec<u8>,
    #[case] told: &str,
) {
    let app = TestApp::new().await;
    let answer = app.post("/reservation", body).await;
    assert_eq!(answer.status, 400, "{}", answer.body);
    assert_eq!(answer.json()["success"], false);
    let message = answer.message();
    assert!(told.split('|').any(|t| message.contains(t)), "{message}");
    assert!(message.len() < 500 && !message.contains(['\r', '\n', '\0']), "{message:?}");
    assert_eq!(app.get("/reservation").await.json()["result"], json!([]));
    app.finish().await;
}

#[rstest]
#[case::checkin_null("/checkin", "null", "the body is null")]
#[case::checkin_names("/checkin", r#"{"app":"a"}"#, "component: is missing")]
#[case::checkin_kind("/checkin", r#"{"app":"a","component":"b","kind":"done"}"#, "kind: ")]
#[case::checkin_exit(
    "/checkin",
    r#"{"app":"a","component":"b","exit_code":256}"#,
    "exit_code: 256 is out of range"
)]
#[case::checkin_exit_huge(
    "/checkin",
    r#"{"app":"a","component":"b","exit_code":1000000000000000000}"#,
    "exit_code: "
)]
#[case::checkin_contradiction(
    "/checkin",
    r#"{"app":"a","component":"b","kind":"ok","exit_code":1}"#,
    "exit_code: "
)]
#[case::checkin_notes("/checkin", r#"{"app":"a","component":"b","notes":["x"]}"#, "notes: expected a string")]
#[case::checkin_rid("/checkin", r#"{"app":"a","component":"b","rid":"a\nb"}"#, "rid: ")]
#[case::checkin_of_gotel("/checkin", r#"{"app":"gotel","component":"worker"}"#, "app: ")]
#[case::snooze_without_end("/snooze", r#"{"app":"a","component":"b"}"#, "duration: is missing")]
#[case::snooze_negative(
    "/snooze",
    r#"{"app":"a","component":"b","duration":-1,"time_units":"hours"}"#,
    "duration: "
)]
#[case::snooze_zero(
    "/snooze",
    r#"{"app":"a","component":"b","duration":0,"time_units":"hours"}"#,
    "POST /unsnooze"
)]
#[case::snooze_huge(
    "/snooze",
    r#"{"app":"a","component":"b","duration":1000000000000000000,"time_units":"hours"}"#,
    "duration: "
)]
#[case::snooze_units(
    "/snooze",
    r#"{"app":"a","component":"b","duration":1,"time_units":"years"}"#,
    "time_units: "
)]
#[case::snooze_list(
    "/snooze",
    r#"{"app":"a","component":"b","duration":[1]}"#,
    "duration: expected a whole number or a string"
)]
#[case::snooze_fraction(
    "/snooze",
    r#"{"app":"a","component":"b","duration":1.5,"time_units":"hours"}"#,
    "duration: expected"
)]
#[case::snooze_past("/snooze", r#"{"app":"a","component":"b","until":"2020-01-01T00:00:00Z"}"#, "until: ")]
#[case::snooze_no_moment("/snooze", r#"{"app":"a","component":"b","until":"tomorrow"}"#, "until: ")]
#[case::snooze_reason(
    "/snooze",
    r#"{"app":"a","component":"b","duration":"1h","reason":"a\r\nb"}"#,
    "reason: "
)]
#[case::unsnooze("/unsnooze", "[]", "the body is a list")]
#[case::checkout("/checkout", r#"{"app":"a","component":"b","force":true}"#, "force: is not a field here")]
#[tokio::test]
async fn a_wrong_request_is_400_with_field_and_remedy_and_changes_nothing(
    #[case] path: &str,
    #[case] body: &'static str,
    #[case] told: &str,
) {
    let app = TestApp::new().await;
    app.reserve("a", "b", json!({})).await;
    let before = app.get("/reservation/a/b").await.shown();
    let answer = app.post(path, body).await;
    assert_eq!((answer.status, &answer.json()["success"]), (400, &json!(false)), "{}", answer.body);
    assert!(answer.message().contains(told), "{}", answer.message());
    assert_eq!(app.get("/reservation/a/b").await.shown(), before);
    app.finish().await;
}

#[rstest]
#[case::exit_code("/checkin/a/b/256", 400, "exit_code: 256 is out of range")]
#[case::signal("/checkin/a/b/strat", 400, "signal: ")]
#[case::negative_code("/checkin/a/b/-1", 400, "signal: ")]
#[case::not_utf8("/checkin/%ff/b", 400, "app: is not UTF-8")]
#[case::not_utf8_component("/reservation/a/%c3%28", 400, "component: is not UTF-8")]
#[case::nul("/checkin/a%00/b", 400, "app: ")]
#[case::line_break("/checkin/a/b%0d%0aX", 400, "component: ")]
#[case::reserved("/checkin/gotel/worker", 400, "app: ")]
#[case::rid_with_control("/checkin/a/b?rid=a%0ab", 400, "rid: ")]
#[case::unknown_job("/checkin/a/nobody", 404, "no such reservation")]
#[case::unknown_path("/chekin/a/b", 404, "nothing at this address")]
#[case::below_a_signal("/checkin/a/b/start/x", 404, "nothing at this address")]
#[case::state("/reservation?state=later", 400, "state: must be one of")]
#[case::limit("/reservation?limit=0", 400, "limit: ")]
#[case::limit_above("/reservation?limit=1001", 400, "limit: ")]
#[case::cursor("/reservation?cursor=abc", 400, "cursor: ")]
#[case::filter_typo("/reservation?ap=a", 400, "ap: is not a parameter here")]
#[tokio::test]
async fn a_wrong_address_is_4xx_with_a_remedy(#[case] path: &str, #[case] code: u16, #[case] told: &str) {
    let app = TestApp::new().await;
    app.reserve("a", "b", json!({})).await;
    let answer = app.get(path).await;
    assert_eq!((answer.status, &answer.json()["success"]), (code, &json!(false)), "{}", answer.body);
    assert!(answer.message().contains(told), "{}", answer.message());
    assert_eq!(app.get("/reservation/a/b").await.json()["result"]["number_of_checkins"], 0);
    app.finish().await;
}

#[tokio::test]
async fn a_long_search_is_refused() {
    let app = TestApp::new().await;
    for page in ["/reservation", "/status"] {
        let answer = app.get(&format!("{page}?q={}", "_".repeat(30_000))).await;
        assert!(
            answer.status == 400 && answer.body.contains("q: has more than 200 characters"),
            "{}",
            answer.body
        );
    }
    app.finish().await;
}

#[tokio::test]
async fn a_long_run_id_is_refused() {
    let app = TestApp::new().await;
    app.reserve("a", "b", json!({})).await;
    let answer = app.get(&format!("/checkin/a/b?rid={}", "x".repeat(101))).await;
    assert_eq!(answer.status, 400);
    assert!(answer.message().starts_with("rid: "));
    app.finish().await;
}

#[tokio::test]
async fn ten_megabytes_are_413_and_the_client_hears_it() {
    let app = TestApp::new().await;
    for path in ["/reservation", "/checkin", "/snooze", "/checkout", "/unsnooze"] {
        let answer = app.post(path, vec![b' '; 10 * 1024 * 1024]).await;
        assert_eq!((answer.status, &answer.json()["success"]), (413, &json!(false)), "{path}");
        assert_eq!(answer.message(), "the body is larger than 64 kB: send less");
    }
    app.finish().await;
}

#[rstest]
#[case("DELETE", "/reservation", "GET,HEAD,POST")]
#[case("GET", "/checkin", "POST")]
#[case("GET", "/checkout", "POST")]
#[case("PUT", "/checkin/a/b", "GET,HEAD,POST")]
#[case("POST", "/status", "GET,HEAD")]
#[case("POST", "/livez", "GET,HEAD")]
#[case("BREW", "/reservation/a/b", "GET,HEAD")]
#[tokio::test]
async fn a_wrong_method_is_405_with_allow(#[case] method: &str, #[case] path: &str, #[case] allow: &str) {
    let app = TestApp::new().await;
    let answer = app.send(app.client.request(method.parse().unwrap(), app.url(path))).await;
    assert_eq!(answer.status, 405);
    let mut allowed: Vec<_> = answer.header("allow").split(',').map(str::trim).collect();
    allowed.sort_unstable();
    assert_eq!(allowed.join(","), allow);
    if path != "/status" {
        assert_eq!(answer.json()["success"], false);
    }
    app.finish().await;
}

#[tokio::test]
async fn braces_and_html_are_only_text() {
    let app = TestApp::new().await;
    let nasty = "{app}{{x}}%s<script>alert(1)</script>&amp;\"'";
    let more = json!({"owner": nasty, "notify": [nasty], "alert_msg": nasty, "labels": {"k": nasty}});
    app.reserve(nasty, nasty, more).await;
    let job = app.get("/reservation").await.json()["result"][0].clone();
    for field in ["app", "component", "owner", "notify", "alert_msg"] {
        assert_eq!(job[field], nasty, "{field}");
    }
    app.finish().await;
}
