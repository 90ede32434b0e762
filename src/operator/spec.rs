//! From an object's spec to a wish: the same drafts and rules as over HTTP, under the object's own field names.
//!
//! Promises: what is refused names the field as the object spells it, and the remedy.

use super::claims::Claims;
use super::crd::{ReclaimPolicy, Reservation};
use super::words::Reason;
use crate::reservation::settings::DraftEscalation;
use crate::reservation::{Draft, Invalid, JobKey, Settings};
use crate::store::Reclaim;
use kube::ResourceExt;

/// By this annotation an object takes over what the API made.
pub const ADOPT: &str = "gotel.dev/adopt";

/// What an object asks for, understood.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Which reservation.
    pub key: JobKey,
    /// What is to be agreed.
    pub settings: Settings,
    /// What becomes of it when the object goes.
    pub reclaim: Reclaim,
    /// Whether alerting is to be paused.
    pub suspend: bool,
    /// Whether it may be taken over from the API.
    pub adopt: bool,
}

/// Why an object is not watched as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One word of [`Reason`].
    pub reason: Reason,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Understands a spec; `claims`: which namespace may claim which app.
///
/// # Errors
/// The first field that is wrong.
pub fn ask(
    object: &Reservation,
    claims: Option<&Claims>,
    known_alerters: &[String],
    now_ms: i64,
) -> Result<Asked, Refusal> {
    let spec = &object.spec;
    let key = JobKey::parse(&spec.app, &spec.component).map_err(refusal)?;
    let namespace = object.namespace().unwrap_or_default();
    if let Some(claims) = claims.filter(|claims| !claims.allow(&namespace, &spec.app)) {
        return Err(not_allowed(claims, &namespace));
    }
    let settings = Settings::parse(&draft(object), known_alerters, now_ms).map_err(refusal)?;
    Ok(Asked {
        key,
        settings,
        reclaim: match spec.reclaim_policy.unwrap_or_default() {
            ReclaimPolicy::Delete => Reclaim::Delete,
            ReclaimPolicy::Retain => Reclaim::Retain,
        },
        suspend: spec.suspend.unwrap_or(false),
        adopt: object.annotations().get(ADOPT).is_some_and(|value| value == "true"),
    })
}

fn draft(object: &Reservation) -> Draft {
    let spec = object.spec.clone();
    let schedule = spec.schedule;
    Draft {
        frequency: None,
        time_units: None,
        every: schedule.every,
        cron: schedule.cron,
        time_zone: schedule.time_zone,
        grace: schedule.grace,
        first_within: spec.first_within,
        max_runtime: spec.max_runtime,
        tolerance: spec.tolerance,
        realert: spec.realert,
        alerters: Some(spec.alerters),
        escalation: Some(
            spec.escalation
                .into_iter()
                .map(|step| DraftEscalation { after: step.after, alerters: step.alerters })
                .collect(),
        ),
        alert_msg: spec.message,
        owner: spec.owner,
        notify: Some(spec.notify),
        labels: Some(spec.labels),
    }
}

fn not_allowed(claims: &Claims, namespace: &str) -> Refusal {
    let may = match claims.of(namespace) {
        [] => format!("`app` must not be claimed in the namespace {namespace}, which may claim none"),
        apps => format!("`app` must be one that the namespace {namespace} may claim: {}", apps.join(", ")),
    };
    let message = format!("{may}; choose another, or have it allowed in GoTel's `kubernetes.claims`");
    Refusal { reason: Reason::NamespaceNotAllowed, message }
}

fn refusal(invalid: Invalid) -> Refusal {
    let alerter = invalid.field.contains("alerters[") && invalid.message.contains("no configured alerter");
    let reason = match &*invalid.field {
        "every" | "cron" | "time_zone" | "grace" | "frequency" => Reason::InvalidSchedule,
        _ if alerter => Reason::UnknownAlerter,
        _ => Reason::InvalidSpec,
    };
    let field = match &*invalid.field {
        "every" | "cron" | "grace" => format!("schedule.{}", invalid.field),
        "frequency" => "schedule.every".into(),
        "time_zone" => "schedule.timeZone".into(),
        "first_within" => "firstWithin".into(),
        "max_runtime" => "maxRuntime".into(),
        "alert_msg" => "message".into(),
        other => other.to_owned(),
    };
    Refusal { reason, message: format!("`{field}` {}", invalid.message) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    const NOW: i64 = 1_767_323_045_000;

    fn ask_for(more: Value) -> Result<Asked, Refusal> {
        let mut spec = json!({"app": "billing", "component": "nightly", "schedule": {"every": "24h"}});
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        let object = Reservation::new("r", serde_json::from_value(spec).unwrap());
        ask(&object, None, &["mail".into(), "pager".into()], NOW)
    }

    #[test]
    fn an_app_that_the_namespace_may_not_claim_is_refused_with_those_that_it_may() {
        let spec = json!({"app": "billing", "component": "nightly", "schedule": {"every": "24h"}});
        let mut object = Reservation::new("r", serde_json::from_value(spec).unwrap());
        let claims = serde_yaml::from_str("{billing: ['billing*'], shop: [orders, 'pay-*']}").unwrap();
        let claims = Claims::parse(claims, |_| true).unwrap();
        for (namespace, right) in [
            ("billing", None),
            ("shop", Some("one that the namespace shop may claim: orders, pay-*; choose another")),
            ("other", Some("`app` must not be claimed in the namespace other, which may claim none")),
        ] {
            object.metadata.namespace = Some(namespace.into());
            let refused = ask(&object, Some(&claims), &[], NOW).err();
            assert_eq!(refused.is_some(), right.is_some(), "{namespace}");
            if let (Some(refused), Some(right)) = (refused, right) {
                assert_eq!(refused.reason, Reason::NamespaceNotAllowed);
                assert!(refused.message.contains(right), "{}", refused.message);
            }
        }
    }

    #[test]
    fn every_field_of_the_object_reaches_the_settings() {
        let asked = ask_for(json!({
            "schedule": {"cron": "0 3 * * *", "timeZone": "Europe/Amsterdam", "grace": "30m"},
            "firstWithin": "2d", "maxRuntime": "1h", "tolerance": 3, "realert": "never", "notify": ["a@example.org"],
            "alerters": ["pager"], "escalation": [{"after": "30m", "alerters": ["mail"]}], "owner": "ada",
            "message": "{app} is late", "labels": {"team": "x"}, "suspend": true, "reclaimPolicy": "Retain",
        }))
        .unwrap();
        let s = &asked.settings;
        assert_eq!(asked.key.to_string(), "billing/nightly");
        assert_eq!(
            (s.grace_ms, s.first_within_ms, s.max_runtime_ms),
            (1_800_000, Some(172_800_000), Some(3_600_000))
        );
        assert_eq!((s.tolerance, s.realert_ms, &*s.owner), (3, 0, "ada"));
        assert_eq!(
            (s.notify.joined(), s.alerters.join(","), s.escalation.len()),
            ("a@example.org".into(), "pager".into(), 1)
        );
        assert_eq!((s.alert_msg.as_deref(), s.labels.len()), (Some("{app} is late"), 1));
        assert_eq!((asked.suspend, asked.reclaim, asked.adopt), (true, Reclaim::Retain, false));
    }

    #[test]
    fn the_same_reservation_is_agreed_as_over_http() {
        let over_http = Draft { every: Some("24h".into()), ..Draft::default() };
        let settings = Settings::parse(&over_http, &[], NOW).unwrap();
        assert_eq!(ask_for(json!({})).unwrap().settings, settings);
    }

    #[rstest]
    #[case::zone(json!({"schedule": {"cron": "0 3 * * *", "timeZone": "Mars/Base"}}), Reason::InvalidSchedule,
        "`schedule.timeZone` `Mars/Base` is no IANA time zone")]
    #[case::never(json!({"schedule": {"cron": "0 3 30 2 *"}}), Reason::InvalidSchedule, "`schedule.cron` ")]
    #[case::days(json!({"schedule": {"every": "400d"}}), Reason::InvalidSchedule, "`schedule.every` `400d` is longer")]
    #[case::alerter(json!({"alerters": ["fax"]}), Reason::UnknownAlerter, "choose from mail, pager")]
    #[case::step(json!({"escalation": [{"after": "1h", "alerters": ["fax"]}]}), Reason::UnknownAlerter,
        "`escalation[0].alerters[0]` `fax` is no configured alerter")]
    #[case::order(json!({"escalation": [{"after": "2h", "alerters": ["mail"]}, {"after": "1h", "alerters": ["mail"]}]}),
        Reason::InvalidSpec, "give the steps in order")]
    #[case::label(json!({"labels": {"a b": "x"}}), Reason::InvalidSpec, "is no label key")]
    #[case::address(json!({"notify": ["a@@b"]}), Reason::InvalidSpec, "`notify` `a@@b` is no mail address")]
    #[case::first(json!({"firstWithin": "400d"}), Reason::InvalidSpec, "`firstWithin` ")]
    fn what_only_the_controller_can_know_is_refused_by_the_objects_own_names(
        #[case] more: Value,
        #[case] reason: Reason,
        #[case] message: &str,
    ) {
        let refusal = ask_for(more).unwrap_err();
        assert_eq!(refusal.reason, reason);
        assert!(refusal.message.contains(message), "{}", refusal.message);
    }
}
