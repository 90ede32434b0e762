//! What the search finds: nothing in the protocol as it is, and the known violation in each that lacks a part.

use super::search::{Found, Until, search};
use super::*;

const PLAN: Plan = Plan {
    timers: TIMERS,
    fence: Fence::Write,
    faults: Some(1),
    rates: [TICK; 3],
    failover: false,
    prompt: false,
    ages: false,
};

/// A clock that loses 30 % against the others.
const SLOW: i64 = 7;

/// Nothing that must never be, and a leader within P + T + L + P + T, once nothing goes wrong any more.
fn assert_sound(found: &Found, least: usize) {
    let Found { worlds, complete, longest, sights } = found;
    println!(
        "{worlds} worlds, complete: {complete}, longest wait: {longest} ticks, seen: {:?}",
        sights.keys()
    );
    assert_eq!(found.broken(), None);
    assert!(found.worlds >= least, "only {} worlds: the search has lost its teeth", found.worlds);
    let t = TIMERS;
    let bound_ms = t.lease_ms + 2 * (t.period_ms + t.op_ms);
    assert!(i64::from(found.longest) <= bound_ms / TICK, "{} ticks", found.longest);
}

fn assert_seen(found: &Found, sights: &[Sight]) {
    for sight in sights {
        assert!(found.sights.contains_key(sight), "{sight:?} is never reached: {:?}", found.sights.keys());
    }
}

/// A violation, and the actions that lead to it.
fn assert_found(plan: &Plan, sight: Sight) {
    let found = search::<2>(plan, Until::Seen(sight));
    let way = found.sights.get(&sight);
    println!("{sight:?} after {} worlds, by {way:?}", found.worlds);
    assert!(way.is_some(), "nothing found in {} worlds", found.worlds);
}

#[test]
fn two_replicas_and_any_two_faults_never_write_or_believe_together_and_one_leads_again() {
    let found = search::<2>(&Plan { faults: Some(2), ..PLAN }, Until::Worlds(500_000));
    assert_sound(&found, 200_000);
    assert!(found.complete);
    let grounds = ["expired", "mine", "vacant"].map(Sight::Taken);
    assert_seen(&found, &grounds);
    assert_seen(&found, &["overtaken", "not renewed"].map(Sight::SteppedDown));
    assert_seen(&found, &[Sight::Proven, Sight::LateBidWon, Sight::StaleWorkRefused]);
}

#[test]
fn a_clock_that_runs_30_percent_slow_changes_nothing_of_that() {
    let found = search::<2>(&Plan { rates: [SLOW, TICK, TICK], ..PLAN }, Until::Worlds(500_000));
    assert_sound(&found, 50_000);
    assert!(found.complete);
}

#[test]
fn a_failover_that_forgets_the_last_commits_never_mixes_two_holders() {
    let alone = search::<2>(&Plan { faults: Some(0), failover: true, ..PLAN }, Until::Worlds(500_000));
    assert_sound(&alone, 10_000);
    assert!(alone.complete);
    assert_seen(&alone, &[Sight::SteppedDown("overtaken"), Sight::StaleWorkRefused]);
    let with_a_fault = search::<2>(&Plan { failover: true, prompt: true, ..PLAN }, Until::Worlds(500_000));
    assert_sound(&with_a_fault, 10_000);
    assert!(with_a_fault.complete);
}

#[test]
fn three_replicas_never_write_or_believe_together_either() {
    let found = search::<3>(&Plan { prompt: true, ..PLAN }, Until::Worlds(500_000));
    assert_sound(&found, 30_000);
    assert!(found.complete);
    assert_seen(&found, &["expired", "mine", "vacant"].map(Sight::Taken));
    assert_seen(&found, &[Sight::Proven, Sight::LateBidWon, Sight::StaleWorkRefused]);
    let slow =
        search::<3>(&Plan { faults: Some(0), rates: [SLOW, TICK, TICK], ..PLAN }, Until::Worlds(500_000));
    assert_sound(&slow, 10_000);
    assert!(slow.complete);
}

#[test]
fn a_process_that_starts_after_a_long_silence_of_all_need_not_wait() {
    let found = search::<1>(&Plan { faults: Some(2), ages: true, ..PLAN }, Until::Worlds(500_000));
    assert_sound(&found, 1000);
    assert!(found.complete);
    assert_seen(&found, &[Sight::Taken("cold_start")]);
    let two = search::<2>(&Plan { ages: true, ..PLAN }, Until::Worlds(500_000));
    assert_sound(&two, 50_000);
    assert!(two.complete);
}

#[test]
fn without_the_token_a_failover_mixes_two_holders_in_one_term() {
    assert_found(&Plan { fence: Fence::TermOnly, faults: Some(0), failover: true, ..PLAN }, MIXED);
}

#[test]
fn with_a_look_instead_of_the_fencing_write_a_stale_holder_writes() {
    assert_found(&Plan { fence: Fence::Read, ..PLAN }, STALE);
    assert_found(&Plan { fence: Fence::Read, ..PLAN }, BACKWARDS);
    assert_found(&Plan { fence: Fence::Read, ..PLAN }, OVERLOOKED);
}

#[test]
fn with_a_belief_that_reaches_the_lease_two_believe_at_once() {
    let timers = Timers { valid_ms: 45, ..TIMERS };
    assert!(timers.valid_ms + timers.op_ms >= timers.lease_ms);
    assert_found(&Plan { timers, rates: [SLOW, TICK, TICK], ..PLAN }, OVERLAP);
}
