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
