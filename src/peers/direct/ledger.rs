//! What is to be told, to whom, and when next: pure, every time an argument.

use super::{ABSENT_MS, BACK_MS, FRESH_MS, Finding, UNWRITTEN_MS, due, words};
use crate::peers::sight::Sight;
use crate::reservation::backoff::next_try_ms;
use crate::reservation::routing::Target;
use crate::reservation::{Event, Notice, Reason};
use crate::store::SystemKind;
use std::collections::{BTreeMap, HashMap};

/// Between two tries of what nobody has accepted, however old.
const LAST_RESORT_MS: i64 = 300_000;

/// A moment by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    /// By the boot clock: how long something took.
    pub boot_ms: i64,
    /// By the machine's clock: what people and the file are told.
    pub wall_ms: i64,
}

/// A trouble told, or to be told, without the database. Times are the machine's.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Trouble {
    /// Folds what isolated replicas tell.
    pub dedup_key: String,
    /// The word of its kind.
    pub kind: String,
    /// Of whom; "" for the database.
    pub subject: String,
    /// Names it among all troubles there ever are.
    pub incident: String,
    /// How often it came again before its end was told to all.
    pub round: i64,
    /// What is told.
    pub text: String,
    /// When it began.
    pub since_ms: i64,
    /// When it was to be told.
    pub opened_ms: i64,
    /// When the first recipient accepted it.
    pub told_ms: Option<i64>,
    /// Who accepted it.
    pub accepted: Vec<Target>,
    /// When it ended.
    pub over_ms: Option<i64>,
    /// Who accepted that.
    pub resolved: Vec<Target>,
}

impl Trouble {
    fn is(&self, kind: SystemKind, subject: &str) -> bool {
        self.kind == kind.as_str() && self.subject == subject
    }

    /// Whether it is about the database being away from this replica.
    pub fn is_about_database(&self) -> bool {
        [SystemKind::DbGone, SystemKind::PeerNoDb].iter().any(|kind| kind.as_str() == self.kind)
    }

    /// Counts the events of the incident: triggers are even, their ends odd.
    fn event_no(&self) -> i64 {
        self.round * 2 + i64::from(self.over_ms.is_some())
    }

    fn notice(&self, srv: &str) -> Notice {
        let component = match self.subject.as_str() {
            "" => self.kind.clone(),
            subject => format!("{}/{subject}", self.kind).chars().take(150).collect(),
        };
        Notice {
            version: 1,
            event: if self.over_ms.is_some() { Event::Resolve } else { Event::Trigger },
            reason: Reason::System,
            incident: self.incident.clone(),
            dedup_key: self.dedup_key.clone(),
            event_no: self.event_no(),
            app: "gotel".into(),
            component,
            owner: String::new(),
            notify: Vec::new(),
            labels: BTreeMap::new(),
            schedule: String::new(),
            deadline_ms: self.since_ms,
            noticed_ms: self.opened_ms,
            at_ms: self.over_ms.unwrap_or(self.opened_ms),
            last_ok_ms: None,
            checkins: 0,
            exit_code: None,
            rid: None,
            down_ms: self.over_ms.map(|over| (over - self.since_ms).max(0)),
            message: self.text.clone(),
            output: None,
            srv: srv.to_owned(),
            url: None,
            remarks: self.over_ms.map(|_| words::back(self.is_about_database())).into_iter().collect(),
            digest: None,
        }
    }
}

/// One notice for one recipient.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who.
    pub target: Target,
    /// What.
    pub notice: Notice,
}

/// The tries of one message.
#[derive(Debug, Clone, Copy, Default)]
struct Tries {
    attempts: i64,
    first_boot_ms: i64,
    next_boot_ms: i64,
    in_flight: bool,
    given_up: bool,
}

/// A message: incident, event number, recipient.
type Key = (String, i64, Target);

/// All troubles of this replica, and the tries to tell them.
#[derive(Debug)]
pub struct Ledger {
    srv: String,
    /// What the installation is called while nobody knows its name.
    unnamed: String,
    targets: Vec<Target>,
    troubles: Vec<Trouble>,
    tries: HashMap<Key, Tries>,
    /// Since when the cause of a trouble is away, by its incident.
    quiet_since_boot_ms: HashMap<String, i64>,
}

impl Ledger {
    /// What an earlier process has left, to be told to `targets` in the name of `srv`. `unnamed` stands for the
    /// installation while its name is not known.
    pub fn new(srv: &str, unnamed: &str, targets: Vec<Target>, troubles: Vec<Trouble>) -> Self {
        let (srv, unnamed, tries) = (srv.to_owned(), unnamed.to_owned(), HashMap::new());
        Self { srv, unnamed, targets, troubles, tries, quiet_since_boot_ms: HashMap::new() }
    }

    /// What is told or to be told.
    pub fn troubles(&self) -> &[Trouble] {
        &self.troubles
    }

    /// Forgets all: they were another installation's.
    pub fn clear(&mut self) {
        self.troubles.clear();
    }

    /// Takes in what is seen now. `install` names the installation, "" while it is not known; `id` makes names
    /// that were never used.
    pub fn step(
        &mut self,
        sight: &Sight,
        findings: &[Finding],
        install: &str,
        at: At,
        id: impl Fn() -> String,
    ) {
        if at.boot_ms - sight.boot_ms <= FRESH_MS {
            let install = &installation(install, sight).unwrap_or(&self.unnamed).to_owned();
            let wall = |boot_ms: i64| at.wall_ms - (at.boot_ms - boot_ms);
            if let Some((kind, subject)) = due(sight, at.boot_ms) {
                let since_ms = wall(sight.db_lost_since_boot_ms.unwrap_or(at.boot_ms));
                let text = words::trouble(kind, &sight.replica, since_ms);
                self.open(kind, &subject, text, since_ms, install, at, &id);
            }
            for f in findings.iter().filter(|f| at.boot_ms - f.since_boot_ms >= UNWRITTEN_MS) {
                self.open(f.kind, &f.subject, f.text.clone(), wall(f.since_boot_ms), install, at, &id);
            }
            self.close(sight, findings, at);
        }
        self.forget();
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one trouble, named at both calls")]
    fn open(
        &mut self,
        kind: SystemKind,
        subject: &str,
        text: String,
        since_ms: i64,
        install: &str,
        at: At,
        id: &impl Fn() -> String,
    ) {
        let Some(trouble) = self.troubles.iter_mut().find(|t| t.is(kind, subject)) else {
            let slash = if subject.is_empty() { "" } else { "/" };
            self.troubles.push(Trouble {
                dedup_key: format!("gotel/{install}/{}{slash}{subject}", kind.as_str()),
                kind: kind.as_str().to_owned(),
                subject: subject.to_owned(),
                incident: id(),
                round: 0,
                text,
                since_ms,
                opened_ms: at.wall_ms,
                told_ms: None,
                accepted: Vec::new(),
                over_ms: None,
                resolved: Vec::new(),
            });
            return;
        };
        if trouble.over_ms.take().is_none() {
            return;
        }
        // It came again before all have heard of its end: those who have are told anew.
        let resolved = std::mem::take(&mut trouble.resolved);
        trouble.accepted.retain(|target| !resolved.contains(target));
        trouble.round += 1;
        (trouble.text, trouble.since_ms, trouble.opened_ms) = (text, since_ms, at.wall_ms);
        trouble.told_ms = trouble.told_ms.filter(|_| !trouble.accepted.is_empty());
    }

    /// Marks what is over.
    fn close(&mut self, sight: &Sight, findings: &[Finding], at: At) {
        let takes_writes = sight.db_lost_since_boot_ms.is_none() && sight.db_ok_boot_ms.is_some();
        for trouble in self.troubles.iter_mut().filter(|t| t.over_ms.is_none()) {
            let found = findings.iter().any(|f| trouble.is(f.kind, &f.subject));
            if !takes_writes || found {
                self.quiet_since_boot_ms.remove(&trouble.incident);
                continue;
            }
            let since = *self.quiet_since_boot_ms.entry(trouble.incident.clone()).or_insert(at.boot_ms);
            let enough_ms = if trouble.is_about_database() { BACK_MS } else { ABSENT_MS };
            if at.boot_ms - since >= enough_ms {
                trouble.over_ms = Some((at.wall_ms - (at.boot_ms - since)).max(trouble.since_ms));
                self.quiet_since_boot_ms.remove(&trouble.incident);
            }
        }
    }

    /// Drops what is over and told as such to everybody who heard of it and can still be reached.
    fn forget(&mut self) {
        let Self { troubles, tries, targets, .. } = self;
        troubles.retain(|t| {
            if t.over_ms.is_none() {
                return true;
            }
            let tried = |target: &Target| tries.get(&(t.incident.clone(), t.event_no(), target.clone()));
            let waits = |target: &Target| {
                targets.contains(target)
                    && !t.resolved.contains(target)
                    && !tried(target).is_some_and(|tries| tries.given_up)
            };
            let in_flight =
                tries.iter().any(|((incident, ..), one)| *incident == t.incident && one.in_flight);
            in_flight || t.accepted.iter().any(waits)
        });
        tries.retain(|(incident, ..), one| one.in_flight || troubles.iter().any(|t| t.incident == *incident));
    }

    /// What is to be sent now. Each is on its way until [`Ledger::ended`] says how it went.
    pub fn sends(&mut self, boot_ms: i64) -> Vec<Message> {
        let Self { srv, targets, troubles, tries, quiet_since_boot_ms, .. } = self;
        let mut messages = Vec::new();
        for trouble in troubles.iter() {
            for target in targets.iter() {
                let wanted = match trouble.over_ms {
                    // What may be over already is news to nobody.
                    None => {
                        !trouble.accepted.contains(target)
                            && !quiet_since_boot_ms.contains_key(&trouble.incident)
                    }
                    Some(_) => trouble.accepted.contains(target) && !trouble.resolved.contains(target),
                };
                // What was sent last to this recipient must have arrived, or not, before the next.
                let busy = |((incident, _, to), one): (&Key, &Tries)| {
                    *incident == trouble.incident && to == target && one.in_flight
                };
                if !wanted || tries.iter().any(busy) {
                    continue;
                }
                let key = (trouble.incident.clone(), trouble.event_no(), target.clone());
                let one = tries.entry(key).or_insert(Tries { first_boot_ms: boot_ms, ..Tries::default() });
                if !one.given_up && one.next_boot_ms <= boot_ms {
                    one.in_flight = true;
                    one.attempts += 1;
                    messages.push(Message { target: target.clone(), notice: trouble.notice(srv) });
                }
            }
        }
        messages
    }

    /// How a send went. `jitter` in [0, 1).
    pub fn ended(&mut self, message: &Message, accepted: bool, at: At, jitter: f64) {
        let (notice, target) = (&message.notice, &message.target);
        let trouble = self.troubles.iter_mut().find(|t| t.incident == notice.incident);
        let key = (notice.incident.clone(), notice.event_no, target.clone());
        let tries = self.tries.entry(key).or_default();
        tries.in_flight = false;
        let Some(trouble) = trouble else { return };
        if !accepted {
            let age_ms = at.boot_ms - tries.first_boot_ms;
            let wait_ms = next_try_ms(tries.attempts, age_ms, None, jitter);
            tries.given_up = wait_ms.is_none() && !trouble.accepted.is_empty();
            tries.next_boot_ms = at.boot_ms + wait_ms.unwrap_or(LAST_RESORT_MS);
            return;
        }
        let now_over = trouble.event_no() == notice.event_no;
        match notice.event {
            Event::Resolve if now_over => trouble.resolved.push(target.clone()),
            // It came again while its end was on the way.
            Event::Resolve => trouble.accepted.retain(|t| t != target),
            _ => {
                trouble.told_ms.get_or_insert(at.wall_ms);
                if !trouble.accepted.contains(target) {
                    trouble.accepted.push(target.clone());
                }
            }
        }
    }
}

/// What the installation is called in keys: by the database, or by a peer that knows it.
fn installation<'a>(install: &'a str, sight: &'a Sight) -> Option<&'a str> {
    let peers = sight.peers.iter().filter_map(|peer| peer.said.as_ref());
    let mut names = std::iter::once(install).chain(peers.map(|said| said.install_id.as_str()));
    names.find(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
