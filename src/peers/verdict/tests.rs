use super::*;
use rstest::rstest;

/// A row of this process's beat 7: it moves, or not.
fn row(moves: bool) -> Option<RowSeen<'static>> {
    Some(RowSeen { incarnation: "i-1", seq: 7, moves, watch_age_ms: Some(1_000) })
}

fn said(db_ok: bool) -> Said {
    Said {
        heard_boot_ms: 0,
        incarnation: "i-1".into(),
        db_ok,
        db_lost_age_ms: (!db_ok).then_some(40_000),
        seq: 7,
        install_id: "house".into(),
        leads_term: None,
        eval_age_ms: Some(1_000),
        watch_age_ms: Some(1_000),
        outbox_oldest_ms: None,
        told: Vec::new(),
    }
}

fn seen<'e>(db_ok: bool, row: Option<RowSeen<'e>>, said: Option<&'e Said>) -> Evidence<'e> {
    Evidence { db_ok, install_id: "house", row, said, left: false, called: true }
}

const D: bool = true;

/// D: my database; R: its row moves; H: it speaks, and what it says of its database.
#[rstest]
#[case::d_r_h(D, true, Some(true), Verdict::Healthy)]
#[case::d_r_h_whatever_it_says(D, true, Some(false), Verdict::Healthy)]
#[case::d_r_no_h(D, true, None, Verdict::UnreachableFromHere)]
#[case::d_no_r_h_no_pd(D, false, Some(false), Verdict::CutFromDatabase)]
#[case::d_no_r_h_pd(D, false, Some(true), Verdict::Stuck)]
#[case::d_no_r_no_h(D, false, None, Verdict::Dead)]
#[case::no_d_h_no_pd(!D, false, Some(false), Verdict::DatabaseGone)]
#[case::no_d_r_h_no_pd(!D, true, Some(false), Verdict::DatabaseGone)]
#[case::no_d_h_pd(!D, false, Some(true), Verdict::IAmCutOff)]
#[case::no_d_no_h(!D, false, None, Verdict::Isolated)]
#[case::no_d_r_no_h(!D, true, None, Verdict::Isolated)]
fn the_table_row_by_row(
    #[case] db_ok: bool,
    #[case] moves: bool,
    #[case] says: Option<bool>,
    #[case] expected: Verdict,
) {
    let said = says.map(said);
    assert_eq!(verdict(&seen(db_ok, row(moves), said.as_ref())), expected);
}

#[test]
fn beats_that_are_not_here_are_in_another_database() {
    let ahead = Said { seq: 8, ..said(true) };
    assert_eq!(verdict(&seen(D, row(false), Some(&ahead))), Verdict::SplitDatabase);
    // A row that moves may be read a little earlier than what is said was.
    assert_eq!(verdict(&seen(D, row(true), Some(&ahead))), Verdict::Healthy);
    let far = Said { seq: 7 + TRAILS + 1, ..said(true) };
    assert_eq!(verdict(&seen(D, row(true), Some(&far))), Verdict::SplitDatabase);
    let restarted = Said { incarnation: "i-2".into(), seq: 1, ..said(true) };
    assert_eq!(verdict(&seen(D, row(false), Some(&restarted))), Verdict::SplitDatabase);
    assert_eq!(verdict(&seen(D, None, Some(&ahead))), Verdict::SplitDatabase);
    let cut = Said { seq: 8, ..said(false) };
    assert_eq!(verdict(&seen(D, row(false), Some(&cut))), Verdict::CutFromDatabase);
}

#[test]
fn another_installation_is_another_database_whatever_else_is_seen() {
    let other = Said { install_id: "other".into(), ..said(true) };
    for row in [row(true), row(false), None] {
        assert_eq!(verdict(&seen(D, row, Some(&other))), Verdict::SplitDatabase);
    }
    let unknown = Said { install_id: String::new(), ..said(true) };
    assert_eq!(verdict(&seen(D, row(true), Some(&unknown))), Verdict::Healthy);
}

#[test]
fn a_second_process_of_one_id_is_no_second_database() {
    let second = Said { incarnation: "i-2".into(), seq: 0, ..said(true) };
    assert_eq!(verdict(&seen(D, row(true), Some(&second))), Verdict::Healthy);
    // It waits for the row of the first, which has died.
    assert_eq!(verdict(&seen(D, row(false), Some(&second))), Verdict::Stuck);
}

#[rstest]
#[case::both_old(Some(61_000), Some(70_000), true)]
#[case::row_old(Some(61_000), Some(1_000), false)]
#[case::said_old(Some(1_000), Some(61_000), false)]
#[case::row_alone(Some(61_000), None, true)]
#[case::never_looked(None, None, false)]
#[case::just_not(Some(60_000), Some(60_000), false)]
fn a_replica_that_does_not_look_at_the_others_is_stuck(
    #[case] in_row: Option<i64>,
    #[case] as_said: Option<i64>,
    #[case] stuck: bool,
) {
    let row = row(true).map(|row| RowSeen { watch_age_ms: in_row, ..row });
    let said = Said { watch_age_ms: as_said, ..said(true) };
    let expected = if stuck { Verdict::Stuck } else { Verdict::Healthy };
    assert_eq!(verdict(&seen(D, row, Some(&said))), expected);
}

#[test]
fn who_left_in_order_is_missed_by_nobody() {
    let left = Evidence { left: true, ..seen(D, None, None) };
    assert_eq!(verdict(&left), Verdict::Left);
    assert!(Verdict::Left.is_good() && Verdict::Left.kind().is_none());
}

#[test]
fn who_is_not_configured_is_known_by_its_row_alone() {
    let stranger = Evidence { called: false, ..seen(D, row(true), None) };
    assert_eq!(verdict(&stranger), Verdict::Healthy);
    assert_eq!(verdict(&Evidence { called: false, ..seen(D, row(false), None) }), Verdict::Dead);
}

const S: i64 = 1_000;

/// The findings of one verdict a second, from second 0 on.
fn findings(verdicts: impl IntoIterator<Item = Verdict>) -> Vec<Finding> {
    let mut confirm = Confirm::new(30 * S, 60 * S);
    (0..).zip(verdicts).map(|(second, verdict)| confirm.see(verdict, second * S)).collect()
}

#[test]
fn a_verdict_is_believed_after_thirty_seconds_and_paged_after_sixty() {
    let dead = findings(std::iter::repeat_n(Verdict::Dead, 70));
    assert!(dead[..30].iter().all(|f| !f.is_firm && f.firm.is_none() && !f.page));
    assert!(dead[30..60].iter().all(|f| f.is_firm && f.firm == Some(Verdict::Dead) && !f.page));
    assert!(dead[60..].iter().all(|f| f.page && f.since_boot_ms == 0));
}

#[test]
fn a_moment_of_health_begins_the_count_anew() {
    let mut verdicts = vec![Verdict::Dead; 59];
    verdicts.push(Verdict::Healthy);
    verdicts.extend([Verdict::Dead; 60]);
    let findings = findings(verdicts);
    assert!(findings.iter().all(|f| !f.page));
    assert_eq!(findings[59].firm, Some(Verdict::Dead), "one good look is not believed either");
    assert_eq!(findings.last().unwrap().since_boot_ms, 60 * S);
}

#[test]
fn trouble_that_keeps_changing_its_face_is_paged_all_the_same() {
    let faces = [Verdict::Dead, Verdict::CutFromDatabase];
    let findings = findings((0..130).map(|n| faces[n / 10 % 2]));
    assert!(findings[..120].iter().all(|f| !f.page));
    assert!(findings[120..].iter().all(|f| f.page));
}

#[test]
fn a_dead_one_that_is_started_is_not_paged_for_the_faces_it_shows_meanwhile() {
    let mut verdicts = vec![Verdict::Dead; 150];
    verdicts.extend([
        Verdict::CutFromDatabase,
        Verdict::Stuck,
        Verdict::Stuck,
        Verdict::Dead,
        Verdict::Healthy,
    ]);
    let findings = findings(verdicts);
    assert!(findings[60..150].iter().all(|f| f.page));
    assert!(findings[150..153].iter().all(|f| !f.page), "it was paged as dead");
    assert!(findings[153].page && !findings[154].page);
    // What lasts is told for itself.
    let mut verdicts = vec![Verdict::Dead; 150];
    verdicts.extend([Verdict::Stuck; 61]);
    assert!(self::findings(verdicts)[210].page);
}

#[test]
fn what_needs_no_page_is_never_paged() {
    for quiet in Verdict::ALL.into_iter().filter(|v| v.kind().is_none()) {
        assert!(findings(std::iter::repeat_n(quiet, 300)).iter().all(|f| !f.page), "{quiet:?}");
    }
}

#[test]
fn a_frozen_watcher_begins_anew() {
    let mut confirm = Confirm::new(30 * S, 60 * S);
    confirm.see(Verdict::Dead, 0);
    let woken = confirm.see(Verdict::Dead, 90 * S);
    assert_eq!((woken.since_boot_ms, woken.is_firm, woken.page), (90 * S, false, false));
}
