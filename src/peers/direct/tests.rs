//! Who has to tell, and when.

use super::*;
use crate::peers::sight::{PeerSight, Said};
use rstest::rstest;

/// The database is lost since 0.
pub(super) fn lost(rank: usize, peers: Vec<PeerSight>) -> Sight {
    Sight {
        replica: "me".into(),
        rank,
        db_ok_boot_ms: None,
        db_lost_since_boot_ms: Some(0),
        peers,
        db_now_ms: None,
        complete: false,
        boot_ms: 0,
    }
}

pub(super) fn peer(name: &str, heard_boot_ms: i64, db_ok: bool, told: &[(SystemKind, &str)]) -> PeerSight {
    let told = told.iter().map(|(kind, subject)| Told {
        kind: kind.as_str().into(),
        subject: (*subject).into(),
        age_ms: 1,
    });
    PeerSight {
        replica: name.into(),
        rank: 0,
        row_moved_boot_ms: None,
        said: Some(Said {
            heard_boot_ms,
            incarnation: "i".into(),
            db_ok,
            db_lost_age_ms: None,
            seq: 0,
            install_id: "inst".into(),
            leads_term: None,
            eval_age_ms: None,
            watch_age_ms: None,
            outbox_oldest_ms: None,
            told: told.collect(),
        }),
    }
}

const GONE: (SystemKind, &str) = (SystemKind::DbGone, "");
const ME: (SystemKind, &str) = (SystemKind::PeerNoDb, "me");
/// Until then the peer is heard.
const SILENT: i64 = -HEARD_MS - 1;

/// A peer: when it was heard, whether the database is there for it, and what it has told.
type Heard<'a> = (i64, bool, &'a [(SystemKind, &'a str)]);

/// At which moment each replica tells, with a peer that was heard `heard` before that moment.
#[rstest]
#[case::alone(0, None, LOST_MS, Some(GONE))]
#[case::second_of_two_that_hear_nobody(1, Some((SILENT, false, &[][..])), LOST_MS + RANK_MS, Some(GONE))]
#[case::third(2, Some((SILENT, false, &[][..])), LOST_MS + 2 * RANK_MS, Some(GONE))]
#[case::gone_for_both_and_the_first_said_nothing(1, Some((0, false, &[][..])), LOST_MS + RANK_MS, Some(GONE))]
#[case::the_first_has_told(1, Some((0, false, &[GONE][..])), i64::MAX, None)]
#[case::the_first_had_told_and_is_heard_no_more(1, Some((SILENT, false, &[GONE][..])), LOST_MS + RANK_MS, Some(GONE))]
#[case::it_told_something_else(0, Some((0, false, &[ME][..])), LOST_MS, Some(GONE))]
#[case::cut_off_and_the_peer_says_nothing(0, Some((0, true, &[][..])), CUT_OFF_MS, Some(ME))]
#[case::cut_off_at_any_rank(3, Some((0, true, &[][..])), CUT_OFF_MS, Some(ME))]
#[case::cut_off_and_the_peer_tells_it(0, Some((0, true, &[ME][..])), i64::MAX, None)]
#[case::cut_off_and_the_peer_tells_of_another(0, Some((0, true, &[(SystemKind::PeerNoDb, "x")][..])), CUT_OFF_MS, Some(ME))]
#[case::cut_off_from_a_peer_that_fell_silent(0, Some((SILENT, true, &[][..])), LOST_MS, Some(GONE))]
fn each_replica_tells_in_its_turn(
    #[case] rank: usize,
    #[case] with: Option<Heard<'_>>,
    #[case] from_ms: i64,
    #[case] told: Option<(SystemKind, &str)>,
) {
    let told = told.map(|(kind, subject)| (kind, subject.to_owned()));
    for boot_ms in (0..=400_000).step_by(1_000) {
        let peers = with.map(|(heard, db_ok, told)| peer("a", boot_ms + heard, db_ok, told));
        let sight = Sight { boot_ms, ..lost(rank, peers.into_iter().collect()) };
        let expected = if boot_ms >= from_ms { told.clone() } else { None };
        assert_eq!(due(&sight, boot_ms), expected, "at {boot_ms}");
    }
}

#[test]
fn a_database_that_is_there_is_not_told_of() {
    let sight = Sight { db_lost_since_boot_ms: None, db_ok_boot_ms: Some(0), ..lost(0, Vec::new()) };
    assert_eq!(due(&sight, 0), None);
}

#[test]
fn a_process_that_was_frozen_looks_again_before_it_tells() {
    let sight = lost(0, Vec::new());
    assert_eq!(due(&Sight { boot_ms: LOST_MS, ..sight.clone() }, LOST_MS + FRESH_MS + 1), None);
    assert!(due(&Sight { boot_ms: LOST_MS, ..sight }, LOST_MS + FRESH_MS).is_some());
}

#[test]
fn one_served_peer_among_several_means_that_this_replica_is_cut_off() {
    let peers = vec![peer("a", CUT_OFF_MS, false, &[GONE]), peer("b", CUT_OFF_MS, true, &[])];
    let sight = Sight { boot_ms: CUT_OFF_MS, ..lost(2, peers) };
    assert_eq!(due(&sight, CUT_OFF_MS), Some((SystemKind::PeerNoDb, "me".into())));
}

#[test]
fn a_finding_is_unwritten_since_its_first_failure_until_it_is_settled() {
    let unwritten = Unwritten::default();
    unwritten.failed(SystemKind::PeerDead, "b", "b is dead", 10);
    unwritten.failed(SystemKind::PeerDead, "b", "b is dead", 20);
    unwritten.failed(SystemKind::PeerDead, "c", "c is dead", 30);
    assert_eq!(unwritten.read().iter().map(|f| f.since_boot_ms).collect::<Vec<_>>(), [10, 30]);
    unwritten.settled(SystemKind::PeerDead, "b");
    assert_eq!(unwritten.read().iter().map(|f| f.subject.as_str()).collect::<Vec<_>>(), ["c"]);
}
