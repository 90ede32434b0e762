use super::*;
use crate::lifecycle::Loops;
use crate::peers::config::Peer;
use crate::peers::sight::Said;
use crate::secret::Secret;
use crate::store::Store;
use std::collections::BTreeMap;

const S: i64 = 1_000;

/// A watcher `eu-1`, its peer `us-1`, and a clock of their own.
struct World {
    watcher: Watcher,
    seen: watch::Sender<Seen>,
    ear: Ear,
    board: Board,
    wanted: watch::Receiver<Vec<Wanted>>,
    sight: watch::Receiver<Sight>,
    boot_ms: i64,
    /// The rows: beat, and age of a second process.
    rows: BTreeMap<&'static str, (i64, Option<i64>)>,
    /// Whether `us-1` speaks, and has a database.
    speaks: Option<bool>,
    db_ok: bool,
    /// Kinds that were ever to be open, with the second.
    opened: Vec<(&'static str, i64)>,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("unused.db").display());
        let metrics = Arc::new(Metrics::new());
        let store = Store::open(&url, Arc::clone(&metrics)).unwrap();
        let (seen, seen_here) = watch::channel(Seen::default());
        let (sight_sender, sight) = watch::channel(Sight::nothing("eu-1".into(), 0));
        let (wanted_sender, wanted) = watch::channel(Vec::new());
        let (ear, board, watched) = (Ear::default(), Board::default(), Watched::default());
        let us = Peer { id: "us-1".into(), rank: 1, url: "http://us".parse().unwrap() };
        let config = PeersConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            secret: Secret::written("0123456789abcdef".into()),
            others: vec![us],
            rank: 0,
            confirm_ms: 30 * S,
            page_ms: 60 * S,
        };
        let speaker = Speaker {
            incarnation: "eu".into(),
            store,
            seen: seen_here.clone(),
            watched: watched.clone(),
            leads: watch::channel(None).1,
            told: Arc::new(Vec::new),
        };
        let watcher = Watcher::new(WatchParts {
            own: "eu-1".into(),
            config,
            seen: seen_here,
            ear: ear.clone(),
            speaker,
            watched,
            board: board.clone(),
            sight: sight_sender,
            wanted: wanted_sender,
            metrics,
            pulse: Loops::default().register("watch", Duration::from_secs(30)),
        });
        Self {
            watcher,
            seen,
            ear,
            board,
            wanted,
            sight,
            boot_ms: 0,
            rows: BTreeMap::from([("eu-1", (1, None)), ("us-1", (1, None))]),
            speaks: Some(true),
            db_ok: true,
            opened: Vec::new(),
            _folder: folder,
        }
    }

    /// Lets seconds pass in which the rows of `moving` move.
    fn pass(&mut self, seconds: i64, moving: &[&str]) {
        for _ in 0..seconds {
            self.boot_ms += S;
            for (id, row) in &mut self.rows {
                if moving.contains(id) {
                    row.0 += 1;
                }
            }
            self.seen.send_modify(|seen| match self.db_ok {
                true => {
                    seen.lost_since_boot_ms = None;
                    seen.roll = Some((Arc::new(roll(&self.rows)), self.boot_ms));
                }
                false => {
                    seen.lost_since_boot_ms.get_or_insert(self.boot_ms);
                }
            });
            if let Some(db_ok) = self.speaks {
                let seq = self.rows.get("us-1").map_or(0, |row| row.0);
                self.ear.hear("us-1", said(self.boot_ms, db_ok, seq));
            }
            let failure = self.speaks.is_none().then(|| "cannot connect".to_owned());
            self.ear.called("us-1", self.boot_ms, failure);
            self.watcher.step(self.boot_ms);
            for wanted in self.wanted.borrow().iter().filter(|w| w.open.is_some()) {
                self.opened.push((wanted.kind.as_str(), self.boot_ms / S));
            }
        }
    }

    fn card(&self, id: &str) -> ReplicaCard {
        self.board.read().replicas.into_iter().find(|card| card.id == id).expect("it is shown")
    }

    /// What is to be open now.
    fn open(&self) -> Vec<String> {
        let wanted = self.wanted.borrow();
        let open = wanted.iter().filter(|w| w.open.is_some());
        open.map(|w| format!("{}/{}", w.kind.as_str(), w.subject)).collect()
    }

    /// What is over now.
    fn over(&self) -> usize {
        self.wanted.borrow().iter().filter(|w| w.open.is_none()).count()
    }
}

fn roll(rows: &BTreeMap<&'static str, (i64, Option<i64>)>) -> Roll {
    let rows = rows.iter().map(|(id, (seq, rival_age_ms))| ReplicaRow {
        id: (*id).to_owned(),
        incarnation: (*id).to_owned(),
        seq: *seq,
        beat_age_ms: 0,
        started_age_ms: S,
        watch_age_ms: Some(S),
        rival_age_ms: *rival_age_ms,
        version: "1".into(),
        alerters: Vec::new(),
        view: String::new(),
    });
    Roll { rows: rows.collect(), install_id: "house".into(), now_ms: 0, lease: None, outbox_oldest_ms: None }
}

fn said(boot_ms: i64, db_ok: bool, seq: i64) -> Said {
    Said {
        heard_boot_ms: boot_ms,
        incarnation: "us-1".into(),
        db_ok,
        db_lost_age_ms: (!db_ok).then_some(S),
        seq,
        install_id: "house".into(),
        leads_term: None,
        eval_age_ms: None,
        watch_age_ms: Some(S),
        outbox_oldest_ms: None,
        told: Vec::new(),
    }
}

const BOTH: &[&str] = &["eu-1", "us-1"];
const HERE: &[&str] = &["eu-1"];

#[test]
fn a_healthy_pair_is_shown_as_such_and_what_was_told_before_is_over() {
    let mut world = World::new();
    world.pass(29, BOTH);
    assert_eq!(world.over(), 0, "not believed yet");
    world.pass(3, BOTH);
    assert_eq!(world.card("us-1").verdict, "healthy");
    assert_eq!(world.over(), KINDS.len() + 2, "whatever an earlier process told");
    assert!(world.opened.is_empty());
    let sight = world.sight.borrow();
    assert!(sight.complete && sight.db_lost_since_boot_ms.is_none());
    assert_eq!(sight.peers[0].row_moved_boot_ms, Some(world.boot_ms));
}

#[test]
fn a_dead_peer_is_told_after_a_minute_and_over_after_half_a_minute_of_health() {
    let mut world = World::new();
    world.pass(40, BOTH);
    world.speaks = None;
    world.pass(60, HERE);
    assert!(world.open().is_empty());
    assert_eq!(world.card("us-1").verdict, "dead");
    world.pass(15, HERE);
    assert_eq!(world.open(), ["peer-dead/us-1"]);
    world.speaks = Some(true);
    world.pass(30, BOTH);
    assert_eq!(world.over(), 2, "only that no id is used twice is known");
    world.pass(5, BOTH);
    assert_eq!(world.over(), KINDS.len() + 2);
    assert_eq!(world.card("us-1").verdict, "healthy");
}

#[test]
fn who_left_in_order_is_missed_by_nobody_until_it_comes_back() {
    let mut world = World::new();
    world.pass(40, BOTH);
    world.rows.remove("us-1");
    world.pass(2, HERE);
    world.speaks = None;
    world.pass(600, HERE);
    assert!(world.opened.is_empty(), "{:?}", world.opened);
    assert_eq!(world.card("us-1").verdict, "left in order");
    assert!(world.card("us-1").evidence.starts_with("It left in order"), "{}", world.card("us-1").evidence);
    world.rows.insert("us-1", (1, None));
    world.pass(10, BOTH);
    world.pass(90, HERE);
    assert_eq!(world.open(), ["peer-dead/us-1"], "back, and then dead");
}

#[test]
fn who_was_never_seen_is_missed_after_a_minute() {
    let mut world = World::new();
    world.rows.remove("us-1");
    world.speaks = None;
    world.pass(60, HERE);
    assert!(world.opened.is_empty());
    world.pass(2, HERE);
    assert_eq!(world.open(), ["peer-dead/us-1"]);
    assert!(world.card("us-1").evidence.contains("no row in the database since this replica began"));
}

#[test]
fn a_stranger_with_a_row_is_watched_by_it_and_forgotten_with_it() {
    let mut world = World::new();
    world.rows.insert("ap-1", (1, None));
    world.pass(40, &["ap-1", "eu-1", "us-1"]);
    assert_eq!((world.card("ap-1").verdict, world.card("ap-1").configured), ("healthy", false));
    world.pass(90, BOTH);
    assert_eq!(world.open(), ["peer-dead/ap-1"]);
    world.rows.remove("ap-1");
    world.pass(40, BOTH);
    assert!(world.open().is_empty(), "forgotten by a person");
    world.pass(700, BOTH);
    assert!(world.board.read().replicas.iter().all(|card| card.id != "ap-1"));
}

#[test]
fn a_replica_that_the_database_leaves_alone_says_that_it_is_cut_off() {
    let mut world = World::new();
    world.pass(40, BOTH);
    world.db_ok = false;
    world.pass(20, &[]);
    assert!(!world.board.is_cut_off(), "not believed yet");
    world.pass(20, &[]);
    assert!(world.board.is_cut_off());
    assert_eq!(world.card("eu-1").verdict, "without a database");
    assert!(!world.sight.borrow().complete);
    assert!(world.opened.is_empty(), "there is no database to tell it by");
    world.db_ok = true;
    world.pass(2, BOTH);
    assert!(!world.board.is_cut_off());
}

#[test]
fn without_a_database_for_anybody_nobody_is_cut_off() {
    let mut world = World::new();
    world.pass(40, BOTH);
    world.db_ok = false;
    world.speaks = Some(false);
    world.pass(90, &[]);
    assert!(!world.board.is_cut_off());
    assert_eq!(world.card("us-1").verdict, "no database either");
}

#[test]
fn two_processes_of_one_id_are_told_after_a_minute_by_whoever_sees_it() {
    let mut world = World::new();
    world.pass(10, BOTH);
    world.rows.insert("us-1", (11, Some(S)));
    world.pass(60, BOTH);
    assert!(world.opened.is_empty(), "a rolling restart may look so for a while");
    world.pass(2, BOTH);
    assert_eq!(world.open(), ["duplicate-id/us-1"]);
    world.rows.insert("us-1", (80, Some(11 * S)));
    world.pass(32, BOTH);
    assert!(world.open().is_empty());
}

#[test]
fn one_slow_beat_in_between_does_not_save_the_dead() {
    let mut world = World::new();
    world.pass(40, BOTH);
    world.speaks = None;
    for _ in 0..8 {
        world.pass(8, HERE);
        world.db_ok = false;
        world.pass(2, &[]);
        world.db_ok = true;
    }
    assert_eq!(world.opened.first().map(|(kind, _)| *kind), Some("peer-dead"));
}
