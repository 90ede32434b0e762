//! Every rule, as a table of what happened and what is to be done.

use super::*;
use rstest::rstest;

const T: Timers = Timers::SHARED;

const fn token(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

const THEIRS: Uuid = token(99);

/// A row that somebody else holds.
fn row(term: i64, beat: i64) -> Row {
    Row { term, beat, vacant: false, token: THEIRS, lease_ms: 15_000, age_ms: 100 }
}

fn vacant(term: i64, beat: i64) -> Row {
    Row { vacant: true, ..row(term, beat) }
}

fn at(boot_ms: i64) -> Now {
    Now { boot_ms, evaluation_age_ms: 0, barred: false }
}

fn stuck(boot_ms: i64) -> Now {
    Now { evaluation_age_ms: STUCK_MS + 1, ..at(boot_ms) }
}

fn barred(boot_ms: i64) -> Now {
    Now { barred: true, ..at(boot_ms) }
}

fn read(row: Row, n: u128) -> Event {
    Event::Read { row, fresh: token(n) }
}

fn take(n: u128, grounds: Grounds) -> Step {
    Step::Take { token: token(n), grounds }
}

/// Feeds events and compares each step.
fn play(election: &mut Election, script: &[(Now, Event, Step)]) {
    for (n, (now, event, step)) in script.iter().enumerate() {
        assert_eq!(election.next(*event, *now).step, *step, "line {n}: {event:?} at {}", now.boot_ms);
    }
}

/// Holds term 4 under token 1; the last renewal was sent at `sent_ms`, and its answer has just come.
fn holder(sent_ms: i64) -> Election {
    let mut election = Election::new(T);
    play(
        &mut election,
        &[
            (at(sent_ms), Event::Woken, Step::Observe),
            (at(sent_ms), read(vacant(3, 9), 1), take(1, Grounds::Vacant)),
            (at(sent_ms), Event::Taken, rest(1000)),
        ],
    );
    election
}

/// The row as this holder left it.
fn mine(beat: i64) -> Row {
    Row { token: token(1), ..row(4, beat) }
}

#[rstest]
#[case::vacant(vacant(3, 9), Some(Grounds::Vacant))]
#[case::held(row(3, 9), None)]
#[case::old_but_not_ancient(Row { age_ms: 30_000, ..row(3, 9) }, None)]
#[case::ancient(Row { age_ms: 30_001, ..row(3, 9) }, Some(Grounds::ColdStart))]
#[case::of_a_holder_with_a_longer_lease(Row { age_ms: 30_001, lease_ms: 60_000, ..row(3, 9) }, None)]
fn a_first_look(#[case] row: Row, #[case] grounds: Option<Grounds>) {
    let mut election = Election::new(T);
    let step = grounds.map_or(rest(500), |grounds| take(1, grounds));
    play(&mut election, &[(at(0), Event::Woken, Step::Observe), (at(0), read(row, 1), step)]);
}

#[test]
fn a_row_that_is_ancient_by_the_databases_clock_counts_only_at_first_sight() {
    let ancient = Row { age_ms: 40_000, ..row(3, 9) };
    let mut election = Election::new(T);
    play(
        &mut election,
        &[
            (at(0), read(row(3, 8), 1), rest(500)),
            (at(1000), Event::Woken, Step::Observe),
            (at(1000), read(ancient, 2), rest(500)),
        ],
    );
}

#[test]
fn a_lease_that_keeps_moving_is_never_taken() {
    let mut election = Election::new(T);
    for second in 0..100 {
        play(&mut election, &[(at(second * 1000), read(row(1, second), 1), rest(500))]);
    }
}

#[rstest]
#[case::each_second(1000, 15_000)]
#[case::the_longest_gap(3000, 15_000)]
fn a_silent_holder_is_replaced_after_its_own_declared_time(#[case] every_ms: i64, #[case] after_ms: i64) {
    let mut election = Election::new(T);
    for ms in (0..after_ms).step_by(usize::try_from(every_ms).unwrap()) {
        play(&mut election, &[(at(ms), read(row(1, 7), 1), rest(500))]);
    }
    play(&mut election, &[(at(after_ms), read(row(1, 7), 1), take(1, Grounds::Expired))]);
}

#[test]
fn a_candidate_obeys_the_lease_in_the_row_and_not_its_own() {
    let short = Row { lease_ms: 4000, ..row(1, 7) };
    let mut election = Election::new(T);
    play(
        &mut election,
        &[
            (at(0), read(short, 1), rest(500)),
            (at(2000), read(short, 2), rest(500)),
            (at(4000), read(short, 3), take(3, Grounds::Expired)),
        ],
    );
}

#[rstest]
#[case::a_gap_of_more_than_p_and_t(&[(14_000, None), (17_001, None)])]
#[case::a_failed_look(&[(14_000, None), (14_500, Some(Event::Failed))])]
fn silence_across_a_gap_in_our_own_reads_does_not_count(#[case] gap: &[(i64, Option<Event>)]) {
    let mut election = Election::new(T);
    for second in 0..14 {
        play(&mut election, &[(at(second * 1000), read(row(1, 7), 1), rest(500))]);
    }
    for (ms, event) in gap {
        election.next(Event::Woken, at(*ms));
        election.next(event.unwrap_or(read(row(1, 7), 1)), at(*ms));
    }
    play(
        &mut election,
        &[(at(17_500), read(row(1, 7), 1), rest(500)), (at(19_000), read(row(1, 7), 1), rest(500))],
    );
}

#[test]
fn a_bid_that_fails_does_not_end_the_silence_that_was_heard() {
    let mut election = Election::new(T);
    for second in 0..15 {
        play(&mut election, &[(at(second * 1000), read(row(1, 7), 1), rest(500))]);
    }
    play(
        &mut election,
        &[
            (at(15_000), read(row(1, 7), 2), take(2, Grounds::Expired)),
            (at(17_000), Event::Failed, rest(0)),
            (at(17_000), Event::Woken, Step::Observe),
            (at(17_010), read(row(1, 7), 3), take(2, Grounds::Expired)),
        ],
    );
}

#[rstest]
#[case::at_once(0, 500)]
#[case::in_part(400, 100)]
#[case::by_its_limit(2000, 0)]
fn what_a_failed_operation_took_is_not_waited_for_again(#[case] took_ms: i64, #[case] for_ms: i64) {
    let mut election = Election::new(T);
    play(&mut election, &[(at(0), Event::Woken, Step::Observe), (at(took_ms), Event::Failed, rest(for_ms))]);
}

#[test]
fn a_holder_renews_each_period_and_believes_from_when_it_sent_that() {
    let mut election = holder(0);
    play(
        &mut election,
        &[
            (at(1000), Event::Woken, Step::Renew),
            (at(2500), Event::Renewed, rest(1000)),
            (at(3500), Event::Woken, Step::Renew),
            (at(3600), Event::Failed, rest(900)),
        ],
    );
    assert!(election.believes(10_999));
    assert!(!election.believes(11_000), "10 s after the sending, not after the answer");
}

#[test]
fn a_holder_that_cannot_renew_steps_down_at_v_and_takes_its_own_row_again_at_once() {
    let mut election = holder(0);
    play(
        &mut election,
        &[
            (at(8000), Event::Woken, Step::Renew),
            (at(9500), Event::Failed, rest(0)),
            (at(9500), Event::Woken, Step::Renew),
            (at(9600), Event::Failed, rest(400)),
        ],
    );
    let over = election.next(Event::Woken, at(10_000));
    let expected = Next { news: Some(News::SteppedDown(Reason::NotRenewed)), step: Step::Observe };
    assert_eq!(over, expected);
    play(&mut election, &[(at(30_000), read(mine(10), 2), take(2, Grounds::Mine))]);
}

#[rstest]
#[case::an_answer_in_time(9_999, true)]
#[case::an_answer_to_a_renewal_that_was_sent_too_long_ago(10_000, false)]
fn an_answer_after_a_pause(#[case] after_ms: i64, #[case] leads: bool) {
    let mut election = holder(0);
    play(&mut election, &[(at(5000), Event::Woken, Step::Renew)]);
    let next = election.next(Event::Renewed, at(5000 + after_ms));
    assert_eq!(election.believes(5000 + after_ms), leads);
    assert_eq!(next.news, (!leads).then_some(News::SteppedDown(Reason::NotRenewed)));
    // So it is with a bid.
    let mut election = Election::new(T);
    election.next(read(vacant(3, 9), 1), at(0));
    let next = election.next(Event::Taken, at(after_ms));
    assert_eq!((next.news, election.believes(after_ms)), (leads.then_some(News::Leads), leads));
}

#[test]
fn a_holder_that_was_overtaken_steps_down_and_waits_like_anybody() {
    let mut election = holder(0);
    play(&mut election, &[(at(1000), Event::Woken, Step::Renew)]);
    let next = election.next(Event::Fenced, at(1010));
    assert_eq!(next.news, Some(News::SteppedDown(Reason::Overtaken)));
    assert!(!election.has_claim());
    play(&mut election, &[(at(1020), read(row(5, 11), 2), rest(500))]);
}

#[rstest]
#[case::stuck(stuck, Reason::Stuck)]
#[case::barred(barred, Reason::Barred)]
fn a_holder_that_may_not_lead_steps_down_and_gives_the_lease_back(
    #[case] now: fn(i64) -> Now,
    #[case] reason: Reason,
) {
    let mut election = holder(0);
    let next = election.next(Event::Woken, now(1000));
    assert_eq!(next, Next { news: Some(News::SteppedDown(reason)), step: Step::Observe });
    play(
        &mut election,
        &[
            (now(1010), read(mine(10), 2), Step::Release),
            (now(1020), Event::Failed, rest(490)),
            (now(2010), Event::Woken, Step::Observe),
            (now(2010), read(mine(10), 3), Step::Release),
            (now(2020), Event::Released, rest(490)),
            (now(3010), read(vacant(4, 11), 4), rest(500)),
        ],
    );
}

#[test]
fn evaluations_of_half_a_minute_ago_are_recent_enough() {
    let mut election = holder(0);
    let now = Now { evaluation_age_ms: STUCK_MS, ..at(1000) };
    play(&mut election, &[(now, Event::Woken, Step::Renew)]);
}

#[test]
fn after_being_stuck_the_others_have_the_first_choice_for_a_whole_lease() {
    let mut election = holder(0);
    election.next(Event::Woken, stuck(1000));
    play(
        &mut election,
        &[
            (at(1010), read(mine(10), 2), Step::Release),
            (at(1020), Event::Released, rest(490)),
            (at(15_999), read(vacant(4, 11), 3), rest(500)),
            (at(16_000), read(vacant(4, 11), 4), take(4, Grounds::Vacant)),
        ],
    );
}

#[test]
fn a_bar_that_is_lifted_is_forgotten_at_once() {
    let mut election = holder(0);
    election.next(Event::Woken, barred(1000));
    play(&mut election, &[(at(1010), read(mine(10), 2), take(2, Grounds::Mine))]);
}

/// A bid for term 4 under token 1 whose answer was lost.
fn bidder() -> Election {
    let mut election = Election::new(T);
    play(
        &mut election,
        &[(at(0), read(vacant(3, 9), 1), take(1, Grounds::Vacant)), (at(2000), Event::Failed, rest(0))],
    );
    election
}

#[rstest]
#[case::it_was_taken(mine(10), Step::Prove)]
#[case::it_was_not_or_not_yet(vacant(3, 9), take(1, Grounds::Vacant))]
#[case::somebody_else_was_faster(row(4, 10), rest(500))]
#[case::the_row_moved_in_the_same_term(vacant(3, 10), take(2, Grounds::Vacant))]
#[case::it_was_taken_and_given_back(Row { vacant: true, ..mine(11) }, take(2, Grounds::Vacant))]
fn a_look_after_a_bid_whose_answer_was_lost(#[case] row: Row, #[case] step: Step) {
    play(&mut bidder(), &[(at(2010), read(row, 2), step)]);
}

#[test]
fn a_bid_is_proven_by_a_renewal_and_counts_from_when_that_was_sent() {
    let mut election = bidder();
    play(&mut election, &[(at(2010), read(mine(10), 2), Step::Prove)]);
    assert!(!election.believes(2010));
    let next = election.next(Event::Renewed, at(3000));
    assert_eq!(next, Next { news: Some(News::Leads), step: rest(1000) });
    assert!(election.believes(12_009) && !election.believes(12_010));
}

#[test]
fn a_proof_that_fails_is_tried_again_and_one_that_is_refused_is_not() {
    let mut election = bidder();
    play(
        &mut election,
        &[
            (at(2010), read(mine(10), 2), Step::Prove),
            (at(4010), Event::Failed, rest(0)),
            (at(4020), read(mine(11), 3), Step::Prove),
            (at(4030), Event::Fenced, rest(490)),
        ],
    );
    assert!(!election.has_claim());
}

#[test]
fn a_bid_that_won_behind_our_back_is_recognised_although_its_copy_was_beaten() {
    let mut election = bidder();
    play(
        &mut election,
        &[
            (at(2010), read(vacant(3, 9), 2), take(1, Grounds::Vacant)),
            (at(2020), Event::Beaten, rest(490)),
            (at(3010), read(mine(10), 3), Step::Prove),
        ],
    );
}

#[test]
fn a_stale_read_does_not_make_a_bid_forgotten() {
    let mut election = bidder();
    play(
        &mut election,
        &[(at(2010), read(row(3, 8), 2), rest(500)), (at(3010), read(mine(10), 3), Step::Prove)],
    );
}

#[test]
fn a_bid_that_may_have_won_is_given_back_where_it_must_not_lead() {
    let mut election = bidder();
    play(
        &mut election,
        &[(barred(2010), read(mine(10), 2), Step::Release), (barred(2020), Event::Released, rest(490))],
    );
    assert!(!election.has_claim());
}

#[test]
fn alone_it_leads_at_once_renews_seldom_and_never_abstains() {
    let mut election = Election::new(Timers::ALONE);
    play(
        &mut election,
        &[
            (at(0), Event::Woken, Step::Observe),
            (at(0), read(row(3, 9), 1), take(1, Grounds::Alone)),
            (at(10), Event::Taken, rest(10_000)),
            (at(10_010), Event::Woken, Step::Renew),
            (at(10_020), Event::Failed, rest(990)),
        ],
    );
    election.next(Event::Woken, stuck(11_010));
    play(&mut election, &[(at(11_020), read(mine(10), 2), take(2, Grounds::Alone))]);
}
