use super::*;
use crate::alert::fixtures::late;
use rstest::rstest;

fn claimed(attempts: i64, age_ms: i64) -> Claimed {
    Claimed {
        id: 1,
        token: "t".into(),
        idem_key: "k".into(),
        recipient: String::new(),
        attempts,
        age_ms,
        notice: late(),
    }
}

const DAY_MS: i64 = 86_400_000;

#[rstest]
#[case(Outcome::Accepted, 1, 0, Finish::Done)]
#[case(Outcome::refused("no"), 1, 0, Finish::Dead { error: "no".into() })]
#[case(Outcome::retry("later"), 1, 0, Finish::Retry { after_ms: 5_000, error: "later".into() })]
#[case(Outcome::retry("later"), 9, DAY_MS, Finish::Dead { error: "given up after 9 tries: later".into() })]
#[case(Outcome::Retry { why: "429".into(), after_ms: Some(42_000) }, 1, 0,
    Finish::Retry { after_ms: 42_000, error: "429".into() })]
#[case(Outcome::broken("535"), 1, 0, Finish::Retry { after_ms: 600_000, error: "535".into() })]
#[case(Outcome::broken("535"), 3, DAY_MS, Finish::Dead { error: "given up after 3 tries: 535".into() })]
fn each_outcome_becomes_a_state_of_the_row(
    #[case] outcome: Outcome,
    #[case] attempts: i64,
    #[case] age_ms: i64,
    #[case] expected: Finish,
) {
    assert_eq!(finish_of(&outcome, &claimed(attempts, age_ms), 0.5), expected);
}

#[test]
fn a_failing_alerter_is_reported_after_five_minutes_and_once() {
    let mut health = Health::default();
    assert_eq!(health.to_report(0), None);
    health.failed(&claimed(1, 0), "down", 0);
    assert_eq!(health.to_report(FAILING_MS - 1), None);
    assert_eq!(health.to_report(FAILING_MS), Some(true));
    health.reported = Some(true);
    assert_eq!(health.to_report(FAILING_MS * 2), None);
    health.succeeded();
    assert_eq!(health.to_report(FAILING_MS * 2), Some(false));
    health.reported = Some(false);
    assert_eq!(health.to_report(FAILING_MS * 3), None);
}

#[test]
fn a_notice_that_failed_before_this_process_began_tells_since_when() {
    let mut health = Health::default();
    health.failed(&claimed(4, FAILING_MS), "down", 10);
    assert_eq!(health.to_report(10), Some(true));
}

#[test]
fn an_alerter_that_is_set_up_wrongly_is_reported_at_once() {
    let mut health = Health::default();
    health.failed(&claimed(1, 0), "535", 0);
    health.broken = true;
    assert_eq!(health.to_report(0), Some(true));
}

#[test]
fn the_first_success_of_a_process_withdraws_what_an_earlier_one_reported() {
    let mut health = Health::default();
    health.succeeded();
    assert_eq!(health.to_report(0), Some(false));
}

#[test]
fn a_short_failure_changes_nothing_that_stands_reported() {
    let mut health = Health { reported: Some(true), ..Health::default() };
    health.failed(&claimed(1, 0), "down", 0);
    assert_eq!(health.to_report(1), None);
}

/// Must not be asked to send.
struct Never;

impl Alerter for Never {
    fn name(&self) -> &str {
        "never"
    }

    fn kind(&self) -> &'static str {
        "console"
    }

    fn send<'a>(&'a self, _: &'a Delivery) -> futures::future::BoxFuture<'a, Outcome> {
        panic!("sent under a claim that may have run out")
    }
}

#[tokio::test]
async fn nothing_is_sent_under_a_claim_that_could_run_out_meanwhile() {
    let woken_late = clock::boot_ms() - (CLAIM_MS - 29_000);
    let outcome = attempt(&Never, &claimed(1, 0), woken_late, &Metrics::new()).await;
    assert_eq!(outcome.as_str(), "retry");
}

#[rstest]
#[case("dead-letter/ops-mail", true)]
#[case("delivery-failing/ops-mail", true)]
#[case("delivery-failing", true)]
#[case("undecidable/billing", false)]
#[case("dead-letters-are-my-job", false)]
fn a_report_about_deliveries_is_told_from_other_trouble(#[case] component: &str, #[case] expected: bool) {
    let notice = Notice { reason: Reason::System, component: component.into(), ..late() };
    assert_eq!(is_about_delivery(&notice), expected);
    assert!(!is_about_delivery(&Notice { reason: Reason::Missed, ..notice }), "a job may bear that name");
}
