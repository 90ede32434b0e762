//! What is told to whom over the life of a trouble. Boot time and wall time run alike, 1,000,000 apart.

use super::super::tests::{lost, peer};
use super::super::{LOST_MS, Standing};
use super::*;
use proptest::prelude::*;

const WALL: i64 = 1_000_000;

fn at(boot_ms: i64) -> At {
    At { boot_ms, wall_ms: WALL + boot_ms }
}

fn to(alerter: &str) -> Target {
    Target { alerter: alerter.into(), recipient: String::new() }
}

fn ledger() -> Ledger {
    Ledger::new("me", "unnamed", vec![to("hook"), to("pager")], Vec::new())
}

fn gone(boot_ms: i64) -> Sight {
    Sight { boot_ms, ..lost(0, Vec::new()) }
}

fn back(boot_ms: i64) -> Sight {
    Sight { boot_ms, db_ok_boot_ms: Some(boot_ms), db_lost_since_boot_ms: None, ..lost(0, Vec::new()) }
}

/// One look, as the loop does; what is sent then.
fn look(ledger: &mut Ledger, sight: &Sight, findings: &[Finding]) -> Vec<Message> {
    ledger.step(sight, findings, "inst", at(sight.boot_ms), || format!("id-{}", sight.boot_ms));
    ledger.sends(sight.boot_ms)
}

/// `hook trigger 0`.
fn words(messages: &[Message]) -> Vec<String> {
    let one = |m: &Message| format!("{} {} {}", m.target.alerter, m.notice.event.as_str(), m.notice.event_no);
    messages.iter().map(one).collect()
}

fn end(ledger: &mut Ledger, messages: &[Message], accepted: bool, boot_ms: i64) {
    for message in messages {
        ledger.ended(message, accepted, at(boot_ms), 0.5);
    }
}

#[test]
fn an_outage_is_told_once_to_each_and_so_is_its_end() {
    let mut ledger = ledger();
    assert!(look(&mut ledger, &gone(LOST_MS - 1), &[]).is_empty());
    let told = look(&mut ledger, &gone(LOST_MS), &[]);
    assert_eq!(words(&told), ["hook trigger 0", "pager trigger 0"]);
    let notice = &told[0].notice;
    assert_eq!((notice.dedup_key.as_str(), notice.component.as_str()), ("gotel/inst/db-gone", "db-gone"));
    assert_eq!((notice.deadline_ms, notice.at_ms), (WALL, WALL + LOST_MS));
    assert!(
        notice.title().starts_with("GOTEL TROUBLE db-gone: the database takes no writes"),
        "{}",
        notice.title()
    );
    // On their way: nothing twice.
    assert!(look(&mut ledger, &gone(LOST_MS + 1_000), &[]).is_empty());
    end(&mut ledger, &told, true, LOST_MS + 2_000);
    assert!(look(&mut ledger, &gone(900_000), &[]).is_empty());
    assert!(look(&mut ledger, &back(900_000), &[]).is_empty());
    assert!(look(&mut ledger, &back(900_000 + BACK_MS - 1), &[]).is_empty());
    let over = look(&mut ledger, &back(900_000 + BACK_MS), &[]);
    assert_eq!(words(&over), ["hook resolve 1", "pager resolve 1"]);
    assert_eq!(over[0].notice.down_ms, Some(900_000), "it was over when the database was back");
    assert_eq!(over[0].notice.dedup_key, told[0].notice.dedup_key);
    assert_eq!(over[0].notice.incident, told[0].notice.incident);
    end(&mut ledger, &over, true, 931_000);
    assert!(look(&mut ledger, &back(932_000), &[]).is_empty());
    assert!(ledger.troubles().is_empty() && ledger.tries.is_empty());
}

#[test]
fn a_try_that_failed_is_repeated_with_pauses_as_the_same_message() {
    let mut ledger = ledger();
    let told = look(&mut ledger, &gone(LOST_MS), &[]);
    end(&mut ledger, &told[..1], true, LOST_MS);
    end(&mut ledger, &told[1..], false, LOST_MS);
    assert!(look(&mut ledger, &gone(LOST_MS + 4_999), &[]).is_empty());
    let again = look(&mut ledger, &gone(LOST_MS + 5_000), &[]);
    assert_eq!(again, told[1..]);
    end(&mut ledger, &again, false, LOST_MS + 5_000);
    assert!(look(&mut ledger, &gone(LOST_MS + 19_000), &[]).is_empty());
    assert_eq!(look(&mut ledger, &gone(LOST_MS + 20_000), &[]), told[1..]);
}

#[test]
fn what_nobody_accepted_is_tried_without_end_and_what_somebody_did_for_a_day() {
    let day = 86_400_000;
    for somebody in [false, true] {
        let mut ledger = ledger();
        let told = look(&mut ledger, &gone(LOST_MS), &[]);
        end(&mut ledger, &told[..1], somebody, LOST_MS);
        end(&mut ledger, &told[1..], false, LOST_MS);
        let late = look(&mut ledger, &gone(LOST_MS + day), &[]);
        end(&mut ledger, &late, false, LOST_MS + day);
        let later = look(&mut ledger, &gone(LOST_MS + day + LAST_RESORT_MS), &[]);
        assert_eq!(later.len(), if somebody { 0 } else { 2 });
    }
}

#[test]
fn the_end_is_told_only_to_those_who_accepted_the_beginning() {
    let mut ledger = ledger();
    let told = look(&mut ledger, &gone(LOST_MS), &[]);
    end(&mut ledger, &told[..1], true, LOST_MS);
    end(&mut ledger, &told[1..], false, LOST_MS);
    look(&mut ledger, &back(62_000), &[]);
    let over = look(&mut ledger, &back(62_000 + BACK_MS), &[]);
    assert_eq!(words(&over), ["hook resolve 1"]);
}

#[test]
fn an_outage_that_nobody_heard_of_has_no_end_to_tell() {
    let mut ledger = ledger();
    let told = look(&mut ledger, &gone(LOST_MS), &[]);
    end(&mut ledger, &told, false, LOST_MS);
    look(&mut ledger, &back(62_000), &[]);
    assert!(look(&mut ledger, &back(62_000 + BACK_MS), &[]).is_empty());
    look(&mut ledger, &back(63_000 + BACK_MS), &[]);
    assert!(ledger.troubles().is_empty());
}

#[test]
fn a_trigger_accepted_after_the_end_is_followed_by_its_end() {
    let mut ledger = ledger();
    let told = look(&mut ledger, &gone(LOST_MS), &[]);
    look(&mut ledger, &back(62_000), &[]);
    assert!(look(&mut ledger, &back(62_000 + BACK_MS), &[]).is_empty(), "it is still on its way");
    end(&mut ledger, &told[..1], true, 63_000 + BACK_MS);
    assert_eq!(words(&look(&mut ledger, &back(64_000 + BACK_MS), &[])), ["hook resolve 1"]);
}

#[test]
fn an_end_that_fails_is_repeated_and_in_the_end_given_up() {
    let mut ledger = ledger();
    let told = look(&mut ledger, &gone(LOST_MS), &[]);
    end(&mut ledger, &told, true, LOST_MS);
    look(&mut ledger, &back(62_000), &[]);
    let over = look(&mut ledger, &back(62_000 + BACK_MS), &[]);
    end(&mut ledger, &over, false, 93_000);
    assert_eq!(look(&mut ledger, &back(98_000), &[]), over);
    end(&mut ledger, &over, false, 98_000 + 86_400_000);
    look(&mut ledger, &back(99_000 + 86_400_000), &[]);
    assert!(ledger.troubles().is_empty());
}

#[test]
fn a_database_that_goes_again_is_told_anew_to_those_who_believe_it_is_back() {
    let mut ledger = ledger();
    let told = look(&mut ledger, &gone(LOST_MS), &[]);
    end(&mut ledger, &told, true, LOST_MS);
    look(&mut ledger, &back(62_000), &[]);
    let over = look(&mut ledger, &back(92_000), &[]);
    end(&mut ledger, &over[..1], true, 92_000);
    end(&mut ledger, &over[1..], false, 92_000);
    let again = look(&mut ledger, &gone(93_000), &[]);
    assert_eq!(words(&again), ["hook trigger 2"], "the pager still shows the first");
    end(&mut ledger, &again, true, 93_000);
    look(&mut ledger, &back(100_000), &[]);
    assert_eq!(words(&look(&mut ledger, &back(130_000), &[])), ["hook resolve 3", "pager resolve 3"]);
}

#[test]
fn an_end_that_arrives_after_the_database_went_again_is_taken_back() {
    let mut ledger = ledger();
    let told = look(&mut ledger, &gone(LOST_MS), &[]);
    end(&mut ledger, &told, true, LOST_MS);
    look(&mut ledger, &back(62_000), &[]);
    let over = look(&mut ledger, &back(92_000), &[]);
    assert!(look(&mut ledger, &gone(93_000), &[]).is_empty(), "what is on its way must arrive first");
    end(&mut ledger, &over, true, 94_000);
    assert_eq!(words(&look(&mut ledger, &gone(95_000), &[])), ["hook trigger 2", "pager trigger 2"]);
}

#[test]
fn a_process_that_was_restarted_tells_only_what_was_not_accepted() {
    let mut first = ledger();
    let told = look(&mut first, &gone(LOST_MS), &[]);
    end(&mut first, &told[..1], true, LOST_MS);
    let kept = serde_json::to_string(first.troubles()).unwrap();
    // The boot clock of the next process may be another machine's.
    let mut next =
        Ledger::new("me", "unnamed", vec![to("hook"), to("pager")], serde_json::from_str(&kept).unwrap());
    let sent = look(&mut next, &Sight { db_lost_since_boot_ms: Some(4_000), ..gone(5_000) }, &[]);
    assert_eq!(sent, told[1..], "the same message as the first process sent");
    end(&mut next, &sent, true, 5_000);
    assert!(look(&mut next, &Sight { db_lost_since_boot_ms: Some(4_000), ..gone(200_000) }, &[]).is_empty());
    look(&mut next, &back(300_000), &[]);
    assert_eq!(words(&look(&mut next, &back(300_000 + BACK_MS), &[])), ["hook resolve 1", "pager resolve 1"]);
}

#[test]
fn an_alerter_that_is_configured_no_longer_holds_nothing_open() {
    let mut first = ledger();
    let told = look(&mut first, &gone(LOST_MS), &[]);
    end(&mut first, &told, true, LOST_MS);
    let mut next = Ledger::new("me", "unnamed", vec![to("mail")], first.troubles().to_vec());
    look(&mut next, &back(62_000), &[]);
    look(&mut next, &back(62_000 + BACK_MS), &[]);
    look(&mut next, &back(63_000 + BACK_MS), &[]);
    assert!(next.troubles().is_empty());
}

#[test]
fn a_finding_that_cannot_be_written_down_is_told_and_closed_once_it_is_settled() {
    let finding = Finding {
        kind: SystemKind::PeerDead,
        subject: "b".into(),
        text: "b is dead".into(),
        since_boot_ms: 0,
    };
    let findings = [finding];
    let mut ledger = ledger();
    assert!(look(&mut ledger, &back(UNWRITTEN_MS - 1), &findings).is_empty());
    let told = look(&mut ledger, &back(UNWRITTEN_MS), &findings);
    assert_eq!(words(&told), ["hook trigger 0", "pager trigger 0"]);
    let notice = &told[0].notice;
    assert_eq!(
        (notice.dedup_key.as_str(), notice.component.as_str()),
        ("gotel/inst/peer-dead/b", "peer-dead/b")
    );
    end(&mut ledger, &told, true, UNWRITTEN_MS);
    assert!(look(&mut ledger, &back(1_000_000), &findings).is_empty());
    assert!(look(&mut ledger, &back(1_001_000), &[]).is_empty());
    assert_eq!(look(&mut ledger, &back(1_001_000 + ABSENT_MS), &[]).len(), 2);
}

#[test]
fn a_start_without_a_database_knows_the_installation_from_a_peer() {
    let mut ledger = ledger();
    let sight = Sight { boot_ms: LOST_MS, ..lost(0, vec![peer("b", LOST_MS, false, &[])]) };
    ledger.step(&sight, &[], "", at(LOST_MS), || "id".into());
    assert_eq!(ledger.troubles()[0].dedup_key, "gotel/inst/db-gone");
    let mut ledger = super::tests::ledger();
    ledger.step(&gone(LOST_MS), &[], "", at(LOST_MS), || "id".into());
    assert_eq!(ledger.troubles()[0].dedup_key, "gotel/unnamed/db-gone", "nobody knows it");
}

#[test]
fn what_stands_told_is_shown_to_peers_and_people() {
    let mut ledger = ledger();
    let standing = Standing::default();
    let told = look(&mut ledger, &gone(LOST_MS), &[]);
    standing.show(ledger.troubles());
    assert!(standing.told(WALL).is_empty(), "nobody has accepted it yet");
    assert!(standing.sentences()[0].ends_with("nobody has accepted the alert yet"));
    end(&mut ledger, &told[..1], true, LOST_MS);
    standing.show(ledger.troubles());
    let [one] = &standing.told(WALL + LOST_MS + 5)[..] else { panic!("{standing:?}") };
    assert!(one.is(SystemKind::DbGone, "") && one.age_ms == 5);
    assert!(standing.sentences()[0].contains("told over hook at"), "{:?}", standing.sentences());
    assert!(standing.heard_of_outage(&to("hook")) && !standing.heard_of_outage(&to("pager")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    /// Whatever comes and goes, fails and is restarted: to each recipient, triggers and ends alternate, the first is
    /// a trigger, and once all is well everything told has ended.
    #[test]
    fn triggers_and_ends_alternate_for_each_recipient(
        steps in prop::collection::vec((any::<bool>(), 0..3u8, any::<bool>(), prop::bool::weighted(0.05)), 1..120),
    ) {
        let mut ledger = ledger();
        let mut heard: HashMap<Target, Vec<(Event, i64)>> = HashMap::new();
        let mut lost_since: Option<i64> = None;
        let mut on_the_way: Vec<Message> = Vec::new();
        let mut boot_ms = 0;
        let calm = std::iter::repeat_n((true, 2, true, false), 40);
        for (ok, answers, accepted, restarted) in steps.into_iter().chain(calm) {
            boot_ms += 15_000;
            lost_since = if ok { None } else { Some(lost_since.unwrap_or(boot_ms - 60_000)) };
            if restarted && on_the_way.is_empty() {
                let kept = ledger.troubles().to_vec();
                ledger = Ledger::new("me", "unnamed", vec![to("hook"), to("pager")], kept);
            }
            let sight = Sight { db_lost_since_boot_ms: lost_since, ..back(boot_ms) };
            ledger.step(&sight, &[], "inst", at(boot_ms), || format!("id-{boot_ms}"));
            on_the_way.extend(ledger.sends(boot_ms));
            for _ in 0..answers {
                if on_the_way.is_empty() { break }
                let message = on_the_way.remove(0);
                if accepted {
                    let entry = heard.entry(message.target.clone()).or_default();
                    entry.push((message.notice.event, message.notice.event_no));
                }
                ledger.ended(&message, accepted, at(boot_ms), 0.5);
            }
        }
        for (target, events) in heard {
            for (n, (event, _)) in events.iter().enumerate() {
                let expected = if n % 2 == 0 { Event::Trigger } else { Event::Resolve };
                prop_assert_eq!(*event, expected, "{:?}: {:?}", target, events);
            }
            prop_assert_eq!(events.len() % 2, 0, "{:?} was not told of the end: {:?}", target, events);
        }
        prop_assert!(ledger.troubles().is_empty(), "{:?}", ledger.troubles());
    }
}
