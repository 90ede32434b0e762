use super::super::spec::ask;
use super::*;
use kube::core::cel::compile_schema;
use rstest::rstest;
use serde_json::{Value, json};

fn object(spec: Value) -> Reservation {
    Reservation::new("r", serde_json::from_value(spec).unwrap())
}

/// A spec with these fields on top of the least that is needed.
fn with(more: Value) -> Value {
    let mut spec = json!({"app": "billing", "component": "nightly", "schedule": {"every": "24h"}});
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    spec
}

fn refusal(spec: Value) -> String {
    object(spec).validate_cel().expect_err("it is refused").to_string()
}

#[rstest]
#[case::least(json!({}))]
#[case::names_with_spaces(json!({"app": "order entry", "component": "größe/x"}))]
#[case::cron(json!({"schedule": {"cron": "0 3 * * *", "timeZone": "Europe/Amsterdam", "grace": "30m"}}))]
#[case::shortest(json!({"schedule": {"every": "10s"}}))]
#[case::longest(json!({"schedule": {"every": "8784h", "grace": "8784h"}}))]
#[case::days_are_the_controllers(json!({"schedule": {"every": "2d", "grace": "1d12h"}}))]
#[case::first(json!({"firstWithin": "10s", "maxRuntime": "1s"}))]
#[case::never_again(json!({"realert": "never"}))]
#[case::no_realert(json!({"realert": "0s"}))]
#[case::realert(json!({"realert": "1m"}))]
#[case::people(json!({"notify": ["a@example.org", "#ops"], "alerters": ["pager"], "owner": "ada"}))]
#[case::steps(json!({"escalation": [{"after": "30m", "alerters": ["pager"]}]}))]
#[case::all_else(json!({"tolerance": 3, "message": "a\nb", "labels": {"team": "x"}, "suspend": true,
    "reclaimPolicy": "Retain"}))]
fn what_makes_sense_is_taken(#[case] more: Value) {
    object(with(more)).validate_cel().unwrap();
}

#[rstest]
#[case::leading_space(json!({"app": " a"}), "`app` must not begin or end with a space")]
#[case::trailing_space(json!({"component": "a "}), "`component` must not begin or end with a space")]
#[case::control(json!({"app": "a\u{7}b"}), "control characters; remove them")]
#[case::line_break(json!({"component": "a\nb"}), "control characters; remove them")]
#[case::reserved(json!({"app": "gotel"}), "choose another name")]
#[case::both(json!({"schedule": {"every": "1h", "cron": "0 3 * * *"}}), "exactly one of `every` and `cron`")]
#[case::neither(json!({"schedule": {}}), "exactly one of `every` and `cron`")]
#[case::zone_of_a_period(json!({"schedule": {"every": "1h", "timeZone": "UTC"}}), "only be set together with `cron`")]
#[case::too_short(json!({"schedule": {"every": "9s"}}), "`every` must be 10s or more; lengthen it")]
#[case::too_long(json!({"schedule": {"every": "8785h"}}), "`every` must be 8784h (366 days) or less")]
#[case::no_unit(json!({"schedule": {"every": "90"}}), "write it as `90s`")]
#[case::no_duration(json!({"schedule": {"every": "1h", "grace": "soon"}}), "`grace` must be a length of time")]
#[case::long_grace(json!({"schedule": {"every": "1h", "grace": "9000h"}}), "`grace` must be 8784h")]
#[case::six_fields(json!({"schedule": {"cron": "0 0 3 * * *"}}), "must be five fields; write `30 2 * * *`")]
#[case::first(json!({"firstWithin": "5s"}), "`firstWithin` must be 10s or more")]
#[case::first_form(json!({"firstWithin": "a week"}), "`firstWithin` must be a length of time")]
#[case::run(json!({"maxRuntime": "10ms"}), "`maxRuntime` must be 1s or more")]
#[case::run_form(json!({"maxRuntime": "1x"}), "`maxRuntime` must be a length of time")]
#[case::realert_form(json!({"realert": "often"}), "or `never`; write it as")]
#[case::realert(json!({"realert": "30s"}), "`realert` must be 1m or more, or `never`")]
#[case::joined(json!({"notify": ["a@example.org,b@example.org"]}), "give each entry on its own")]
#[case::header(json!({"notify": ["a@example.org\r\nBcc: b@example.org"]}), "give each entry on its own")]
#[case::owner(json!({"owner": "a\u{1b}b"}), "`owner` must be one line")]
#[case::step(json!({"escalation": [{"after": "30s", "alerters": ["pager"]}]}), "`after` must be 1m or more")]
#[case::step_form(json!({"escalation": [{"after": "x", "alerters": ["pager"]}]}), "`after` must be a length of time")]
fn what_contradicts_itself_is_refused_with_the_remedy(#[case] more: Value, #[case] remedy: &str) {
    let refusal = refusal(with(more));
    assert!(refusal.contains(remedy), "{refusal}");
}

#[test]
fn the_names_stay_and_the_rest_may_change() {
    let old = object(with(json!({})));
    object(with(json!({"schedule": {"cron": "0 3 * * *"}}))).validate_cel_update(&old).unwrap();
    for other in [json!({"app": "other"}), json!({"component": "other"})] {
        let refusal = object(with(other)).validate_cel_update(&old).unwrap_err().to_string();
        assert!(refusal.contains("create another"), "{refusal}");
    }
}

#[test]
fn every_rule_of_the_schema_compiles() {
    let definition = definition();
    let schema = definition.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let compiled = compile_schema(&serde_json::to_value(schema).unwrap());
    let errors = compiled.compilation_errors();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn the_definition_fits_and_has_neither_nulls_nor_defaults_nor_empty_lists() {
    let yaml = yaml().unwrap();
    assert!(yaml.len() < 20_000, "{} bytes", yaml.len());
    for word in ["nullable", "default:", "[]", "uint", "Time is a wrapper"] {
        assert!(!yaml.contains(word), "{word}\n{yaml}");
    }
    assert!(yaml.lines().all(|line| !line.ends_with(' ')), "{yaml}");
}

#[test]
fn every_text_and_list_has_a_bound() {
    fn look(at: &Value, path: &str) {
        if at["type"] == "string" && at.get("enum").is_none() && at.get("format").is_none() {
            assert!(at.get("maxLength").is_some(), "{path}: {at}");
        }
        if at["type"] == "array" {
            assert!(at.get("maxItems").is_some(), "{path}: {at}");
            look(&at["items"], &format!("{path}[]"));
        }
        for (name, property) in at["properties"].as_object().into_iter().flatten() {
            look(property, &format!("{path}.{name}"));
        }
    }
    let definition = serde_json::to_value(definition()).unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    look(&schema["properties"]["spec"], "spec");
}

#[test]
fn an_object_of_a_newer_definition_is_still_read() {
    let spec: ReservationSpec = serde_json::from_value(with(json!({"later": {"x": 1}}))).unwrap();
    assert_eq!(spec.app, "billing");
}

const NOW: i64 = 1_767_323_045_000;

/// Whether the rules behind HTTP take what an object asks for.
fn agreed(spec: Value) -> bool {
    let known: Vec<String> = (0..=ALERTERS_MAX).map(|n| format!("a{n}")).collect();
    ask(&object(with(spec)), None, &known, NOW).is_ok()
}

#[rstest]
#[case::every(|length: &str| json!({"schedule": {"every": length}}), "10s", "9999ms")]
#[case::longest(|length: &str| json!({"schedule": {"every": length}}), "8784h", "8784h1ms")]
#[case::grace(|length: &str| json!({"schedule": {"every": "1h", "grace": length}}), "8784h", "8784h1ms")]
#[case::first(|length: &str| json!({"firstWithin": length}), "10s", "9999ms")]
#[case::run(|length: &str| json!({"maxRuntime": length}), "1s", "999ms")]
#[case::realert(|length: &str| json!({"realert": length}), "1m", "59999ms")]
#[case::step(|length: &str| json!({"escalation": [{"after": length, "alerters": ["a1"]}]}), "1m", "59999ms")]
fn a_length_ends_where_it_does_over_http(
    #[case] spec: fn(&str) -> Value,
    #[case] last: &str,
    #[case] beyond: &str,
) {
    object(with(spec(last))).validate_cel().unwrap();
    assert!(agreed(spec(last)), "{last}");
    object(with(spec(beyond))).validate_cel().unwrap_err();
    assert!(!agreed(spec(beyond)), "{beyond}");
}

fn schema() -> Value {
    let definition = serde_json::to_value(Reservation::crd()).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"].clone()
}

fn step(minutes: usize) -> Value {
    json!({"after": format!("{minutes}m"), "alerters": ["a1"]})
}

/// A cron line of this many characters.
fn cron_of(characters: usize) -> String {
    let minutes = characters - " 3 * * *".len();
    let first = if minutes.is_multiple_of(2) { "10" } else { "0" };
    format!("{first}{} 3 * * *", ",0".repeat((minutes - first.len()) / 2))
}

#[rstest]
#[case::app("/app/maxLength", |n| json!({"app": "x".repeat(n)}))]
#[case::component("/component/maxLength", |n| json!({"component": "x".repeat(n)}))]
#[case::cron("/schedule/properties/cron/maxLength", |n| json!({"schedule": {"cron": cron_of(n)}}))]
#[case::tolerance("/tolerance/maximum", |n| json!({"tolerance": n}))]
#[case::notify("/notify/maxItems", |n| json!({"notify": (0..n).map(|n| n.to_string()).collect::<Vec<_>>()}))]
#[case::entry("/notify/items/maxLength", |n| json!({"notify": ["x".repeat(n)]}))]
#[case::alerters("/alerters/maxItems",
    |n| json!({"alerters": (0..n).map(|n| format!("a{n}")).collect::<Vec<_>>()}))]
#[case::steps("/escalation/maxItems",
    |n| json!({"escalation": (1..=n).map(step).collect::<Vec<_>>()}))]
#[case::owner("/owner/maxLength", |n| json!({"owner": "x".repeat(n)}))]
#[case::message("/message/maxLength", |n| json!({"message": "x".repeat(n)}))]
#[case::labels("/labels/maxProperties",
    |n| json!({"labels": (0..n).map(|n| (n.to_string(), n.to_string())).collect::<BTreeMap<_, _>>()}))]
#[case::label("/labels/additionalProperties/maxLength", |n| json!({"labels": {"team": "x".repeat(n)}}))]
fn a_bound_of_the_schema_is_the_last_that_is_taken_over_http(
    #[case] bound: &str,
    #[case] spec: fn(usize) -> Value,
) {
    let schema = schema();
    let most = schema.pointer(bound).unwrap_or_else(|| panic!("there is no {bound} in {schema}"));
    let most = most.as_f64().unwrap() as usize;
    assert!(agreed(spec(most)), "{bound}: {most}");
    assert!(!agreed(spec(most + 1)), "{bound}: {}", most + 1);
}

#[test]
fn every_zone_that_http_takes_has_a_name_that_fits() {
    let zones: Vec<_> = jiff::tz::db().available().collect();
    assert!(zones.len() > 300 && zones.iter().all(|zone| zone.as_str().len() <= ZONE_MAX));
}

/// Where each setting of `POST /reservation` is in an object; or why it is not.
const PLACES: [(&str, Result<&str, &str>); 18] = [
    ("app", Ok("app")),
    ("component", Ok("component")),
    ("every", Ok("schedule.every")),
    ("cron", Ok("schedule.cron")),
    ("time_zone", Ok("schedule.timeZone")),
    ("grace", Ok("schedule.grace")),
    ("first_within", Ok("firstWithin")),
    ("max_runtime", Ok("maxRuntime")),
    ("tolerance", Ok("tolerance")),
    ("realert", Ok("realert")),
    ("alerters", Ok("alerters")),
    ("escalation", Ok("escalation")),
    ("alert_msg", Ok("message")),
    ("owner", Ok("owner")),
    ("notify", Ok("notify")),
    ("labels", Ok("labels")),
    ("frequency", Err("the form of GoTel 0.1, kept for its clients; `every` says the same")),
    ("time_units", Err("goes with `frequency`")),
];

/// What only an object has.
const OF_AN_OBJECT: [&str; 2] = ["suspend", "reclaimPolicy"];

#[test]
fn every_setting_of_http_has_its_place_in_an_object() {
    fn names(properties: &Value) -> Vec<&str> {
        properties.as_object().unwrap().keys().map(String::as_str).collect()
    }
    let openapi: Value = serde_json::from_str(include_str!("../../../openapi.json")).unwrap();
    let schemas = &openapi["components"]["schemas"];
    let schema = schema();
    let mut known: Vec<&str> = PLACES.iter().map(|(setting, _)| *setting).collect();
    known.sort_unstable();
    assert_eq!(known, names(&schemas["ReservationIn"]["properties"]), "over HTTP, and in this table");

    let mut there: Vec<String> = Vec::new();
    for name in names(&schema) {
        match name {
            "schedule" => {
                let parts = names(&schema["schedule"]["properties"]);
                there.extend(parts.iter().map(|part| format!("schedule.{part}")));
            }
            name if OF_AN_OBJECT.contains(&name) => {}
            name => there.push(name.to_owned()),
        }
    }
    let mut places: Vec<&str> = PLACES.iter().filter_map(|(_, place)| place.ok()).collect();
    places.sort_unstable();
    there.sort_unstable();
    assert_eq!(there, places, "in an object, and in this table");
    let step = &schema["escalation"]["items"]["properties"];
    let mut over_http = names(&schemas["EscalationIn"]["properties"]);
    over_http.sort_unstable();
    assert_eq!(names(step), over_http);
}
