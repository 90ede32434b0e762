//! `alert_msg` placeholders: one pass, no engine, no recursion (design 2.4).
//!
//! Promises: each known `{name}` is replaced once, a value is never looked at again (a job called `{owner}` stays
//! `{owner}`), unknown braces stay as written, and the result has a bounded length. The result is plain text: each
//! alerter escapes it for its own channel.

use super::{JobKey, duration, incident::Reason, notify::NotifyList, schedule::Schedule};

/// GoTel 0.1's default text.
pub const DEFAULT: &str =
    "App: [{app}] Component: [{component}] failed checkin on IP [{srv}]. Contact owner [{owner}]";

/// Longest rendered message, in characters: a template may name a long value many times.
pub const RENDERED_MAX: usize = 10_000;

/// Address of a page of the GoTel that people reach at `base`. A name may hold any character: each is one segment.
pub fn page(base: &str, segments: &[&str]) -> String {
    match url::Url::parse(base) {
        Ok(mut url) => {
            if let Ok(mut path) = url.path_segments_mut() {
                path.pop_if_empty().extend(segments);
            }
            url.into()
        }
        Err(_) => base.to_owned(),
    }
}

/// Values of the placeholders, as text.
#[derive(Debug, Clone, Default)]
pub struct Values {
    /// `{jobid}`: the reservation's id.
    pub jobid: String,
    /// `{app}`
    pub app: String,
    /// `{component}`
    pub component: String,
    /// `{owner}`
    pub owner: String,
    /// `{notify}`: comma-separated.
    pub notify: String,
    /// `{frequency}`: the schedule in words.
    pub frequency: String,
    /// `{last}`: moment of the last check-in, or `never`.
    pub last: String,
    /// `{since}`: time since the last check-in, or `never`.
    pub since: String,
    /// `{checkins}`: how many there were.
    pub checkins: String,
    /// `{srv}`: the replica that noticed.
    pub srv: String,
    /// `{deadline}`: the moment that was missed.
    pub deadline: String,
    /// `{reason}`: in words.
    pub reason: String,
    /// `{incident}`: its id.
    pub incident: String,
    /// `{url}`: link to the reservation's page, or nothing.
    pub url: String,
}

/// What the values are made from.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The reservation's id.
    pub jobid: &'a str,
    /// Its names.
    pub key: &'a JobKey,
    /// Its owner.
    pub owner: &'a str,
    /// Whom it names.
    pub notify: &'a NotifyList,
    /// When it is expected.
    pub schedule: &'a Schedule,
    /// Its last check-in.
    pub last_ms: Option<i64>,
    /// How many there were.
    pub checkins: i64,
    /// The replica that noticed.
    pub srv: &'a str,
    /// The moment that was missed.
    pub deadline_ms: i64,
    /// Why the incident is open.
    pub reason: Reason,
    /// Its id.
    pub incident: &'a str,
    /// Link to the reservation's page.
    pub url: Option<&'a str>,
    /// The moment of telling.
    pub now_ms: i64,
}

impl Values {
    /// The facts as text; moments in UTC.
    pub fn new(facts: &Facts<'_>) -> Self {
        let never = || "never".to_owned();
        Self {
            jobid: facts.jobid.to_owned(),
            app: facts.key.app.as_str().to_owned(),
            component: facts.key.component.as_str().to_owned(),
            owner: facts.owner.to_owned(),
            notify: facts.notify.joined(),
            frequency: facts.schedule.describe(),
            last: facts.last_ms.map_or_else(never, utc),
            since: facts
                .last_ms
                .map_or_else(never, |last| duration::human(facts.now_ms.saturating_sub(last).max(0))),
            checkins: facts.checkins.to_string(),
            srv: facts.srv.to_owned(),
            deadline: utc(facts.deadline_ms),
            reason: facts.reason.as_str().replace('_', " "),
            incident: facts.incident.to_owned(),
            url: facts.url.unwrap_or_default().to_owned(),
        }
    }

    /// The value of a placeholder, None when there is none of that name.
    fn get(&self, name: &str) -> Option<&str> {
        Some(match name {
            "jobid" => &self.jobid,
            "app" => &self.app,
            "component" => &self.component,
            "owner" => &self.owner,
            "notify" => &self.notify,
            "frequency" => &self.frequency,
            "last" => &self.last,
            "since" => &self.since,
            "checkins" => &self.checkins,
            "srv" => &self.srv,
            "deadline" => &self.deadline,
            "reason" => &self.reason,
            "incident" => &self.incident,
            "url" => &self.url,
            _ => return None,
        })
    }
}

/// Replaces each `{name}` once; unknown braces stay as they are. Cut with `…` at 10,000 characters.
pub fn render(template: &str, values: &Values) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        rest = &rest[open..];
        let known = rest.find('}').and_then(|close| Some((close, values.get(&rest[1..close])?)));
        match known {
            Some((close, value)) => {
                out.push_str(value);
                rest = &rest[close + 1..];
            }
            // Only the brace itself: in `{{app}` or `{x {app}` a placeholder may still follow.
            None => {
                out.push('{');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    cut(&out, RENDERED_MAX)
}

/// A moment as people read it: `2026-01-02 03:04:05 UTC`. One outside the calendar (year 9999) is told as its number.
pub fn utc(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(moment) => moment.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        Err(_) => format!("{ms} ms"),
    }
}

/// `text` in at most `max` characters, the last of them `…` if something was cut.
pub(crate) fn cut(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn values() -> Values {
        Values {
            app: "billing".into(),
            component: "{owner}".into(),
            owner: "ann".into(),
            ..Values::default()
        }
    }

    #[rstest]
    #[case::plain("late!", "late!")]
    #[case::one("{app} is late", "billing is late")]
    #[case::twice("{app}{app}", "billingbilling")]
    #[case::a_value_is_not_expanded("{component} {owner}", "{owner} ann")]
    #[case::unknown("{x} {app}", "{x} billing")]
    #[case::empty_braces("{} {app}", "{} billing")]
    #[case::double("{{app}}", "{billing}")]
    #[case::unclosed("{app", "{app")]
    #[case::unclosed_first("{ {app}", "{ billing")]
    #[case::case_matters("{App}", "{App}")]
    #[case::spaces_matter("{ app }", "{ app }")]
    #[case::not_ascii("ü{app}…", "übilling…")]
    #[case::closing_only("}{app}}", "}billing}")]
    #[case::empty_value("[{url}]", "[]")]
    fn known_braces_are_replaced_once_and_others_kept(#[case] template: &str, #[case] rendered: &str) {
        assert_eq!(render(template, &values()), rendered);
    }

    #[test]
    fn the_default_is_0_1s_sentence() {
        let values = Values { srv: "10.0.0.1".into(), component: "nightly".into(), ..values() };
        assert_eq!(
            render(DEFAULT, &values),
            "App: [billing] Component: [nightly] failed checkin on IP [10.0.0.1]. Contact owner [ann]"
        );
    }

    fn facts<'a>(key: &'a JobKey, notify: &'a NotifyList, schedule: &'a Schedule) -> Facts<'a> {
        Facts {
            jobid: "7",
            key,
            owner: "ann",
            notify,
            schedule,
            last_ms: None,
            checkins: 0,
            srv: "node-1",
            deadline_ms: 1_767_323_045_000,
            reason: Reason::NeverCheckedIn,
            incident: "i-1",
            url: None,
            now_ms: 1_767_323_045_000 + 840_000,
        }
    }

    #[test]
    fn every_placeholder_of_the_design_has_a_value() {
        let key = JobKey::parse("billing", "nightly").unwrap();
        let notify = NotifyList::parse(&["a@example.org,ops".to_owned()]).unwrap();
        let schedule = Schedule::every(5, "minutes").unwrap();
        let mut facts = facts(&key, &notify, &schedule);
        let template = "{jobid}|{app}|{component}|{owner}|{notify}|{frequency}|{last}|{since}|{checkins}|{srv}|\
                        {deadline}|{reason}|{incident}|{url}";
        assert_eq!(
            render(template, &Values::new(&facts)),
            "7|billing|nightly|ann|a@example.org,ops|every 5 minutes|never|never|0|node-1|\
             2026-01-02 03:04:05 UTC|never checked in|i-1|"
        );
        facts.last_ms = Some(1_767_323_045_000);
        facts.url = Some("https://gotel.example/x");
        assert_eq!(
            render("{last}, {since} ago, {url}", &Values::new(&facts)),
            "2026-01-02 03:04:05 UTC, 14m ago, https://gotel.example/x"
        );
    }

    #[test]
    fn a_greedy_template_is_cut() {
        let values = Values { app: "x".repeat(5_000), ..Values::default() };
        let rendered = render(&"{app}".repeat(400), &values);
        assert_eq!(rendered.chars().count(), RENDERED_MAX);
        assert!(rendered.ends_with('…'));
    }

    #[test]
    fn moments_beyond_the_calendar_do_not_panic() {
        assert_eq!(utc(i64::MAX), format!("{} ms", i64::MAX));
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(2_147_483_648_000), "2038-01-19 03:14:08 UTC");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn a_template_without_placeholders_is_kept(template in "[^{]{0,80}") {
            prop_assert_eq!(render(&template, &values()), template);
        }

        #[test]
        fn rendering_never_panics(template in any::<String>(), value in any::<String>()) {
            let values = Values { app: value, ..Values::default() };
            render(&format!("{template}{{app}}{template}"), &values);
        }
    }
}
