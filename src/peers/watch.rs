//! Looks at all others each second: gathers the evidence, judges it, shows it, and says what is to be told.
//!
//! Promises: every replica that is configured or has a row is looked at in each cycle; nothing here waits for
//! the database or the network (`beat` and `caller` do); one that left in order is missed by nobody until it
//! comes back.
//!
//! Races: a cycle may see a row and a heartbeat of different moments, and a restart in between: a verdict is
//! believed only after it stood for a while (`verdict::Confirm`).

use super::beat::{Seen, Watched};
use super::config::PeersConfig;
use super::ear::{Ear, Heard};
use super::sight::{PeerSight, Sight};
use super::speaker::Speaker;
use super::tell::{Open, Wanted};
use super::verdict::{Confirm, Evidence, Finding, RowSeen, Verdict, verdict};
use super::words::{self, Case};
use crate::board::{Board, ReplicaCard, Shown};
use crate::clock;
use crate::lifecycle::Pulse;
use crate::metrics::Metrics;
use crate::store::{ReplicaRow, Roll, SystemKind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between two cycles.
const PERIOD: Duration = Duration::from_secs(1);

/// A row that did not move for longer stands still: it moves each second.
const ROW_FRESH_MS: i64 = 5_000;

/// What was heard longer ago is not fresh: it is heard each two seconds, from both sides.
const SAID_FRESH_MS: i64 = 8_000;

/// A longer gap between two reads of the rows proves nothing about what was in between.
const GAP_MS: i64 = 6_000;

/// What is on its way while a replica leaves does not bring it back.
const FAREWELL_MS: i64 = 5_000;

/// A call to each peer must have ended within this for a cycle to be complete.
const CALLED_MS: i64 = 10_000;

/// A second process of an id says so in the row each second.
const RIVAL_FRESH_MS: i64 = 10_000;

/// How long a replica that is not configured is remembered after it left.
const REMEMBER_MS: i64 = 600_000;

/// The kinds that are told of a peer.
const KINDS: [SystemKind; 4] =
    [SystemKind::PeerDead, SystemKind::PeerNoDb, SystemKind::PeerStuck, SystemKind::SplitDb];

/// What is remembered of one replica.
#[derive(Debug)]
struct Track {
    /// Its row as last read: (incarnation, seq).
    row: Option<(String, i64)>,
    /// Since when that stands, over consecutive reads; a missing row stands, too.
    still_since_boot_ms: i64,
    /// When it was last seen to move.
    moved_boot_ms: Option<i64>,
    had_row: bool,
    confirm: Confirm,
    rival: Confirm,
    /// What the log said last.
    logged: Option<Verdict>,
}

impl Track {
    fn new(config: &PeersConfig, boot_ms: i64) -> Self {
        Self {
            row: None,
            still_since_boot_ms: boot_ms,
            moved_boot_ms: None,
            had_row: false,
            confirm: Confirm::new(config.confirm_ms, config.page_ms),
            rival: Confirm::new(config.confirm_ms, config.page_ms),
            logged: None,
        }
    }

    /// Takes in one read; `gap`: the one before was too long ago.
    fn read(&mut self, row: Option<&ReplicaRow>, gap: bool, boot_ms: i64) {
        let now = row.map(|row| (row.incarnation.clone(), row.seq));
        if self.row != now {
            if self.had_row && now.is_some() {
                self.moved_boot_ms = Some(boot_ms);
            }
            self.still_since_boot_ms = boot_ms;
        } else if gap && now.is_some() {
            self.still_since_boot_ms = boot_ms;
        }
        self.had_row |= now.is_some();
        self.row = now;
    }

    fn moves(&self, boot_ms: i64) -> bool {
        self.row.is_some() && boot_ms - self.still_since_boot_ms <= ROW_FRESH_MS
    }

    /// Whether it left in order: its row was here and is gone, and nobody heard of it since.
    fn left(&self, heard: Option<&Heard>) -> bool {
        let since = heard.and_then(|h| h.said.as_ref()).map(|said| said.heard_boot_ms);
        self.had_row
            && self.row.is_none()
            && since.is_none_or(|heard| heard <= self.still_since_boot_ms + FAREWELL_MS)
    }
}

/// What a [`Watcher`] is made of.
pub struct WatchParts {
    /// This replica's id.
    pub own: String,
    /// The others, and the lengths of time.
    pub config: PeersConfig,
    /// What the beats came to.
    pub seen: watch::Receiver<Seen>,
    /// What was heard.
    pub ear: Ear,
    /// What this replica says of itself.
    pub speaker: Speaker,
    /// Where a complete look is noted.
    pub watched: Watched,
    /// Where it is shown.
    pub board: Board,
    /// Where it is handed on.
    pub sight: watch::Sender<Sight>,
    /// What is to be told.
    pub wanted: watch::Sender<Vec<Wanted>>,
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// Its age.
    pub pulse: Arc<Pulse>,
}

/// The loop.
pub struct Watcher {
    parts: WatchParts,
    tracks: BTreeMap<String, Track>,
    /// When the rows were last read.
    read_boot_ms: Option<i64>,
}

/// One replica in one cycle.
struct Look {
    card: ReplicaCard,
    finding: Finding,
    wanted: Vec<Wanted>,
}

impl Watcher {
    /// Nothing seen yet.
    pub fn new(parts: WatchParts) -> Self {
        Self { parts, tracks: BTreeMap::new(), read_boot_ms: None }
    }

    /// Looks until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            self.step(clock::boot_ms());
            tokio::select! {
                () = tokio::time::sleep(PERIOD) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// One cycle.
    pub fn step(&mut self, boot_ms: i64) {
        let seen = self.parts.seen.borrow().clone();
        let heard = self.parts.ear.all();
        self.take_in(&seen, boot_ms);
        let db_ok = seen.db_ok(boot_ms);
        let roll = seen.roll.as_ref().map(|(roll, _)| Arc::clone(roll));
        let ids: Vec<String> = self.tracks.keys().cloned().collect();
        let mut cards = Vec::new();
        let mut wanted = Vec::new();
        let mut view = serde_json::Map::new();
        let mut cut_off = false;
        for id in ids {
            let look = match id == self.parts.own {
                true => None,
                false => self.look(&id, &seen, heard.get(&id), db_ok, boot_ms),
            };
            let doubled = self.rivalry(&id, roll.as_deref(), db_ok, boot_ms, &mut wanted);
            match look {
                None if id == self.parts.own => {
                    let card = self.own_card(&seen, db_ok, boot_ms);
                    cards.push(if doubled { twice(card) } else { card });
                }
                None => {}
                Some(look) => {
                    self.note(&id, &look.finding);
                    if let Some(firm) = look.finding.firm {
                        view.insert(id.clone(), firm.as_str().into());
                    }
                    cut_off |= look.finding.is_firm && look.finding.verdict == Verdict::IAmCutOff;
                    wanted.extend(look.wanted);
                    cards.push(if doubled { twice(look.card) } else { look.card });
                }
            }
        }
        let complete = db_ok && self.all_called(&heard, boot_ms);
        if complete {
            self.parts.watched.done(boot_ms, serde_json::Value::from(view).to_string());
        }
        let direct = (self.parts.speaker.told)().iter().map(words::told).collect();
        self.parts.board.show(Shown { replicas: cards, direct, boot_ms, cut_off });
        self.parts.sight.send_replace(self.sight(&seen, &heard, complete, boot_ms));
        if db_ok {
            self.parts.wanted.send_replace(wanted);
        }
        match complete {
            true => self.parts.pulse.beat_with("complete"),
            false => self.parts.pulse.tried("not everything could be looked at"),
        }
    }

    /// Takes in what the database showed, unless it was taken in already.
    fn take_in(&mut self, seen: &Seen, boot_ms: i64) {
        let config = &self.parts.config;
        let configured: BTreeSet<&str> = config.others.iter().map(|peer| peer.id.as_str()).collect();
        for id in configured.iter().copied().chain([self.parts.own.as_str()]) {
            if !self.tracks.contains_key(id) {
                self.tracks.insert(id.to_owned(), Track::new(config, boot_ms));
            }
        }
        let Some((roll, at)) = &seen.roll else { return };
        if self.read_boot_ms == Some(*at) {
            return;
        }
        let gap = self.read_boot_ms.is_some_and(|read| at - read > GAP_MS);
        self.read_boot_ms = Some(*at);
        for row in &roll.rows {
            if !self.tracks.contains_key(&row.id) {
                self.tracks.insert(row.id.clone(), Track::new(config, *at));
            }
        }
        for (id, track) in &mut self.tracks {
            track.read(roll.rows.iter().find(|row| row.id == *id), gap, *at);
        }
        self.tracks.retain(|id, track| {
            track.row.is_some()
                || configured.contains(id.as_str())
                || *id == self.parts.own
                || at - track.still_since_boot_ms < REMEMBER_MS
        });
    }

    fn look(
        &mut self,
        id: &str,
        seen: &Seen,
        heard: Option<&Heard>,
        db_ok: bool,
        boot_ms: i64,
    ) -> Option<Look> {
        let called = self.parts.config.others.iter().any(|peer| peer.id == id);
        let track = self.tracks.get_mut(id)?;
        let roll = seen.roll.as_ref().map(|(roll, _)| roll.as_ref());
        let row = roll.and_then(|roll| roll.rows.iter().find(|row| row.id == id));
        let said = heard.and_then(|h| h.said.as_ref());
        let said = said.filter(|said| boot_ms - said.heard_boot_ms <= SAID_FRESH_MS);
        let evidence = Evidence {
            db_ok,
            install_id: roll.map_or("", |roll| roll.install_id.as_str()),
            row: row.map(|row| RowSeen {
                incarnation: &row.incarnation,
                seq: row.seq,
                moves: track.moves(boot_ms),
                // One that never looked is as late as it is old.
                watch_age_ms: Some(row.watch_age_ms.unwrap_or(row.started_age_ms)),
            }),
            said,
            left: track.left(heard),
            called,
        };
        let finding = track.confirm.see(verdict(&evidence), boot_ms);
        let case = Case {
            id,
            own: &self.parts.own,
            evidence: &evidence,
            heard,
            still_since_boot_ms: track.still_since_boot_ms,
            had_row: track.had_row,
            confirm_ms: self.parts.config.confirm_ms,
            boot_ms,
        };
        let wanted = wanted(id, &case, &finding);
        // Right after a start nothing bad is believed yet.
        let (shown, healthy) = match finding.firm {
            _ if finding.is_firm => (finding.verdict.words(), finding.verdict.is_good()),
            Some(firm) => (firm.words(), firm.is_good()),
            None if finding.verdict.is_good() => (finding.verdict.words(), true),
            None => ("not known yet", true),
        };
        let lease = roll.and_then(|roll| roll.lease.as_ref()).filter(|_| db_ok);
        let (role, term) = role(
            id,
            lease.map(|l| (l.holder.as_str(), l.term)),
            said.and_then(|s| s.leads_term),
            evidence.row.is_some_and(|row| row.moves) || said.is_some(),
        );
        let lag = |at: Option<&(Arc<Roll>, i64)>| at.map_or(0, |(_, at)| boot_ms - at);
        let card = ReplicaCard {
            id: id.to_owned(),
            here: false,
            configured: called,
            role,
            term,
            verdict: shown,
            healthy,
            evidence: words::evidence(&case, &finding),
            beat_age_ms: track.row.as_ref().map(|_| boot_ms - track.still_since_boot_ms),
            eval_age_ms: said.and_then(|said| Some(said.eval_age_ms? + boot_ms - said.heard_boot_ms)),
            watch_age_ms: said
                .and_then(|said| Some(said.watch_age_ms? + boot_ms - said.heard_boot_ms))
                .or_else(|| row.and_then(|row| Some(row.watch_age_ms? + lag(seen.roll.as_ref())))),
            version: row.map(|row| row.version.clone()).unwrap_or_default(),
        };
        Some(Look { card, finding, wanted })
    }

    /// Whether two processes use one id, for certain: the second one says so in the row.
    fn rivalry(
        &mut self,
        id: &str,
        roll: Option<&Roll>,
        db_ok: bool,
        boot_ms: i64,
        wanted: &mut Vec<Wanted>,
    ) -> bool {
        let Some(track) = self.tracks.get_mut(id).filter(|_| db_ok) else { return false };
        let row = roll.and_then(|roll| roll.rows.iter().find(|row| row.id == id));
        let rival = row.and_then(|row| row.rival_age_ms).is_some_and(|age| age <= RIVAL_FRESH_MS);
        // Any that is told will do for the count.
        let looks = if rival { Verdict::Stuck } else { Verdict::Healthy };
        let finding = track.rival.see(looks, boot_ms);
        let open = finding
            .page
            .then(|| Open { text: words::duplicate(id), age_ms: boot_ms - finding.since_boot_ms });
        if open.is_some() || (finding.is_firm && !rival) {
            wanted.push(Wanted { kind: SystemKind::DuplicateId, subject: id.to_owned(), open });
        }
        finding.is_firm && rival
    }

    fn own_card(&self, seen: &Seen, db_ok: bool, boot_ms: i64) -> ReplicaCard {
        let said = self.parts.speaker.said(boot_ms);
        let lease = seen.roll.as_ref().and_then(|(roll, _)| roll.lease.as_ref()).filter(|_| db_ok);
        let (role, term) =
            role(&self.parts.own, lease.map(|l| (l.holder.as_str(), l.term)), said.leads_term, true);
        let lost = seen.lost_since_boot_ms.map(|since| crate::reservation::duration::human(boot_ms - since));
        let evidence = match lost {
            _ if db_ok => "The database takes its writes.".to_owned(),
            Some(lost) => format!("The database has not answered it for {lost}."),
            None => "The database has not answered it yet.".to_owned(),
        };
        ReplicaCard {
            id: self.parts.own.clone(),
            here: true,
            configured: true,
            role,
            term,
            verdict: if db_ok { "healthy" } else { "without a database" },
            healthy: db_ok,
            evidence,
            beat_age_ms: seen.roll.as_ref().map(|(_, at)| boot_ms - at),
            eval_age_ms: said.eval_age_ms,
            watch_age_ms: said.watch_age_ms,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// Figures, and one line in the log for each change of what is believed.
    fn note(&mut self, id: &str, finding: &Finding) {
        let Some(firm) = finding.firm else { return };
        for verdict in Verdict::ALL {
            self.parts.metrics.peer_state(id, verdict.as_str(), verdict == firm);
        }
        let Some(track) = self.tracks.get_mut(id) else { return };
        if track.logged.replace(firm) == Some(firm) {
            return;
        }
        match firm.is_good() && firm != Verdict::UnreachableFromHere {
            true => tracing::info!(peer = id, verdict = firm.as_str(), "the replica {id}: {}", firm.words()),
            false => tracing::warn!(peer = id, verdict = firm.as_str(), "the replica {id}: {}", firm.words()),
        }
    }

    fn all_called(&self, heard: &BTreeMap<String, Heard>, boot_ms: i64) -> bool {
        self.parts.config.others.iter().all(|peer| {
            let called = heard.get(&peer.id).and_then(|heard| heard.called_boot_ms);
            called.is_some_and(|at| boot_ms - at <= CALLED_MS)
        })
    }

    fn sight(&self, seen: &Seen, heard: &BTreeMap<String, Heard>, complete: bool, boot_ms: i64) -> Sight {
        let peers = self.parts.config.others.iter().map(|peer| PeerSight {
            replica: peer.id.clone(),
            rank: peer.rank,
            row_moved_boot_ms: self.tracks.get(&peer.id).and_then(|track| track.moved_boot_ms),
            said: heard.get(&peer.id).and_then(|heard| heard.said.clone()),
        });
        Sight {
            replica: self.parts.own.clone(),
            rank: self.parts.config.rank,
            db_ok_boot_ms: seen.roll.as_ref().map(|(_, at)| *at),
            db_lost_since_boot_ms: seen.lost_since_boot_ms,
            peers: peers.collect(),
            db_now_ms: seen.roll.as_ref().map(|(roll, _)| roll.now_ms),
            complete,
            boot_ms,
        }
    }
}

/// A replica whose id a second process uses, however well it is.
fn twice(card: ReplicaCard) -> ReplicaCard {
    let evidence = format!("A second process uses its id, and refuses to lead. {}", card.evidence);
    ReplicaCard { verdict: "id used twice", healthy: false, evidence, ..card }
}

/// What of one peer is to be open, and what is over.
fn wanted(id: &str, case: &Case<'_>, finding: &Finding) -> Vec<Wanted> {
    let one = |kind, open| Wanted { kind, subject: id.to_owned(), open };
    if finding.page
        && let Some(kind) = finding.verdict.kind()
    {
        let age_ms = case.boot_ms - finding.since_boot_ms;
        return vec![one(kind, Some(Open { text: words::report(case, finding), age_ms }))];
    }
    if finding.is_firm && finding.verdict.is_good() {
        return KINDS.into_iter().map(|kind| one(kind, None)).collect();
    }
    Vec::new()
}

/// The role by the lease, or by the replica's own word where no database can be asked.
fn role(
    id: &str,
    lease: Option<(&str, i64)>,
    leads_term: Option<i64>,
    known: bool,
) -> (&'static str, Option<i64>) {
    match (lease, leads_term) {
        (Some((holder, term)), _) if holder == id => ("coordinator", Some(term)),
        (None, Some(term)) => ("coordinator", Some(term)),
        _ if known => ("worker", None),
        _ => ("", None),
    }
}

#[cfg(test)]
mod tests;
