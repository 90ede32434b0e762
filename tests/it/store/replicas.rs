//! Rows of replicas: moved, claimed, told apart, and gone only in two ways.

use gotel::reservation::routing::Card;
use gotel::store::{Claim, OwnBeat, ReplicaRow, Roll};

use crate::util::db::{TestDb, on_every_database};
use crate::util::store::{Fixture, SECOND};

fn cards() -> Vec<Card> {
    let card = |name: &str, per_address: bool| Card {
        name: name.into(),
        default: true,
        per_address,
        folds: !per_address,
        fallback: if per_address { vec!["ops@example.org".into()] } else { vec![] },
    };
    vec![card("pager", false), card("mail", true)]
}

fn own(incarnation: &str) -> OwnBeat {
    OwnBeat {
        id: "eu-1".into(),
        incarnation: incarnation.into(),
        alerters: cards(),
        view: r#"{"us-1":"healthy"}"#.into(),
        watch_age_ms: Some(500),
    }
}

fn row(roll: &Roll) -> &ReplicaRow {
    assert_eq!(roll.rows.len(), 1);
    &roll.rows[0]
}

on_every_database!(a_row_is_made_moved_and_taken_away_by_its_own_process);
async fn a_row_is_made_moved_and_taken_away_by_its_own_process(db: TestDb) {
    let mut f = Fixture::new(db).await;
    let first = f.session.beat(&own("a"), &Claim::OlderThan(30_000), true).await.unwrap();
    assert_eq!((row(&first).seq, row(&first).incarnation.as_str()), (1, "a"));
    assert_eq!((first.install_id.as_str(), first.outbox_oldest_ms), (f.store.install_id(), None));
    let lease = first.lease.as_ref().unwrap();
    assert_eq!((lease.term, lease.holder.as_str(), lease.eval_age_ms), (0, "", None));
    f.pass(3 * SECOND).await;
    let second = f.session.beat(&own("a"), &Claim::No, false).await.unwrap();
    let moved = row(&second);
    assert_eq!((moved.seq, moved.beat_age_ms, moved.watch_age_ms), (2, 0, Some(500)));
    assert!(moved.started_age_ms >= 3 * SECOND);
    assert_eq!(moved.alerters, cards());
    assert_eq!((moved.view.as_str(), moved.version.is_empty()), (r#"{"us-1":"healthy"}"#, false));
    assert!(!f.session.leave("eu-1", "b").await.unwrap(), "not its to take away");
    assert!(f.session.leave("eu-1", "a").await.unwrap());
    assert!(f.store.replicas().await.unwrap().is_empty());
}

on_every_database!(of_two_processes_of_one_id_one_has_the_row_and_the_other_says_that_it_is_there);
async fn of_two_processes_of_one_id_one_has_the_row_and_the_other_says_that_it_is_there(db: TestDb) {
    let f = Fixture::new(db).await;
    let (mut one, mut other) = (f.replica().session(), f.replica().session());
    one.beat(&own("a"), &Claim::No, false).await.unwrap();
    for claim in [Claim::No, Claim::OlderThan(30_000), Claim::From { incarnation: "a".into(), seq: 0 }] {
        let seen = other.beat(&own("b"), &claim, false).await.unwrap();
        let theirs = row(&seen);
        assert_eq!(
            (theirs.incarnation.as_str(), theirs.seq, theirs.rival_age_ms),
            ("a", 1, None),
            "{claim:?}"
        );
    }
    other.beat(&own("b"), &Claim::Rival, false).await.unwrap();
    let seen = one.beat(&own("a"), &Claim::No, false).await.unwrap();
    assert!(row(&seen).rival_age_ms.is_some_and(|age| age < 60 * SECOND));
    let exactly = Claim::From { incarnation: "a".into(), seq: 2 };
    let taken = other.beat(&own("b"), &exactly, false).await.unwrap();
    let mine = row(&taken);
    assert_eq!((mine.incarnation.as_str(), mine.seq, mine.rival_age_ms), ("b", 3, None));
    let lost = one.beat(&own("a"), &exactly, false).await.unwrap();
    assert_eq!((row(&lost).incarnation.as_str(), row(&lost).seq), ("b", 3));
}

on_every_database!(an_ancient_row_is_taken_at_once_and_a_forgotten_one_is_made_again);
async fn an_ancient_row_is_taken_at_once_and_a_forgotten_one_is_made_again(db: TestDb) {
    let mut f = Fixture::new(db).await;
    f.session.beat(&own("a"), &Claim::No, false).await.unwrap();
    f.pass(31 * SECOND).await;
    let taken = f.session.beat(&own("b"), &Claim::OlderThan(30_000), false).await.unwrap();
    assert_eq!(row(&taken).incarnation, "b");
    assert!(row(&taken).started_age_ms < SECOND, "another process, another start");
    assert!(f.store.forget("eu-1").await.unwrap());
    assert!(!f.store.forget("eu-1").await.unwrap());
    let again = f.session.beat(&own("b"), &Claim::No, false).await.unwrap();
    assert_eq!(row(&again).seq, 1);
}

on_every_database!(of_many_processes_of_one_id_that_start_at_once_one_has_the_row);
async fn of_many_processes_of_one_id_that_start_at_once_one_has_the_row(db: TestDb) {
    let f = Fixture::new(db).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..4 {
        let mut session = f.replica().session();
        tasks.spawn(async move {
            let mine = format!("process-{n}");
            let seen = session.beat(&own(&mine), &Claim::OlderThan(30_000), false).await.unwrap();
            row(&seen).incarnation == mine
        });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|mine| *mine).count(), 1);
}
