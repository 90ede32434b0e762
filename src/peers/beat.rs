//! This replica's row, each second; the rows of all.
//!
//! Promises: the row moves only while this process has it; a second process of the same id finds out within
//! seconds, says so in the row, and is barred from leading; an end in order takes the row away.
//!
//! Races: a restart finds the row of its dead predecessor: it takes it over once that has not moved for 5 s of
//! its own boot clock over consecutive reads. A frozen process whose row was taken meanwhile is the second one
//! when it wakes. The end: the row goes last, when nothing here speaks to peers any more.

use super::sight::Sight;
use crate::clock;
use crate::lifecycle::{Bar, Pulse};
use crate::reservation::routing::Card;
use crate::store::{Claim, OwnBeat, ReplicaRow, Roll, Session};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between two beats.
const PERIOD: Duration = Duration::from_secs(1);

/// Another incarnation's row that has not moved for this long is a dead process's.
const STILL_MS: i64 = 5_000;

/// A row this old by the database's clock need not be watched first.
const ANCIENT_MS: i64 = 30_000;

/// A longer gap between two reads proves nothing about what was in between.
const GAP_MS: i64 = 4_000;

/// The database is gone once it took nothing for this long: longer than one beat that runs into its limit.
const LOST_MS: i64 = 4_000;

/// Each how many beats the outbox is looked at.
const OUTBOX_EVERY: u64 = 10;

/// What the beats came to.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// What the database showed last, and when.
    pub roll: Option<(Arc<Roll>, i64)>,
    /// Since when the database takes nothing from this process, or no check-ins.
    pub lost_since_boot_ms: Option<i64>,
    /// The number of the last committed beat; 0: none yet.
    pub seq: i64,
    /// Age of the oldest notice that waits, and when it was looked at.
    pub outbox: Option<(i64, i64)>,
}

impl Seen {
    /// Whether the database takes writes. A beat that took long is no reason to say no.
    pub fn db_ok(&self, boot_ms: i64) -> bool {
        let read = self.roll.as_ref().is_some_and(|(_, at)| boot_ms - at <= 3 * LOST_MS);
        read && self.lost_since_boot_ms.is_none_or(|since| boot_ms - since < LOST_MS)
    }
}

/// What the watch loop writes into the row.
#[derive(Debug, Clone, Default)]
pub struct Watched(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// 0: never.
    done_boot_ms: AtomicI64,
    view: Mutex<String>,
}

impl Watched {
    /// A complete look at all others, with its verdicts as JSON.
    pub fn done(&self, boot_ms: i64, view: String) {
        self.0.done_boot_ms.store(boot_ms, Ordering::Relaxed);
        *self.0.view.lock().unwrap_or_else(PoisonError::into_inner) = view;
    }

    /// Age of the last one.
    pub fn age_ms(&self, boot_ms: i64) -> Option<i64> {
        let done = self.0.done_boot_ms.load(Ordering::Relaxed);
        (done > 0).then_some(boot_ms - done)
    }

    fn view(&self) -> String {
        self.0.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Whose the row of this id is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// This process's.
    Mine,
    /// Another incarnation's, of which is not known yet whether it lives.
    Unclear,
    /// Another process's, and it moves.
    Anothers,
}

/// The own row, as seen over several reads.
#[derive(Debug, Default)]
struct Post {
    /// (incarnation, seq), since when it stands still, when it was last read, whether it ever moved.
    theirs: Option<(String, i64, i64, i64, bool)>,
    started: bool,
}

impl Post {
    /// What to do with the row if it is another incarnation's.
    fn claim(&self, boot_ms: i64) -> Claim {
        match &self.theirs {
            None if !self.started => Claim::OlderThan(ANCIENT_MS),
            None => Claim::No,
            Some((incarnation, seq, since, read, _))
                if boot_ms - since >= STILL_MS && boot_ms - read <= GAP_MS =>
            {
                Claim::From { incarnation: incarnation.clone(), seq: *seq }
            }
            Some((.., true)) => Claim::Rival,
            Some(_) => Claim::No,
        }
    }

    /// Takes in one read.
    fn see(&mut self, incarnation: &str, row: Option<&ReplicaRow>, boot_ms: i64) -> Whose {
        self.started = true;
        let Some(row) = row else { return Whose::Unclear };
        if row.incarnation == incarnation {
            self.theirs = None;
            return Whose::Mine;
        }
        let (since, moves) = match &self.theirs {
            Some((theirs, seq, since, read, moves)) => {
                let still = *theirs == row.incarnation && *seq == row.seq;
                match (still, boot_ms - read <= GAP_MS) {
                    (true, true) => (*since, *moves),
                    (true, false) => (boot_ms, *moves),
                    // A restart of the other is a move, too.
                    (false, _) => (boot_ms, true),
                }
            }
            None => (boot_ms, false),
        };
        self.theirs = Some((row.incarnation.clone(), row.seq, since, boot_ms, moves));
        if moves { Whose::Anothers } else { Whose::Unclear }
    }
}

/// Keeps the row.
pub struct Beat {
    session: Session,
    id: String,
    incarnation: String,
    alerters: Vec<Card>,
    watched: Watched,
    bar: Arc<Bar>,
    mark: watch::Receiver<Sight>,
    pulse: Arc<Pulse>,
    publish: watch::Sender<Seen>,
    post: Post,
    seen: Seen,
    whose: Whose,
    count: u64,
}

/// What a [`Beat`] is made of.
#[derive(Debug)]
pub struct BeatParts {
    /// A connection of its own.
    pub session: Session,
    /// This replica's id.
    pub id: String,
    /// Random per process.
    pub incarnation: String,
    /// The alerters that it has.
    pub alerters: Vec<Card>,
    /// What the watch loop writes.
    pub watched: Watched,
    /// What keeps a second process from leading.
    pub bar: Arc<Bar>,
    /// What the mark says that is moved while check-ins can be stored: a full disk still takes beats.
    pub mark: watch::Receiver<Sight>,
    /// Its age.
    pub pulse: Arc<Pulse>,
    /// Where it tells what it saw.
    pub publish: watch::Sender<Seen>,
}

impl Beat {
    /// Nothing is written yet.
    pub fn new(parts: BeatParts) -> Self {
        Self {
            session: parts.session,
            id: parts.id,
            incarnation: parts.incarnation,
            alerters: parts.alerters,
            watched: parts.watched,
            bar: parts.bar,
            mark: parts.mark,
            pulse: parts.pulse,
            publish: parts.publish,
            post: Post::default(),
            seen: Seen::default(),
            whose: Whose::Unclear,
            count: 0,
        }
    }

    /// Beats until `stop`, then leaves.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            self.step().await;
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = stop.cancelled() => break,
            }
        }
        match self.session.leave(&self.id, &self.incarnation).await {
            Ok(_) => {}
            Err(e) => tracing::warn!(error = %e, "this replica's row stays: the others will miss it"),
        }
    }

    /// One beat.
    pub async fn step(&mut self) {
        let sent_boot_ms = clock::boot_ms();
        let own = OwnBeat {
            id: self.id.clone(),
            incarnation: self.incarnation.clone(),
            alerters: self.alerters.clone(),
            view: self.watched.view(),
            watch_age_ms: self.watched.age_ms(sent_boot_ms),
        };
        let with_outbox = self.count.is_multiple_of(OUTBOX_EVERY);
        let claim = self.post.claim(sent_boot_ms);
        match self.session.beat(&own, &claim, with_outbox).await {
            Ok(roll) => self.take_in(roll, with_outbox),
            Err(e) => {
                // Told by the loops whose work stops with it.
                tracing::debug!(error = %e, class = e.class(), "the own row was not moved");
                self.seen.lost_since_boot_ms.get_or_insert(sent_boot_ms);
                self.pulse.tried("the database is not reached");
            }
        }
        self.publish.send_replace(self.seen.clone());
    }

    fn take_in(&mut self, roll: Roll, with_outbox: bool) {
        let boot_ms = clock::boot_ms();
        self.count += 1;
        let row = roll.rows.iter().find(|row| row.id == self.id);
        let whose = self.post.see(&self.incarnation, row, boot_ms);
        if whose == Whose::Mine {
            self.seen.seq = row.map_or(0, |row| row.seq);
        }
        if with_outbox {
            self.seen.outbox = roll.outbox_oldest_ms.map(|age| (age, boot_ms));
        }
        self.seen.lost_since_boot_ms = self.mark.borrow().db_lost_since_boot_ms;
        self.seen.roll = Some((Arc::new(roll), boot_ms));
        self.note(whose);
        let note = match whose {
            Whose::Mine => "its own row",
            Whose::Unclear => "waits for the row of an earlier process",
            Whose::Anothers => "another process uses this id",
        };
        self.pulse.beat_with(note);
    }

    fn note(&mut self, whose: Whose) {
        if self.whose == whose {
            return;
        }
        match whose {
            Whose::Mine => {
                if self.whose == Whose::Anothers {
                    tracing::info!(replica = self.id, "no other process uses this replica's id any more");
                }
                self.bar.clear();
            }
            Whose::Unclear => {}
            Whose::Anothers => {
                tracing::error!(
                    replica = self.id,
                    "another process uses this replica's id: this one refuses to lead; give each its own (replica:, \
                     --replica, GOTEL_REPLICA)"
                );
                self.bar.set(format!("another process uses the replica id {}", self.id));
            }
        }
        self.whose = whose;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(incarnation: &str, seq: i64) -> ReplicaRow {
        ReplicaRow {
            id: "eu-1".into(),
            incarnation: incarnation.into(),
            seq,
            beat_age_ms: 0,
            started_age_ms: 0,
            watch_age_ms: None,
            rival_age_ms: None,
            version: String::new(),
            alerters: Vec::new(),
            view: String::new(),
        }
    }

    #[test]
    fn the_row_of_a_dead_predecessor_is_taken_after_five_seconds_of_stillness() {
        let mut post = Post::default();
        assert_eq!(post.claim(0), Claim::OlderThan(ANCIENT_MS));
        for second in 0..5 {
            assert_eq!(post.see("new", Some(&row("old", 7)), second * 1000), Whose::Unclear);
            assert_eq!(post.claim(second * 1000), Claim::No);
        }
        post.see("new", Some(&row("old", 7)), 5000);
        assert_eq!(post.claim(5000), Claim::From { incarnation: "old".into(), seq: 7 });
        assert_eq!(post.see("new", Some(&row("new", 8)), 5010), Whose::Mine);
        assert_eq!(post.claim(6000), Claim::No);
    }

    #[test]
    fn a_row_that_moves_under_another_process_makes_this_one_the_second() {
        let mut post = Post::default();
        post.see("b", Some(&row("a", 7)), 0);
        for second in 1..20 {
            assert_eq!(post.see("b", Some(&row("a", 7 + second)), second * 1000), Whose::Anothers);
            assert_eq!(post.claim(second * 1000), Claim::Rival);
        }
        // The other has ended without a word.
        for second in 20..25 {
            assert_eq!(post.see("b", Some(&row("a", 26)), second * 1000), Whose::Anothers);
        }
        assert_eq!(post.claim(24_000), Claim::From { incarnation: "a".into(), seq: 26 });
    }

    #[test]
    fn stillness_across_a_gap_of_ones_own_does_not_count() {
        let mut post = Post::default();
        post.see("b", Some(&row("a", 7)), 0);
        assert_eq!(post.claim(60_000), Claim::No);
        post.see("b", Some(&row("a", 7)), 60_000);
        assert_eq!(post.claim(61_000), Claim::No);
    }

    #[test]
    fn a_slow_beat_is_no_lost_database() {
        let roll =
            Roll { rows: vec![], install_id: String::new(), now_ms: 0, lease: None, outbox_oldest_ms: None };
        let seen =
            Seen { roll: Some((Arc::new(roll), 0)), lost_since_boot_ms: Some(1_000), ..Seen::default() };
        assert!(seen.db_ok(4_999));
        assert!(!seen.db_ok(5_000));
        assert!(!Seen::default().db_ok(0), "nothing was ever read");
    }
}
